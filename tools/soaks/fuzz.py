"""Every parser of outside bytes against libFuzzer, and what was reached of it
(tests/fuzz/README.md).  Needs clang; the programs are built in build/fuzz."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.soaks import report

BUILD = report.ROOT / "build/fuzz"
FUZZ = BUILD / "tests/fuzz/fuzz"
REPLAY = BUILD / "tests/fuzz/fuzz_replay"
SOURCES = report.ROOT / "tests/fuzz"
# One input may take so long, and the program grow so large.
LIMITS = ["-timeout=20", "-rss_limit_mb=2500"]
# Bytes of an input; of what has many small parts more say nothing new.
LENGTH_MAX = 16384
LENGTHS = dict.fromkeys(["boot_trace", "control_reply", "control_request",
                         "efi_boot", "ext", "kept_backfill", "map_open",
                         "plan_json", "server_config"], 1024)
CRASHES_MAX = 5
# Targets that share a dictionary.
JSON = dict.fromkeys(["boot_trace", "control_reply", "control_request",
                      "kept_backfill", "plan_json", "server_config"], "json")


def parsers():
    """Target -> the sources that it is to reach."""
    found = {}
    for line in (SOURCES / "parsers.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, files = line.split(":")
            found[name] = files.split()
    return found


def build():
    subprocess.run(["cmake", "--preset", "fuzz"], cwd=report.ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", "--preset", "fuzz", "--target", "fuzz",
                    "fuzz_replay"], cwd=report.ROOT, check=True)


def _children_seconds():
    times = os.times()
    return times.children_user + times.children_system


class Campaign:
    """Searches for one target, which add up: its folder keeps the grown corpus,
    the crashes and the sums."""

    def __init__(self, folder, name):
        self.name = name
        self.corpus = folder / name
        self.crashes = folder / "crashes" / name
        self.sums_file = folder / f"{name}.json"
        self.seeds = SOURCES / "corpus" / name
        self.corpus.mkdir(parents=True, exist_ok=True)
        self.crashes.mkdir(parents=True, exist_ok=True)
        self.inputs, self.seconds, self.crashed = 0, 0.0, 0
        if self.sums_file.exists():
            sums = json.loads(self.sums_file.read_text())
            self.inputs, self.seconds = sums["inputs"], sums["seconds"]

    def search(self, inputs, seconds, seed):
        """Until `inputs` and `seconds` are reached in all; whether it went on
        to there."""
        while self.inputs < inputs and self.seconds < seconds:
            if not self._run(inputs - self.inputs,
                             seconds - self.seconds, seed):
                self.crashed += 1
                if self.crashed >= CRASHES_MAX:
                    return False
        return self.crashed == 0

    def _run(self, inputs, seconds, seed):
        command = [FUZZ, f"--target={self.name}", f"-runs={inputs}",
                   f"-max_total_time={max(1, int(seconds))}", f"-seed={seed}",
                   f"-artifact_prefix={self.crashes}/",
                   f"-max_len={LENGTHS.get(self.name, LENGTH_MAX)}",
                   "-print_final_stats=1", *LIMITS]
        for dictionary in (self.name, JSON.get(self.name, "")):
            file = SOURCES / f"dictionaries/{dictionary}.dict"
            if file.exists():
                command.append(f"-dict={file}")
        start = _children_seconds()
        done = subprocess.run([*command, self.corpus, self.seeds],
                              capture_output=True, text=True, errors="replace",
                              env={**os.environ,
                                   "LLVM_PROFILE_FILE": "/dev/null"})
        # Of a processor: an hour of a starved search is none.
        self.seconds += _children_seconds() - start
        found = re.search(r"stat::number_of_executed_units:\s*(\d+)",
                          done.stderr)
        if found:
            self.inputs += int(found.group(1))
        self.sums_file.write_text(json.dumps(
            {"inputs": self.inputs, "seconds": round(self.seconds, 1)}) + "\n")
        if done.returncode == 0 and not found:
            sys.exit(f"{self.name}: no figures from libFuzzer:\n{done.stderr}")
        if done.returncode:
            print("\n".join(done.stderr.splitlines()[-40:]), file=sys.stderr)
        return done.returncode == 0


def regions(campaign, sources, scratch):
    """What the corpus reaches of `sources`: file -> (reached, there are)."""
    raw, merged = scratch / "raw", scratch / "merged"
    subprocess.run([REPLAY, campaign.name, campaign.corpus, campaign.seeds],
                   check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "LLVM_PROFILE_FILE": str(raw)})
    subprocess.run(["llvm-profdata", "merge", "-sparse", raw, "-o", merged],
                   check=True)
    out = subprocess.run(
        ["llvm-cov", "export", "-summary-only", f"-instr-profile={merged}",
         REPLAY], check=True, capture_output=True, text=True).stdout
    found = {}
    for file in json.loads(out)["data"][0]["files"]:
        name = os.path.normpath(file["filename"])  # relative or not
        for source in sources:
            if name.endswith("/" + source):
                counts = file["summary"]["regions"]
                found[source] = (counts["covered"], counts["count"])
    return found


def main():
    options = report.parser("fuzz", __doc__, 10_000_000)
    options.add_argument("--target", action="append", metavar="NAME",
                         help="this one only; may be repeated")
    options.add_argument("--seconds", type=float, default=3600, metavar="S",
                         help="at most so long a target, of a processor (default "
                         "one hour)")
    options.add_argument("--folder", type=Path,
                         default=BUILD / "soak", metavar="DIR",
                         help="grown corpora, crashes and sums; what is there "
                              "counts (default %(default)s)")
    options.add_argument("--no-coverage", action="store_true",
                         help="do not count regions")
    arguments = options.parse_args()
    known = parsers()
    names = arguments.target or sorted(known)
    for name in names:
        if name not in known:
            options.error(f"no target '{name}'; there are {' '.join(known)}")
    build()
    result = report.Report("fuzz", arguments.seed)
    result.files = {}
    for name in names:
        campaign = Campaign(arguments.folder, name)
        if not campaign.search(arguments.count, arguments.seconds,
                               arguments.seed % (1 << 31) or 1):
            result.failed += campaign.crashed
        result.tried += campaign.inputs
        kept = len(list(campaign.corpus.iterdir()))
        result.distinct += kept
        row = {"inputs": campaign.inputs, "seconds": round(campaign.seconds),
               "corpus": kept, "crashes": campaign.crashed}
        result.phases[name] = row
        if not arguments.no_coverage:
            scratch = arguments.folder / "profile"
            scratch.mkdir(exist_ok=True)
            found = regions(campaign, known[name], scratch)
            shutil.rmtree(scratch)
            reached = sum(counts[0] for counts in found.values())
            there = sum(counts[1] for counts in found.values())
            row["regions"] = f"{reached}/{there}"
            row["share"] = f"{100 * reached / max(there, 1):.1f} %"
            result.files[name] = {file: f"{a}/{b}"
                                  for file, (a, b) in found.items()}
        print(f"{name}: " + "  ".join(f"{k} {v}" for k, v in row.items()),
              flush=True)
    return result.finish(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
