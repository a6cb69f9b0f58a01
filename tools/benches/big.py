"""Large disks with little in use, in little memory: files of which each chunk
compresses to nearly nothing and is like no other, in btrfs that compresses."""

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from tools.benches.load import CHUNK_BYTES
from tools.benches.site import MIB, Site, run
from tools.programs import AGENT

GIB = 1 << 30


@contextmanager
def compressing(work):
    """A folder on a file system that keeps what is written there small."""
    file, folder = work / "pool.btrfs", work / "pool"
    folder.mkdir(exist_ok=True)
    with file.open("wb") as pool:
        pool.truncate(40 * GIB)
    run("mkfs.btrfs", "-q", "-f", "-m", "single", file)
    run("mount", "-o", "loop,compress-force=zstd:1", file, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        file.unlink()


@contextmanager
def _loop(file, offset=0, size=None):
    command = ["losetup", "--find", "--show", "--offset", offset, file]
    if size is not None:
        command[1:1] = ["--sizelimit", size]
    device = run(*command).strip()
    try:
        yield device
    finally:
        run("losetup", "-d", device)
        # The kernel lets go of the file when it gets to it.
        backing = Path("/sys/block") / Path(device).name / "loop/backing_file"
        while backing.exists():
            time.sleep(0.02)
        run("sync", file)


def _anew(file):
    """The same file, but for what mkfs has reserved in it (zeroes): btrfs
    compresses nothing in a file with such extents."""
    fresh = file.with_suffix(".new")
    run("cp", "--sparse=always", file, fresh)
    fresh.rename(file)


def _fill(folder, gib):
    """`gib` files of 1 GiB."""
    number = 0
    for file in range(gib):
        with (folder / str(file)).open("wb") as out:
            for _ in range(GIB // CHUNK_BYTES):
                out.write(number.to_bytes(16, "little") * (CHUNK_BYTES // 16))
                number += 1


class BigSite(Site):
    """An image of `disk_gib`, of which files take `used_gib`, in a folder of
    `compressing`."""

    def __init__(self, work, disk_gib, used_gib):
        super().__init__(work)
        self._size = disk_gib * GIB
        self._used_gib = used_gib
        work.mkdir(exist_ok=True)

    def _make_image(self):
        with self.image.open("wb") as file:
            file.truncate(self._size)
        run("sgdisk", "-n1:2048:+34M", "-t1:ef00", "-c1:esp", "-n2:0:+64M",
            "-t2:8300", "-c2:boot", "-n3:0:0", "-t3:8304", "-c3:root",
            self.image)
        run("mkfs.vfat", "-F", 32, "-s", 1, "--offset", 2048, self.image,
            34 << 10)
        run("mkfs.ext4", "-q", "-E", f"nodiscard,offset={35 * MIB}", self.image,
            "64M")
        offset, size = self.root()
        run("mkfs.ext4", "-q", "-E", f"nodiscard,offset={offset}", "-J",
            "size=16", self.image, f"{size // 1024}k")
        _anew(self.image)
        mount = self.work / "mount"
        mount.mkdir(exist_ok=True)
        with _loop(self.image, offset, size) as device:
            run("mount", device, mount)
            try:
                _fill(mount, self._used_gib)
            finally:
                run("umount", mount)

    def manifest(self):
        """The file."""
        found, = (self.repo / "images/bench/1").iterdir()
        return found

    @contextmanager
    def old_disk(self):
        """A disk as large, with an old system's file system."""
        file = self.work / "old.img"
        with file.open("wb") as out:
            out.truncate(self._size)
        subprocess.run(["sfdisk", "-q", file], input="2048,,L\n", text=True,
                       check=True, stdout=subprocess.DEVNULL)
        run("mkfs.ext4", "-q", "-E", f"nodiscard,offset={MIB}", file,
            f"{self._size // MIB - 2}M")
        _anew(file)
        # Through the page cache of the loop device: what is written there
        # directly would not be compressed.
        with _loop(file) as device:
            yield device
        file.unlink()

    def agent(self, command, device, url, *options):
        return run(AGENT, command, "--disk", device, "--server", url, "--image",
                   "bench", "--pubkey", self.public_key, "--when-full", "block",
                   *options)
