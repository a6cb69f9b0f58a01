"""A desktop on the way to its graphical login: its watched boot replayed over
1 Gbit/s against a copy of everything in use, and the bytes that a real migration
receives until the login is on the screen, against the bytes in use."""

import subprocess
import sys
import time

from tools.benches import report
from tools.benches.desktop import DesktopLab
from tools.benches.load import NbdReader
from tools.benches.network import (
    SERVER_ADDRESS, Wire, at_client, at_server)
from tools.benches.site import Nginx, Site, SiteError, folder
from tools.benches.systems import Ours
from tools.migration.story import BAD
from tools.programs import BUILD
from tools.vm.machine import Machine


class BootSite(Site):
    """A lab's image and repository for drivers of ours, whose disks lie on
    tmpfs as all that is compared here does."""

    name = DesktopLab.image

    def __init__(self, lab, work):
        super().__init__(work)
        self.image = lab.target
        self.public_key = lab.pubkey
        self.repo.symlink_to(lab.repo.resolve())
        self.packed = work / "used.tar.zst"
        self._pack_used(lab.work / self.packed.name)

    def _pack_used(self, file):
        """What a copy sends: all that is in use, without the holes."""
        self.packed.symlink_to(file.resolve())
        if file.exists():
            return
        fresh = file.with_suffix(".new")
        with fresh.open("wb") as out:
            tar = subprocess.Popen(
                ["tar", "--create", "--sparse", "--directory",
                 self.image.parent, self.image.name], stdout=subprocess.PIPE)
            subprocess.run(["zstd", "-3", "-T0", "-q"], stdin=tar.stdout,
                           stdout=out, check=True)
        if tar.wait():
            raise SiteError("tar failed")
        fresh.rename(file)


def replay(site, far, local, reads):
    """Seconds from the driver's start until the last read of the watched boot,
    its boot loader's included, has its answer, and the bytes received.  One read
    at a time, with no time to think in between.  The boot set is there: the agent
    has brought it, and that takes as long as its bytes take on the link."""
    with Ours(site, far.url, migrate_from=local.url,
              prefix=at_client) as ours:
        reader = NbdReader(ours.socket)
        for offset, size in reads:
            reader.read(offset, size)
        seconds = time.monotonic() - ours.started
        reader.close()
        return seconds, ours.received_bytes()


def copy(site, far):
    """Seconds until everything in use is in a disk file."""
    into = site.work / "copy"
    into.mkdir()
    began = time.monotonic()
    subprocess.run(at_client(
        "sh", "-c", f"curl -sS {far.url}/{site.packed.name} | zstd -dcq | "
        f"tar --extract --sparse --directory {into}"), check=True)
    seconds = time.monotonic() - began
    subprocess.run(["rm", "-r", into], check=True)
    return seconds


def _trace_against_copy(result, options, lab):
    row = result.row("trace-vs-copy", "a minute", "curl | zstd -d | tar",
                     bar=6)
    with folder(None) as work:
        site = BootSite(lab, work)
        reads = lab.trace_reads()
        with Nginx(site) as local, Wire(1000, 0), \
                Nginx(site, at_server, SERVER_ADDRESS) as far:
            for _ in range(options.rounds):
                seconds, received = replay(site, far, local, reads)
                _say(f"{len(reads)} reads: {seconds:.2f} s, "
                     f"{received / 1e6:.0f} MB")
                row.ours_all.append(60 / seconds)
                seconds = copy(site, far)
                _say(f"a copy: {seconds:.2f} s, "
                     f"{site.packed.stat().st_size / 1e6:.0f} MB")
                row.peer_all.append(60 / seconds)


def _bytes_until_login(result, lab, used):
    row = result.row("bytes-share", "MB", "bytes in use", better="lower",
                     bar=0.05)
    disk = lab.fresh_disk()
    try:
        with lab:
            lab.order_agent("migrate")
            with Machine(disk, lab.work, name="desktop", boot="network",
                         firmware=lab.firmware, boot_url=lab.boot_url,
                         memory="4G") as it:
                received = _until_login(lab, it)
    finally:
        disk.unlink()
    row.ours_all.append(received / 1e6)
    row.peer_all.append(used / 1e6)


def _until_login(lab, machine):
    """Bytes that the machine has received, headers of packets included."""
    console = machine.console

    def note(what):
        _say(f"{what}: {machine.seconds():.0f} s, "
             f"{machine.network_bytes()[0] / 1e6:.1f} MB")

    console.expect(r"bootagent: migrate: begins", 600, unless=BAD)
    note("the agent runs")
    console.expect(r"bootagent: migrate: done", 900, unless=BAD)
    lab.order_nothing()
    note("the disk is armed")
    console.expect(lab.booted, lab.boot_seconds, unless=BAD)
    note("somebody can log in")
    received = machine.network_bytes()[0]
    machine.screendump(lab.work / "login.png")
    return received


def _say(line):
    print(line, flush=True)


def _parser():
    parser = report.parser("boot", __doc__)
    parser.add_argument("--firmware", choices=("uefi", "bios"),
                        default="uefi")
    parser.add_argument("--only", choices=("trace", "bytes"),
                        help="one of the two")
    return parser


def main():
    options = report.parse(_parser())
    result = report.Report("boot")
    with folder(options.lab) as work:
        lab = DesktopLab(work, BUILD, options.firmware, _say,
                         quick=options.quick)
        lab.make()
        used = lab.used_bytes()
        _say(f"{used / 2**30:.2f} GiB in use")
        if options.only != "bytes":
            _trace_against_copy(result, options, lab)
        if options.only != "trace":
            _bytes_until_login(result, lab, used)
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
