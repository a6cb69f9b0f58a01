"""Breaks the program on purpose, one patch at a time, and looks which test
notices.

Each tests/mutants/NAME.patch begins with lines `What:` (what it breaks),
`Row:` (the promise that it breaks) and `Suites:` (the test programs that should
notice), perhaps `Crash:` (the parts of the crash simulator that notice it, too),
`Survives:` (why nobody can) and `Ends: yes`.  It is applied to a copy of the
tree, the suites that it names are built and run, and if they notice nothing
every test that needs no virtual machine.

A suite notices when it says which test has failed.  One that takes several times
as long as it does without the patch `hangs`, one that ends without naming a test
has `ended`: who sees that learns nothing, so neither counts as caught, unless
the patch says `Ends: yes`.
"""

import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.soaks.report import ROOT, parser

MUTANTS = ROOT / "tests/mutants"
SHARE_CAUGHT = 0.95
PROGRAMS = ["bootagent", "streamd", "streamctl", "imgtool", "imgserver",
            "serve_memory", "read_image"]
# Names in ctest of what is no GoogleTest.
SCRIPTS = re.compile(r"e2e_|crash_quick|house_|layering")

# Scripts that are tried without our programs.
SCRIPTS_ALONE = ["e2e_test-anchor-exists", "e2e_test-boot-script",
                 "e2e_test-agent-script"]

# Seconds for a suite: as the tree is, and with a patch so many times what it
# took then, but never less than the last.
BASELINE_LIMIT = 600
TIMES_BASELINE = 5
LEAST_LIMIT = 30


@dataclass
class Mutant:
    name: str
    patch: Path
    what: str = ""
    row: str = ""
    suites: list = field(default_factory=list)
    crash: list = field(default_factory=list)
    survives: str = ""
    ends: bool = False
    result: str = ""
    test: str = ""
    seconds: float = 0.0


def load(path):
    """A mutant from its file; raises ValueError where the head is not whole."""
    mutant = Mutant(path.stem, path)
    head = path.read_text().split("\n--- ", 1)[0]
    for line in head.splitlines():
        key, _, value = line.partition(":")
        if key == "What":
            mutant.what = value.strip()
        elif key == "Row":
            mutant.row = value.strip()
        elif key == "Suites":
            mutant.suites = value.split()
        elif key == "Crash":
            mutant.crash = value.split()
        elif key == "Survives":
            mutant.survives = value.strip()
        elif key == "Ends":
            mutant.ends = value.strip() == "yes"
    if not (mutant.what and mutant.row and mutant.suites):
        raise ValueError(f"{path.name}: needs What, Row and Suites")
    if not set(mutant.crash) <= {"agent", "driver"}:
        raise ValueError(f"{path.name}: Crash: agent, driver or both")
    return mutant


def for_crash_parts(mutants):
    """One for each part of the crash simulator that should notice."""
    return [replace(mutant, name=f"{mutant.name} ({part})",
                    suites=[f"crash_quick_{part}"])
            for mutant in mutants for part in mutant.crash]


class Tree:
    """A copy of the project with one build directory."""

    def __init__(self, folder, jobs):
        self.path = Path(folder) / "tree"
        self.build = self.path / "build/dev"
        self.jobs = jobs
        self.log = Path(folder) / "log"
        self.hung = False
        self.limits = {}  # of a suite, in seconds

    def prepare(self):
        """Make the copy, or bring one that is there up to date."""
        names = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached",
             "--others", "--exclude-standard"],
            check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            source, target = ROOT / name, self.path / name
            if not source.is_file():
                continue
            if target.exists() and filecmp.cmp(source, target, shallow=False):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(source, target)
        launcher = shutil.which("ccache")
        arguments = ["cmake", "--preset", "dev"]
        if launcher:
            arguments.append(f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}")
        if not self.run(arguments):
            sys.exit("mutants: cmake failed:\n" + self.log.read_text()[-2000:])

    def run(self, command, timeout=900):
        """Whether `command` ended well; what it said is in the log."""
        environment = dict(os.environ, BUILD_DIR=str(self.build),
                           GIT_CEILING_DIRECTORIES=str(self.path.parent),
                           TMPDIR=os.environ.get("TMPDIR", "/dev/shm"))
        self.hung = False
        with self.log.open("w") as log, \
                subprocess.Popen(command, cwd=self.path, stdout=log,
                                 stderr=subprocess.STDOUT, env=environment,
                                 start_new_session=True) as process:
            try:
                return process.wait(timeout) == 0
            except subprocess.TimeoutExpired:
                self.hung = True
                return False
            finally:
                if process.returncode is None:  # with all that it has started
                    os.killpg(process.pid, signal.SIGKILL)

    def patch(self, mutant, *options):
        return self.run(["git", "apply", "-C1", *options, str(mutant.patch)])

    def targets(self):
        """Names of all that can be built."""
        out = subprocess.run(
            ["ninja", "-C", str(self.build), "-t", "targets", "all"],
            check=True, capture_output=True, text=True).stdout
        return {line.split(":", 1)[0] for line in out.splitlines()}

    def make(self, targets):
        return self.run(["ninja", "-C", str(self.build), f"-j{self.jobs}",
                         *targets])


def target_of(suite):
    if suite.startswith("crash_quick"):
        return ["crash_simulator"]
    if suite in SCRIPTS_ALONE:
        return []
    return PROGRAMS if SCRIPTS.match(suite) else [suite]


def failed_tests(log):
    """Names of the tests that a log says have failed."""
    text = log.read_text(errors="replace")
    names = re.findall(r"^\[  FAILED  \] (\w[\w/.]*)", text, re.M)
    names += re.findall(r"^\s*\d+ - (\S+) \(Failed\)", text, re.M)
    return list(dict.fromkeys(names))


def ended_tests(log):
    """Pairs (hangs or ended, name) of what ctest could not wait for, or that
    was ended by a signal."""
    found = re.findall(r"^\s*\d+ - (\S+) \((?!Failed|Not Run)([^)]*)\)",
                       log.read_text(errors="replace"), re.M)
    return [("hangs" if why == "Timeout" else "ended", name)
            for name, why in found]


def outcome(tree, suite):
    """(caught, hangs or ended, what names it), after a run that failed."""
    names = failed_tests(tree.log)
    if names:
        return "caught", f"{suite}: {names[0]}"
    ended = ended_tests(tree.log)
    if ended:
        return ended[0][0], f"{suite}: {ended[0][1]}"
    return "hangs" if tree.hung else "ended", suite


def run_suite(tree, suite):
    """None if all is well, else the outcome."""
    if SCRIPTS.match(suite):
        command = ["ctest", "--test-dir", str(tree.build), "-R", f"^{suite}$",
                   "--no-tests=error", "--output-on-failure"]
    else:
        command = [str(tree.build / "tests" / suite), "--gtest_brief=1",
                   "--gtest_fail_fast"]
    if tree.run(command, tree.limits.get(suite, BASELINE_LIMIT)):
        return None
    return outcome(tree, suite)


def run_all(tree):
    """The same for every test that needs no virtual machine."""
    if not tree.make([]):
        return "does not build", ""
    command = ["ctest", "--test-dir", str(tree.build), "-LE", "vm|long", "-j2",
               "--stop-on-failure", "--timeout", "600"]
    return None if tree.run(command, 3000) else outcome(tree, "all")


def targets_of(mutants):
    targets = []
    for mutant in mutants:
        for suite in mutant.suites:
            targets += target_of(suite)
    return sorted(set(targets))


def measure_baseline(tree, mutants):
    """Nobody catches anything unless the tests pass as the tree is; how long
    that takes says what is too long with a patch."""
    for suite in sorted({s for m in mutants for s in m.suites}):
        start = time.monotonic()
        result = run_suite(tree, suite)
        if result:
            sys.exit(f"mutants: {' '.join(result)} as the tree is:\n" +
                     tree.log.read_text(errors="replace")[-2000:])
        seconds = time.monotonic() - start
        tree.limits[suite] = max(LEAST_LIMIT, TIMES_BASELINE * seconds)


def judged(mutant, result):
    """`result`, where hanging or ending may be all that can be expected."""
    if result and mutant.ends and result[0] in ("hangs", "ended"):
        return "caught", f"{result[1]} ({result[0]})"
    return result


def try_suites(tree, mutant, named_only):
    """The first suite that catches it, else the first that hangs or ends."""
    first = None
    for suite in mutant.suites:
        targets = target_of(suite)
        if targets and not tree.make(targets):
            errors = re.findall(r"error: .*", tree.log.read_text())
            return "does not build", errors[0] if errors else ""
        result = judged(mutant, run_suite(tree, suite))
        if result and result[0] == "caught":
            return result
        first = first or result
    if first or named_only:
        return first
    return judged(mutant, run_all(tree))


def attempt(tree, mutant, named_only):
    start = time.monotonic()
    if not tree.patch(mutant):
        mutant.result = "does not apply"
        mutant.test = tree.log.read_text().strip().splitlines()[-1:]
        return
    try:
        result = try_suites(tree, mutant, named_only)
        mutant.result, mutant.test = result or ("survived", mutant.survives)
    finally:
        tree.patch(mutant, "-R")
        mutant.seconds = round(time.monotonic() - start, 1)


def summary(mutants):
    counts = {}
    for mutant in mutants:
        counts[mutant.result] = counts.get(mutant.result, 0) + 1
    return counts


def finish(mutants, json_file):
    counts = summary(mutants)
    caught = counts.get("caught", 0)
    print("tools/soak mutants: " +
          ", ".join(f"{k} {v}" for k, v in sorted(counts.items())) +
          f" of {len(mutants)}")
    if json_file:
        Path(json_file).write_text(json.dumps({
            "kind": "mutants", "tried": len(mutants),
            "failed": len(mutants) - caught, "distinct": len(mutants),
            "phases": counts, "seed": 0,
            "mutants": [{"name": m.name, "row": m.row, "result": m.result,
                         "test": m.test, "seconds": m.seconds}
                        for m in mutants]}, indent=2) + "\n")
    broken = counts.get("does not apply", 0) + counts.get("does not build", 0)
    if broken or caught < SHARE_CAUGHT * len(mutants):
        print("tools/soak mutants: FAILED", file=sys.stderr)
        return 1
    return 0


def main():
    options = parser("mutants", __doc__.split("\n\n", maxsplit=1)[0], 0)
    options.add_argument("--only", action="append", metavar="NAME",
                         help="this one; may be given again")
    options.add_argument("--skip", type=int, default=0, metavar="N",
                         help="leave the first N out")
    options.add_argument("--named-only", action="store_true",
                         help="run only the suites that a patch names")
    options.add_argument("--crash-suites", action="store_true",
                         help="run only the parts of the crash simulator that "
                         "a patch names")
    options.add_argument("--skip-baseline", action="store_true",
                         help="the suites are known to pass as the tree is; "
                         f"each may take {BASELINE_LIMIT} s")
    options.add_argument("--scratch", metavar="DIR",
                         help="keep the copy and its build here")
    options.add_argument("--jobs", type=int, default=2, metavar="N")
    arguments = options.parse_args()
    mutants = [load(path) for path in sorted(MUTANTS.glob("*.patch"))]
    if arguments.only:
        unknown = set(arguments.only) - {m.name for m in mutants}
        if unknown:
            sys.exit(f"mutants: there is no {', '.join(sorted(unknown))}")
        mutants = [m for m in mutants if m.name in arguments.only]
    if arguments.crash_suites:
        mutants = for_crash_parts(mutants)
    mutants = mutants[arguments.skip:]
    if arguments.count:
        mutants = mutants[:arguments.count]

    temporary = None
    if not arguments.scratch:
        temporary = tempfile.mkdtemp(prefix="bootstream-mutants.",
                                     dir="/dev/shm")
    try:
        folder = Path(arguments.scratch or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tree = Tree(folder, arguments.jobs)
        tree.prepare()
        targets = targets_of(mutants)
        unknown = set(targets) - tree.targets()
        if unknown:
            sys.exit("mutants: nobody builds " + ", ".join(sorted(unknown)))
        if targets and not tree.make(targets):
            sys.exit("mutants: the tree does not build:\n" +
                     tree.log.read_text()[-2000:])
        if not arguments.skip_baseline:
            measure_baseline(tree, mutants)
        for mutant in mutants:
            attempt(tree, mutant,
                    arguments.named_only or arguments.crash_suites)
            print(f"{mutant.name:36} {mutant.result:9} {mutant.seconds:6.1f} s"
                  f"  {mutant.test}", flush=True)
    finally:
        if temporary:
            shutil.rmtree(temporary)
    return finish(mutants, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
