"""Where the cuts happen: disks in known states, ways to start a machine, and
what the host finds on a disk when it is off."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

from tools.migration import checks
from tools.migration.lab import TOOLS
from tools.vm import FileServer

CHUNK = checks.CHUNK
# Writes and flushes of each phase where nobody has measured them: as an uncut
# run of the demo's systems has shown.  Only how the cuts spread hangs on it.
GUESS = {"migrate": {"write": 2500, "flush": 150},
         "boot": {"write": 1200, "flush": 370},
         "stream": {"write": 700, "flush": 130},
         "rollback": {"write": 1700, "flush": 100}}
# Without what makes an emulator slow and has nothing to do with us.
EMULATED = (" mitigations=off apparmor=0 audit=0 clocksource=tsc tsc=reliable"
            " systemd.show_status=error")
BAD = r"Kernel panic|bootstream: the boot stops here|bootagent: FAILED"


class Wrong(Exception):
    """What must not be, in a sentence."""


class Site:
    """`lab` is made and serving.  Files lie in `work`:

    released.img  the source after release, nothing else done
    worked.img    a target that came from there and was worked with
    ranges.json   writes and flushes of an uncut run of each phase
    """

    def __init__(self, lab, say):
        self.lab = lab
        self.say = say
        self.work = lab.work / "power"
        self.work.mkdir(exist_ok=True)
        self.program = str(lab.build / "tests/serve_volatile")
        self.server = FileServer({})
        self.released = self.work / "released.img"
        self.worked = self.work / "worked.img"
        self.snapshots = None
        self._take_kernel()
        self._make_released()
        self.region = [(e["first"], e["count"]) for e in
                       self.status(self.released)["region"]]
        self.listing = self._once("target.files", [
            TOOLS / "images/list-files", lab.target])
        ranges = self.work / "ranges.json"
        self.measured = ranges.exists()
        self.ranges = json.loads(ranges.read_text()) if self.measured \
            else GUESS

    def measure(self, ranges):
        (self.work / "ranges.json").write_text(json.dumps(ranges) + "\n")
        self.ranges, self.measured = ranges, True

    def close(self):
        self.server.close()

    # Disks.

    def copy(self, disk, name):
        fresh = self.work / name
        self.lab.run("cp", "--sparse=always", disk, fresh)
        return fresh

    def armed(self, name):
        disk = self.copy(self.released, name)
        self.migrate(disk)
        return disk

    def _make_released(self):
        if self.released.exists():
            return
        disk = self.copy(self.lab.source, "released.new")
        self.bootagent("migrate", disk, *self._image(), "--stop-at",
                       "released", code=4)
        disk.rename(self.released)

    # The agent, on the host.

    def bootagent(self, name, disk, *options, code=0):
        command = [self.lab.program("bootagent"), name, "--disk", str(disk),
                   *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != code:
            raise Wrong(f"bootagent {name} ended with {done.returncode}: "
                        + done.stdout[-2000:])
        return done.stdout

    def _image(self):
        # The second is what a machine reaches.
        return ["--yes", "--image", self.lab.image, "--pubkey",
                str(self.lab.pubkey), "--server",
                f"http://127.0.0.1:{self.lab.port}", "--server",
                f"http://10.0.2.2:{self.lab.port}"]

    def migrate(self, disk):
        self.bootagent("migrate", disk, *self._image())

    def rollback(self, disk):
        self.bootagent("rollback", disk, "--yes")

    def status(self, disk):
        return checks.agent_status(self.lab, disk)

    def wish_rollback(self, disk):
        """As `streamctl rollback` in the target does."""
        with checks.streamed(self.lab, disk, "--backfill-paused") as (_, ask):
            ask({"command": "rollback"})

    # Ways to start a machine.

    def agent(self, action):
        """The agent's kernel, as the network would bring it."""
        url = f"http://10.0.2.2:{self.lab.port}"
        boot = self.lab.repo / "boot"
        return self._direct(
            boot / "vmlinuz", boot / "initrd.img",
            f"console=ttyS0 loglevel=4 bootstream.action={action} "
            f"bootstream.server={url} bootstream.image={self.lab.image} "
            "bootstream.onerror=poweroff bootstream.ondone=poweroff")

    def target(self):
        """The target's kernel, as its boot loader would."""
        url = f"http://10.0.2.2:{self.lab.port}"
        return self._direct(
            self.work / "vmlinuz", self.work / "initrd.img",
            (self.work / "cmdline").read_text() +
            f" console=ttyS0 loglevel=4 bootstream.url={url}"
            # A power cut says nothing about a target's health.
            " bootstream.health-boots=0")

    def firmware(self):
        """By firmware and boot loader, from the disk."""
        return {"firmware": self.lab.firmware, "boot": "disk"}

    def _direct(self, kernel, initrd, cmdline):
        return {"firmware": "bios", "extra": [
            "-kernel", str(kernel), "-initrd", str(initrd), "-append",
            cmdline + EMULATED, "-global",
            "virtio-net-pci.romfile=", "-no-reboot"]}

    def _take_kernel(self):
        """What GRUB of the target would load."""
        if (self.work / "cmdline").exists():
            return
        image = f"{self.lab.target}?offset={self.partition('boot')[0]}"

        def take(path, name):
            self.lab.run("debugfs", "-R", f"dump {path} {self.work / name}",
                         image)
        take("/grub/grub.cfg", "grub.cfg")
        text = (self.work / "grub.cfg").read_text()
        kernel, cmdline = re.search(r"^\s*linux\s+(\S+)\s+(.*)$", text,
                                    re.MULTILINE).groups()
        take(kernel, "vmlinuz")
        take(re.search(r"^\s*initrd\s+(\S+)", text, re.MULTILINE).group(1),
             "initrd.img")
        (self.work / "cmdline").write_text(cmdline.split(" console=")[0])

    def partition(self, name):
        """First byte and size of a partition of the target image."""
        fields = self.lab.run(
            "partx", "--noheadings", "--raw", "--output", "NAME,START,SECTORS",
            self.lab.target, output=True).split()
        at = fields.index(name)
        return int(fields[at + 1]) * 512, int(fields[at + 2]) * 512

    def _once(self, name, command):
        path = self.work / name
        if not path.exists():
            path.write_text(self.lab.run(*command, output=True))
        return path.read_text()

    # What the host finds on a disk that is off.

    def check_map(self, disk):
        """What is clean matches the manifest; cheap."""
        self.bootagent("check", disk)

    def check_target(self, disk, load=None):
        """Every block that is not dirty equals the image, the file systems
        are whole once their journals are replayed, and what `load` has called
        synced is there."""
        with checks.copy_of_streamed(self.lab, disk) as (copy, dirty):
            wrong = checks.differences(copy, self.lab.target, dirty)
            if wrong:
                raise Wrong(f"{len(wrong)} blocks differ from the image though"
                            f" they are not dirty, the first is {wrong[0]}")
            for name in ("boot", "root"):
                self._check_file_system(copy, name, load)

    def _check_file_system(self, image, name, load):
        # e2fsck replays no journal at an offset.
        part = self.work / "part.img"
        first, size = self.partition(name)
        self.lab.run("dd", f"if={image}", f"of={part}", "bs=1M",
                     f"skip={first}B", f"count={size}B", "conv=sparse")
        try:
            _fsck(part, "-p", allowed=1)
            _fsck(part, "-fn", allowed=0)
            if name == "root" and load:
                self._check_files(part, load)
        finally:
            remove(part)

    def _check_files(self, part, load):
        """Read by debugfs, which asks nobody of ours."""
        for path, sums in load.expected().items():
            out = self.work / "dumped"
            self.lab.run("debugfs", "-R", f"dump {path} {out}", part)
            wrong = [at for at, size, digest in sums
                     if _digest(out, at, size) != digest]
            remove(out)
            if wrong:
                raise Wrong(f"{path} was synced and is lost, at {wrong[:5]}")

    def recover_target(self, disk):
        """What the driver does at its start, on the host."""
        with checks.streamed(self.lab, disk, "--backfill-paused"):
            pass

    def check_source(self, disk):
        """Outside the region, what it was after release."""
        status = self.status(disk)
        if status["phase"] != "parked":
            raise Wrong(f"the phase is {status['phase']}")
        wrong = differing_chunks(self.released, disk, self.region)
        if wrong:
            raise Wrong(f"{len(wrong)} chunks of the source are not what they "
                        f"were, the first is {wrong[0]}")
        _fsck(f"{disk}?offset={status['source_fs_offset']}", "-fn", allowed=0)


def _fsck(image, how, allowed):
    done = subprocess.run(["e2fsck", how, image], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode not in (0, allowed):
        raise Wrong(f"e2fsck {how} ended with {done.returncode}: "
                    + done.stdout[-2000:])


def _digest(file, at, size):
    if not file.exists():
        return None
    with open(file, "rb") as data:
        data.seek(at)
        return hashlib.sha256(data.read(size)).hexdigest()


def differing_chunks(one, two, extents):
    """Chunks outside `extents` whose bytes are not the same."""
    ours = set()
    for first, count in extents:
        ours.update(range(first, first + count))
    size = os.stat(one).st_size
    if os.stat(two).st_size != size:
        raise Wrong("the disk has another size")
    wrong = []
    with open(one, "rb", 0) as a, open(two, "rb", 0) as b:
        for number in sorted(chunks_with_data(a, size) |
                             chunks_with_data(b, size)):
            if number not in ours and \
                    os.pread(a.fileno(), CHUNK, number * CHUNK) != \
                    os.pread(b.fileno(), CHUNK, number * CHUNK):
                wrong.append(number)
    return wrong


def chunks_with_data(file, size):
    """Chunks that are not all hole."""
    chunks, at = set(), 0
    while at < size:
        try:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:
            break  # only a hole is left
        at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        chunks.update(range(start // CHUNK, (at - 1) // CHUNK + 1))
    return chunks


def remove(*paths):
    for path in paths:
        Path(path).unlink(missing_ok=True)
