"""What is left behind when the driver has left: in a virtual machine, random and
sequential reads of a partition that was streamed, against the same on a disk that
never had us; and that disk against another one like it, which says how much such a
measurement varies.  And the longest that the partitions were held in the swap."""

import os
import re
import subprocess
import sys

from tools.benches import report
from tools.programs import BUILD, ROOT

TEST = ROOT / "tests/vm/test-detach.sh"


def measure(rounds, seconds, frontend):
    """What the machine has told: {name: [values]}."""
    environment = dict(os.environ, BUILD_DIR=str(BUILD),
                       MEASURE_ROUNDS=str(rounds),
                       MEASURE_SECONDS=str(seconds))
    done = subprocess.run([TEST, frontend, "trixie"], env=environment,
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"tools/bench detach: {TEST.name} failed:\n{done.stdout}")
    told = {}
    for name, value in re.findall(r"^TOLD measured (\S+) (\d+)", done.stdout,
                                  re.MULTILINE):
        told.setdefault(name, []).append(float(value))
    told["held"] = [float(us) / 1000 for us in
                    re.findall(r"held for (\d+) us", done.stdout)]
    return told


def main():
    options = report.parser("detach", __doc__)
    options.add_argument("--frontend", choices=("ublk", "nbd"),
                         default="ublk")
    # Short ones, many times: an emulator's speed drifts.
    options.set_defaults(rounds=15, seconds=2)
    options = report.parse(options)
    result = report.Report("detach")
    told = measure(max(options.rounds, 1), options.seconds, options.frontend)
    # After the next start; and before it, while the partitions still are
    # device-mapper's.
    for case, when, bar in (("raw", "after", 0.97), ("raw-live", "ours", None)):
        for suffix, kind in (("", "rand"), ("-seq", "seq")):
            row = result.row(case + suffix, "IOPS", "a disk that never had us",
                             bar=None if suffix else bar, paired=True)
            row.ours_all += told[f"{kind}-{when}"]
            row.peer_all += told[f"{kind}-{when}-raw"]
            row = result.row(f"{case}{suffix}-spread", "IOPS",
                             "that disk, another such disk is ours",
                             paired=True)
            row.ours_all += told[f"{kind}-{when}-other"]
            row.peer_all += told[f"{kind}-{when}-raw"]
    row = result.row("pause", "ms", "none", better="lower")
    row.ours_all += told["held"]
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
