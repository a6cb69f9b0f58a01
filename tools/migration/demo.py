"""tools/demo: moves a virtual machine from Debian 12 to Debian 13 and back."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tools.vm.console import ConsoleError
from tools.vm.machine import MachineError

from .lab import ROOT, Lab, LabError
from .story import Story


def parse():
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        description="Installs what is missing, builds, makes two real Debian "
        "systems, publishes one, moves a virtual machine from the other to it "
        "by streaming, works there, rolls back and boots the old system.")
    parser.add_argument("--firmware", choices=("uefi", "bios"),
                        default="uefi")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--lab", metavar="DIR", help="keep what is made "
                        "there, and use what is there already")
    parser.add_argument("--no-build", action="store_true",
                        help="the programs in build/release are current")
    return parser.parse_args()


def main():
    options = parse()
    start = time.monotonic()

    def say(line):
        print(f"[{time.monotonic() - start:6.0f}] {line}", flush=True)

    work = Path(options.lab) if options.lab else Path(
        tempfile.mkdtemp(prefix="bootstream-demo.", dir="/dev/shm"))
    try:
        lab = Lab(work, ROOT / "build/release", options.firmware, say)
        lab.make()
        with lab:
            story = Story(lab, say)
            story.tell()
    except (LabError, ConsoleError, MachineError) as error:
        print(f"tools/demo: {error}", file=sys.stderr)
        return 1
    finally:
        if not options.lab:
            shutil.rmtree(work, ignore_errors=True)
    return report(story, options)


def report(story, options):
    result = story.result
    used = result["image_used_bytes"]
    print(story.time.table(used))
    share = result["network_bytes_until_login"] / used
    print(f"received until login: {share:.1%} of the {used / 1e6:.0f} MB in "
          f"use ({result['image_used_bytes_compressed'] / 1e6:.0f} MB "
          "compressed)")
    print(f"boot set: {result['boot_set_chunks']} chunks; "
          f"{result['relocated_chunks']} chunks of the old system moved away")
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    failures = story.failures()
    for line in failures:
        print("tools/demo: " + line, file=sys.stderr)
    print("tools/demo: " + ("FAILED" if failures else "done"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
