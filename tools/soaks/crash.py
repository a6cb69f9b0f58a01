"""tools/soak crash: power cuts, simulated at every flush."""

import json
import subprocess
import sys
import tempfile

from . import report

PROGRAM = report.BUILD / "tests/crash_simulator"

DESCRIPTION = """
The real agent and the real driver core work on disks in memory that record
every write and flush.  At each flush the power is cut: what was not flushed is
kept, dropped, torn or reordered, the disk is rebuilt, recovered, checked, run
to the end and checked again.  Rounds with new workloads go on until there are
N distinct disks.  A failure prints the command that does that one state
again."""


def parse():
    parser = report.parser("crash", DESCRIPTION, 100_000)
    parser.add_argument("--phase", action="append", metavar="PHASE",
                        help="only this one; repeatable")
    parser.add_argument("--states", type=int, default=60, metavar="N",
                        help="for each flush (default %(default)s)")
    parser.add_argument("--operations", type=int, default=120, metavar="N",
                        help="requests of a run of the driver "
                        "(default %(default)s)")
    parser.add_argument("--only", metavar="PHASE:ROUND:POINT:STATE",
                        help="one state, as a failure names it")
    return parser.parse_args()


def command(options, figures):
    result = [PROGRAM, "--seed", options.seed, "--count", options.count,
              "--states", options.states, "--operations", options.operations,
              "--json", figures]
    for phase in options.phase or []:
        result += ["--phase", phase]
    if options.only:
        result += ["--only", options.only]
    return [str(word) for word in result]


def main():
    options = parse()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        code = subprocess.run(command(options, file.name)).returncode
        text = file.read()
    if not text:
        print(f"tools/soak crash: {PROGRAM} ended with {code}",
              file=sys.stderr)
        return 1
    figures = json.loads(text)
    result = report.Report("crash", options.seed, figures["tried"],
                           figures["failed"], figures["distinct"],
                           figures["phases"])
    return result.finish(options.json) or code


if __name__ == "__main__":
    sys.exit(main())
