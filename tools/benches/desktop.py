"""A real desktop to boot: a machine with an old system, and an image of Debian
with a desktop, watched until its graphical login was on the screen."""

import json
import re

from tools.benches.site import run
from tools.migration.lab import Lab

SHOWN = "GREETER-IS-SHOWN"


class DesktopLab(Lab):
    """A lab whose target has a desktop; with `quick` it has none, and its login
    is the serial console's."""

    # Room for the whole image beside the old system.
    source_options = ("--size", "12288")
    target_options = ("--desktop", "cinnamon")
    # Packed once, sent often; and small chunks bring less that nobody reads.
    build_options = ("--chunk-size", "65536", "--level", "9")
    booted = SHOWN
    boot_seconds = 3600

    def __init__(self, *arguments, quick=False):
        super().__init__(*arguments)
        if quick:
            self.target_options, self.booted = (), Lab.booted

    def used_bytes(self):
        """What its file systems say is in use."""
        return sum(used_bytes(self.target, name) for name in ("boot", "root"))

    def trace_reads(self):
        """(offset, size) of every read of the watched boot, in order."""
        with self.trace.open() as lines:
            next(lines)
            return [(read["offset"], read["size"])
                    for read in map(json.loads, lines)]


def used_bytes(disk, partition):
    """Of an ext4, as df counts: without its own tables."""
    table = json.loads(run("sfdisk", "--json", disk))
    start, = (part["start"] for part in table["partitiontable"]["partitions"]
              if part.get("name") == partition)
    header = run("dumpe2fs", "-h", f"{disk}?offset={start * 512}")

    def field(name):
        return int(re.search(rf"^{name}:\s*(\d+)$", header, re.M).group(1))

    return field("Block size") * (field("Block count") - field("Free blocks") -
                                  field("Overhead clusters"))
