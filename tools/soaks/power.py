"""tools/soak power: the power of a whole machine is cut."""

import collections
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tools.migration.lab import ROOT, Lab, LabError
from tools.power.cases import CASES
from tools.power.disk import PowerError
from tools.power.site import Site, Wrong
from tools.power.snapshots import Snapshots, make_all
from tools.power.uncut import measure
from tools.vm.console import ConsoleError
from tools.vm.machine import MachineError

from . import report

DESCRIPTION = """
A virtual machine's disk has a volatile cache (tests/support/serve_volatile).
Its power is cut at a write or a flush drawn by the seed, in each phase: the
agent migrates; the target starts; the target works while the rest of the image
comes in; the way back, and back again (return); commit; everything settles; the
driver leaves (detach); the system grows.  What was not flushed is kept, dropped
or torn.  The machine starts again, some of the time into the next cut.  Then:
login, every file that was durable, the file systems, every block that nobody
wrote, and, back, every chunk of the source.  A failure leaves the disk before
recovery and the console in the folder that it names."""

FAILURES = (Wrong, PowerError, LabError, ConsoleError, MachineError, OSError)


def parse():
    parser = report.parser("power", DESCRIPTION, 60)
    parser.add_argument("--phase", action="append", choices=CASES,
                        help="only this one; repeatable")
    parser.add_argument("--only", type=int, metavar="I",
                        help="only case I of the phase, as a failure names it")
    parser.add_argument("--firmware", choices=("uefi", "bios"),
                        default="uefi")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="begin no case after that long")
    parser.add_argument("--lab", metavar="DIR", help="keep what is made "
                        "there, and use what is there already")
    return parser.parse_args()


class Soak:
    def __init__(self, site, options):
        self.site = site
        self.options = options
        self.phases = options.phase or list(CASES)
        self.report = report.Report("power", options.seed)
        for phase in self.phases:
            self.counts(phase)
        self.points = set()
        self.start = time.monotonic()

    def counts(self, phase):
        return self.report.phases.setdefault(phase, collections.Counter(
            cuts=0, in_recovery=0, unflushed=0, kept=0, dropped=0, torn=0,
            cases=0, logins=0, files=0, rolled_back=0, failed=0))

    def run(self):
        if self.options.only is not None:
            for phase in self.phases:
                self.one(phase, self.options.only, 9)
            return
        numbers = collections.Counter()
        while self.report.tried < self.options.count and not self.late():
            # The phase with the fewest cuts is next.
            phase = min(self.phases, key=lambda p: self.counts(p)["cuts"])
            left = self.options.count - self.report.tried
            alone = self.options.count <= len(self.phases)
            self.one(phase, numbers[phase], 1 if alone else left)
            numbers[phase] += 1

    def late(self):
        minutes = self.options.minutes
        return minutes and time.monotonic() - self.start > 60 * minutes

    def one(self, phase, number, cuts_max):
        case = CASES[phase](self.site, self.options.seed, number, cuts_max)
        start = time.monotonic()
        try:
            case.run()
        except FAILURES as error:
            self.failed(case, error)
        finally:
            self.count(case)
            case.clean()
        self.site.say(f"{case.name}: {len(case.cuts)} cuts, "
                      f"{time.monotonic() - start:.0f} s")

    def failed(self, case, error):
        self.report.failed += 1
        self.counts(case.phase)["failed"] += 1
        evidence = self.site.work / "evidence" / \
            f"{self.options.seed}-{case.name}"
        self.site.say(f"{case.name}: FAILED: {error}\n"
                      f"the same again: tools/soak power --seed "
                      f"{self.options.seed} --phase {case.phase} --only "
                      f"{case.number}; evidence: {evidence}")
        evidence.mkdir(parents=True, exist_ok=True)
        for path in self.site.work.glob(f"{case.name}.*"):
            if path.name.endswith((".before.img", ".log")):
                path.rename(evidence / path.name)

    def count(self, case):
        for cut in case.cuts:
            counts = self.counts(cut.phase)
            self.report.tried += 1
            counts["cuts"] += 1
            counts["in_recovery"] += cut.recovery
            for name in ("unflushed", "kept", "dropped", "torn"):
                counts[name] += cut.outcome[name]
            self.points.add((cut.phase, cut.recovery, cut.kind, cut.number,
                             cut.seed))
        counts = self.counts(case.phase)
        counts["cases"] += 1
        for name, value in case.done.items():
            counts[name] += value
        self.report.distinct = len(self.points)


def main():
    options = parse()
    start = time.monotonic()

    def say(line):
        print(f"[{time.monotonic() - start:6.0f}] {line}", flush=True)

    work = Path(options.lab) if options.lab else Path(
        tempfile.mkdtemp(prefix="bootstream-power.", dir="/dev/shm"))
    try:
        lab = Lab(work, ROOT / "build/release", options.firmware, say)
        lab.make()
        # Disks that are kept name the server that their machine reaches.
        port = work / "power/port"
        if port.exists():
            lab.port = int(port.read_text())
        with lab:
            site = Site(lab, say)
            site.snapshots = Snapshots(site)
            port.write_text(str(lab.port))
            soak = Soak(site, options)
            # Not worth its time for a few.
            if options.count > 8:
                measure(site, soak.phases)
                make_all(site, site.snapshots, soak.phases)
            soak.run()
            site.close()
    except FAILURES as error:
        print(f"tools/soak power: {error}", file=sys.stderr)
        return 1
    finally:
        if not options.lab:
            shutil.rmtree(work, ignore_errors=True)
    return soak.report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
