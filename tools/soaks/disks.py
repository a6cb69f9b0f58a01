"""tools/soak disks: disks drawn by seed are migrated, used and returned byte
for byte, or refused by plan with nothing written."""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tools.soaks.generated_disks.build import Builder
from tools.soaks.generated_disks.draw import draw
from tools.soaks.generated_disks.images import Images
from tools.soaks.generated_disks.journey import Journey
from tools.soaks.generated_disks.shell import MIB, BadDraw, Failure
from tools.soaks.report import Report, parser

_POOL_BYTES = 24 * MIB
_BAD_DRAWS_MAX = 0.05  # share of disks that could not be made as drawn


def options():
    result = parser("disks", __doc__, 500)
    result.add_argument("--first", type=int, default=0, metavar="CASE",
                        help="begin with this case (to split a run)")
    result.add_argument("--only", type=int, metavar="CASE",
                        help="just this case of --seed")
    result.add_argument("--seconds", type=float, default=float("inf"),
                        metavar="T", help="begin no case after so long")
    result.add_argument("--keep", metavar="DIR", type=Path,
                        help="leave the disks of failed cases there")
    result.add_argument("--verbose", action="store_true",
                        help="a line for each case")
    return result.parse_args()


class Soak:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder
        self.pool = random.Random(f"pool {arguments.seed}").randbytes(
            _POOL_BYTES)
        self.counts = {name: Counter() for name in (
            "outcome", "refused because", "table", "accepted with",
            "disk size", "fragmentation", "image", "use", "on the way")}
        self.seen = set()
        self.images = Images(folder, self.pool,
                             random.Random(f"images {arguments.seed}"))

    def case(self, number):
        """True unless a promise was broken."""
        case = draw(self.arguments.seed, number)
        folder = self.folder / f"case{number}"
        folder.mkdir()
        began = time.monotonic()
        failure = None
        try:
            disk = Builder(case, folder, self.pool).build()
            journey = Journey(case, disk, self.images, self.pool)
            outcome = journey.go()
            self._count(case, outcome, journey.marks)
        except BadDraw as bad:
            self.counts["outcome"]["not made"] += 1
            outcome = f"not made: {bad}"
            print(f"{case.describe()}\n  {outcome}", flush=True)
        except Exception as error:  # whatever it is, it is a failed case
            if not isinstance(error, Failure):
                error = f"{type(error).__name__}: {error}"
            failure = f"{case.describe()}\nFAILED: {error}\nagain: tools/soak " \
                f"disks --seed {self.arguments.seed} --only {number}"
            outcome = "failed"
            self.counts["outcome"][outcome] += 1
            print(failure, flush=True)
        if self.arguments.verbose:
            print(f"{case.describe()}: {outcome}, "
                  f"{time.monotonic() - began:.1f} s", flush=True)
        if failure and self.arguments.keep:
            self.arguments.keep.mkdir(parents=True, exist_ok=True)
            kept = self.arguments.keep / f"case{number}"
            # By mv: sockets are no files to shutil.
            subprocess.run(["mv", folder, kept], check=True)
            (kept / "failure").write_text(failure + "\n")
        else:
            shutil.rmtree(folder)
        return failure is None

    def _count(self, case, outcome, marks):
        accepted = outcome == "accepted"
        self.counts["outcome"]["accepted" if accepted else "refused"] += 1
        if not accepted:
            self.counts["refused because"][outcome] += 1
            return
        self.seen.add(case.describe().partition(":")[2])
        counts = self.counts
        counts["table"][case.table] += 1
        counts["disk size"][case.relation] += 1
        counts["image"][case.image.name] += 1
        counts["fragmentation"][case.fragments] += 1
        counts["use"][case.use + (" and killed" if case.kill else "")] += 1
        counts["accepted with"].update(
            [f"blocks of {case.block}", *case.features])
        counts["accepted with"].update(
            p.kind for i, p in enumerate(case.parts) if i != case.source)
        counts["on the way"].update(marks)


def main():
    arguments = options()
    began = time.monotonic()
    report = Report("disks", arguments.seed)
    numbers = range(arguments.first, arguments.first + arguments.count)
    if arguments.only is not None:
        numbers = [arguments.only]
    folder = Path(tempfile.mkdtemp(prefix="bootstream-soak.", dir="/dev/shm"))
    soak = None
    try:
        soak = Soak(arguments, folder)
        for number in numbers:
            if time.monotonic() - began > arguments.seconds:
                break
            report.tried += 1
            report.failed += not soak.case(number)
    finally:
        if soak:
            soak.images.close()
        shutil.rmtree(folder, ignore_errors=True)
    report.distinct = len(soak.seen)
    report.phases = {name: dict(counts.most_common())
                     for name, counts in soak.counts.items()}
    code = report.finish(arguments.json)
    outcome = soak.counts["outcome"]
    if outcome["not made"] > max(1, report.tried * _BAD_DRAWS_MAX):
        print("too many disks could not be made", file=sys.stderr)
        return 1
    if len(numbers) > 1 and outcome["accepted"] * 2 < report.tried:
        print("fewer than half of the disks went the whole way",
              file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
