"""Breaks the program on purpose, one patch at a time, and looks which test
notices.

Each tests/mutants/NAME.patch begins with lines `What:` (what it breaks),
`Row:` (the promise that it breaks) and `Suites:` (the test programs that should
notice), perhaps `Survives:` (why nobody can).  It is applied to a copy of the
tree, the suites that it names are built and run, and if they notice nothing
every test that needs no virtual machine.
"""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
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


@dataclass
class Mutant:
    name: str
    patch: Path
    what: str = ""
    row: str = ""
    suites: list = field(default_factory=list)
    survives: str = ""
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
        elif key == "Survives":
            mutant.survives = value.strip()
    if not (mutant.what and mutant.row and mutant.suites):
        raise ValueError(f"{path.name}: needs What, Row and Suites")
    return mutant


class Tree:
    """A copy of the project with one build directory."""

    def __init__(self, folder, jobs):
        self.path = Path(folder) / "tree"
        self.build = self.path / "build/dev"
        self.jobs = jobs
        self.log = Path(folder) / "log"
        self.hung = False

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
        with self.log.open("w") as log:
            try:
                done = subprocess.run(command, cwd=self.path, stdout=log,
                                      stderr=subprocess.STDOUT, timeout=timeout,
                                      env=environment, check=False)
            except subprocess.TimeoutExpired:
                self.hung = True
                return False
        return done.returncode == 0

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
    names += re.findall(r"^\s*\d+ - (\S+) \((?!Not Run)", text, re.M)
    return list(dict.fromkeys(names))


def run_suite(tree, suite):
    """None if all is well, else the first test that failed."""
    if SCRIPTS.match(suite):
        command = ["ctest", "--test-dir", str(tree.build), "-R", f"^{suite}$",
                   "--no-tests=error", "--output-on-failure"]
    else:
        command = [str(tree.build / "tests" / suite), "--gtest_brief=1",
                   "--gtest_fail_fast"]
    if tree.run(command, timeout=120):
        return None
    names = failed_tests(tree.log)
    if names:
        return f"{suite}: {names[0]}"
    return f"{suite} ({'hangs' if tree.hung else 'ended'})"


def run_all(tree):
    if not tree.make([]):
        return "does not build"
    command = ["ctest", "--test-dir", str(tree.build), "-LE", "vm|long", "-j2",
               "--stop-on-failure", "--timeout", "600"]
    if tree.run(command, timeout=3000):
        return None
    names = failed_tests(tree.log)
    return names[0] if names else "ctest"


def targets_of(mutants):
    targets = []
    for mutant in mutants:
        for suite in mutant.suites:
            targets += target_of(suite)
    return sorted(set(targets))


def check_baseline(tree, mutants):
    """Nobody catches anything unless the tests pass as the tree is."""
    for suite in sorted({s for m in mutants for s in m.suites}):
        test = run_suite(tree, suite)
        if test:
            sys.exit(f"mutants: {test} fails as it is:\n" +
                     tree.log.read_text()[-2000:])


def attempt(tree, mutant, named_only):
    start = time.monotonic()
    if not tree.patch(mutant):
        mutant.result = "does not apply"
        mutant.test = tree.log.read_text().strip().splitlines()[-1:]
        return
    try:
        for suite in mutant.suites:
            targets = target_of(suite)
            if targets and not tree.make(targets):
                mutant.result = "does not build"
                errors = re.findall(r"error: .*", tree.log.read_text())
                mutant.test = errors[0] if errors else ""
                return
            test = run_suite(tree, suite)
            if test:
                mutant.result, mutant.test = "caught", test
                return
        test = None if named_only else run_all(tree)
        mutant.result = "caught" if test else "survived"
        mutant.test = test or mutant.survives
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
    options.add_argument("--skip-baseline", action="store_true",
                         help="the suites are known to pass as the tree is")
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
            check_baseline(tree, mutants)
        for mutant in mutants:
            attempt(tree, mutant, arguments.named_only)
            print(f"{mutant.name:36} {mutant.result:9} {mutant.seconds:6.1f} s"
                  f"  {mutant.test}", flush=True)
    finally:
        if temporary:
            shutil.rmtree(temporary)
    return finish(mutants, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
