"""Where the cuts happen: disks in known states, ways to start a machine, and
what the host finds on a disk when it is off."""

import hashlib
import json
import os
import re
import subprocess
import time
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
         "rollback": {"write": 1700, "flush": 100},
         "return": {"write": 2500, "flush": 150},
         "commit": {"write": 80, "flush": 30},
         "settle": {"write": 6000, "flush": 200},
         "detach": {"write": 400, "flush": 60},
         "grow": {"write": 60, "flush": 30}}
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
    parked.img    that one, rolled back
    complete.img  that one, when all of the image is there
    committed.img and the old system is given up
    nearly.img    and hardly anything is left to settle
    detached.img  and the driver has left
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
        self.measured = json.loads(ranges.read_text()) if ranges.exists() \
            else {}

    @property
    def ranges(self):
        return {**GUESS, **self.measured}

    def measure(self, ranges):
        self.measured.update(ranges)
        (self.work / "ranges.json").write_text(json.dumps(self.measured) +
                                               "\n")

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

    def parked(self):
        return self._made("parked", self._a_target, self.rollback)

    def state(self, name):
        """Of a disk whose target leaves its driver behind; the file."""
        steps = {"complete": (self._a_target, self._complete),
                 "committed": (lambda: self.state("complete"), self._commit),
                 "nearly": (lambda: self.state("committed"),
                            self._settle_nearly),
                 "detached": (lambda: self.state("committed"),
                              self.settle_and_leave)}
        return self._made(name, *steps[name])

    def _made(self, name, before, step):
        file = self.work / f"{name}.img"
        if not file.exists():
            self.say(f"a disk: {name}")
            fresh = self.copy(before(), f"{name}.new")
            step(fresh)
            fresh.rename(file)
        return file

    def _a_target(self):
        return self.worked if self.worked.exists() else \
            self._made("armed", lambda: self.released, self.migrate)

    def _complete(self, disk):
        with checks.streamed(self.lab, disk) as (_, ask):
            ask({"command": "wait", "for": "complete"})

    def _commit(self, disk):
        with checks.streamed(self.lab, disk, "--backfill-paused") as (_, ask):
            ask({"command": "commit"})

    def _settle_nearly(self, disk):
        """Held when less than a hundredth is left."""
        with checks.streamed(self.lab, disk, "--backfill-paused") as (_, ask):
            def left():
                settle = ask({"command": "status"})["settle"]
                return 1 - settle["settled"] / settle["chunks"]
            ask({"command": "backfill", "action": "limit",
                 "bytes_per_second": 64 << 20})
            ask({"command": "backfill", "action": "resume"})
            while left() > 0.01:
                time.sleep(0.02)
            ask({"command": "backfill", "action": "pause"})
            if left() == 0:
                raise Wrong("settled before it could be held")

    def settle_and_leave(self, disk, load=None):
        """The driver goes on to its end, on the host.  What the raw disk has
        then is what the driver has shown."""
        shown = self.work / "shown.img"
        try:
            with checks.streamed(self.lab, disk, "--backfill-paused") as \
                    (uri, ask):
                wrong = checks.differences(
                    self._copy_device(uri, shown), self.lab.target,
                    ask({"command": "dirty"})["extents"])
                if wrong:
                    raise Wrong(f"{len(wrong)} blocks differ from the image "
                                "though they are not dirty, the first is "
                                f"{wrong[0]}")
                ask({"command": "backfill", "action": "resume"})
                ask({"command": "wait", "for": "settled"})
            if self.is_streamed(disk):
                self.lab.run(self.lab.program("streamd"), "leave", "--disk",
                             disk, "--pubkey", self.lab.pubkey)
            self.lab.run("cmp", f"--bytes={shown.stat().st_size}", shown, disk)
        finally:
            remove(shown)
        self.check_left(disk, load)

    def _copy_device(self, uri, file):
        self.lab.run("nbdcopy", uri, file)
        return file

    def is_streamed(self, disk):
        return json.loads(self.lab.run(
            self.lab.program("streamd"), "scan", "--disk", disk,
            output=True))["found"]

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

    def bring_back(self, disk):
        self.bootagent("return", disk, "--yes", "--server",
                       f"http://127.0.0.1:{self.lab.port}")

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

    def partition(self, name, disk=None):
        """First byte and size of a partition of the target image, or of a disk
        that the driver has left."""
        fields = self.lab.run(
            "partx", "--noheadings", "--raw", "--output", "NAME,START,SECTORS",
            disk or self.lab.target, output=True).split()
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

    def check_left(self, disk, load=None):
        """Nothing is left of the driver, and what was synced is there."""
        if self.is_streamed(disk):
            raise Wrong("the driver has not left")
        for name in ("boot", "root"):
            self._check_file_system(disk, name, load,
                                    self.partition(name, disk))

    def check_grown(self, disk):
        """The whole disk is the target's."""
        verified = self.lab.run("sgdisk", "-v", disk, output=True)
        if "No problems found" not in verified:
            raise Wrong(f"sgdisk: {verified}")
        first, size = self.partition("root", disk)
        if first + size < 0.99 * os.stat(disk).st_size:
            raise Wrong(f"the root partition ends at {first + size}")

    def _check_file_system(self, image, name, load, place=None):
        # e2fsck replays no journal at an offset.
        part = self.work / "part.img"
        first, size = place or self.partition(name)
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
