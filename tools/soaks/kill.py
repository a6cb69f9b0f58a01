"""Kills streamd's worker under load, again and again, with each front end."""

import json
import os
import random
import re
import subprocess
import sys

from tools.soaks import report

# A few deaths for each life of a disk: much of the image is still to come then.
KILLS_A_DISK = 20
FRONTENDS = ["socket", "fuse", "nbd", "ublk"]
IN_MACHINE = ["nbd", "ublk"]


def run_disk(frontend, kills, seed, release):
    """One disk from its migration on; the figures of kill_load.py."""
    if frontend in IN_MACHINE:
        command = ["tests/vm/test-keeper-device.sh", frontend, release]
    else:
        command = ["tests/e2e/test-keeper.sh", frontend]
    command += [str(kills), str(seed)]
    done = subprocess.run(command, cwd=report.ROOT, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, BUILD_DIR=str(report.BUILD)))
    found = re.search(r'\{"kills".*\}', done.stdout)
    figures = json.loads(found.group(0)) if found else {}
    if done.returncode != 0:
        print(f"tools/soak kill: {' '.join(command)} FAILED\n{done.stdout}",
              file=sys.stderr)
    return done.returncode, figures


def main():
    parser = report.parser("kill", __doc__, 100)
    parser.add_argument("--frontend", choices=FRONTENDS, action="append",
                        help="only this one (default: all); repeatable")
    parser.add_argument("--release", default="trixie",
                        choices=["bookworm", "trixie"],
                        help="the Debian kernel of the virtual machine for nbd "
                        "(%(default)s); bookworm has no ublk")
    options = parser.parse_args()
    if not options.frontend and options.release == "bookworm":
        options.frontend = [name for name in FRONTENDS if name != "ublk"]
    rng = random.Random(options.seed)
    result = report.Report("kill", options.seed)
    for frontend in options.frontend or FRONTENDS:
        phase = {"kills": 0, "failed": 0, "answered": 0, "disks": 0,
                 "outage_median_s": 0, "outage_max_s": 0, "request_max_s": 0}
        while phase["kills"] < options.count:
            kills = min(KILLS_A_DISK, options.count - phase["kills"])
            code, figures = run_disk(frontend, kills, rng.randrange(1 << 15),
                                     options.release)
            phase["disks"] += 1
            phase["kills"] += figures.get("kills", kills)
            phase["failed"] += code != 0
            phase["answered"] += figures.get("answered", 0)
            for key in ("outage_median_s", "outage_max_s", "request_max_s"):
                phase[key] = max(phase[key], figures.get(key, 0))
        result.phases[frontend] = phase
        result.tried += phase["kills"]
        result.distinct += phase["kills"]
        result.failed += phase["failed"]
    return result.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
