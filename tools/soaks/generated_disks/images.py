"""The images that the generated disks are moved to: built once for a run."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.soaks.generated_disks.shell import (
    IMGSERVER, IMGTOOL, KIB, MIB, SECTOR, BadDraw, make,
    make_elsewhere)

ESP_GUID = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


@dataclass(frozen=True)
class Layout:
    """One image.  `parts`: (kind, MiB) in the order on the disk; the last one
    with 0 takes the rest.  `tail`: data in the last 256 KiB, where an anchor
    would go; `gap`: boot code behind the partition table, there too."""
    name: str
    chunk: int
    table: str
    size: int
    parts: tuple
    tail: bool = False
    gap: bool = False
    boot_partition: int = 0  # one that imgtool would not find


BOOT_DATA = MIB
ROOT_DATA = 9 * MIB
LAYOUTS = (
    Layout("plain", 128 * KIB, "gpt", 96 * MIB,
           (("esp", 4), ("boot", 8), ("root", 0))),
    Layout("small-chunks", 64 * KIB, "gpt", 72 * MIB + 12 * KIB,
           (("boot", 5), ("root", 50), ("esp", 3))),
    Layout("large-chunks", 256 * KIB, "gpt", 112 * MIB - 36 * KIB,
           (("esp", 4), ("boot", 6), ("root", 0))),
    Layout("mbr", 128 * KIB, "dos", 80 * MIB + 52 * KIB,
           (("boot", 6), ("root", 0)), gap=True),
    Layout("logical", 64 * KIB, "dos", 64 * MIB,
           (("boot", 6), ("logical-root", 40), ("logical-swap", 0))),
    Layout("mbr-tail", 128 * KIB, "dos", 88 * MIB + 4 * KIB,
           (("boot", 6), ("root", 0)), tail=True),
    Layout("esp-only", 256 * KIB, "gpt", 64 * MIB,
           (("esp", 8), ("root", 0))),
    Layout("esp-last", 128 * KIB, "gpt", 160 * MIB,
           (("root", 120), ("boot", 6), ("esp", 4))),
    Layout("no-place", 128 * KIB, "dos", 64 * MIB,
           (("boot", 6), ("root", 0)), tail=True, gap=True),
    Layout("boot-in-root", 128 * KIB, "gpt", 64 * MIB, (("root", 0),),
           boot_partition=1),
    Layout("huge", 128 * KIB, "gpt", 4096 * MIB,
           (("esp", 4), ("boot", 6), ("root", 60))),
)
# Those that no disk is moved to: each for one reason.
UNUSABLE = {"boot-in-root": "boot-in-root", "huge": "huge-image"}


def _place(layout):
    """(kind, first sector, sectors) of each partition, and sfdisk's script."""
    script = [f"label: {layout.table}", "unit: sectors"]
    placed = []
    at = 2048
    end = layout.size // SECTOR - (40 if layout.table == "gpt" else 0)
    for number, (kind, size) in enumerate(layout.parts):
        logical = kind.startswith("logical")
        if logical and not any(p[0].startswith("logical") for p in placed):
            script.append(f"start={at}, size={end - at}, type=5")
        if logical:
            at += 2048
        sectors = size * MIB // SECTOR if size else (end - at) // 8 * 8
        types = {"esp": ESP_GUID if layout.table == "gpt" else "ef"}
        script.append(f"start={at}, size={sectors}, "
                      f"type={types.get(kind, 'L')}")
        placed.append((kind, at, sectors))
        at += sectors
    return placed, "\n".join(script) + "\n"


class Images:
    """The repository in `folder`, with the server that has it.  `pool`: bytes
    that files are cut from."""

    def __init__(self, folder, pool, rng):
        self.folder = Path(folder)
        self.key = self.folder / "key"
        self.public_key = self.folder / "key.pub"
        self._pool = pool
        self._rng = rng
        self._server = None
        self.url = ""
        make(IMGTOOL, "keygen", "--out", self.key)
        for layout in LAYOUTS:
            self._build(layout)
        self._serve()

    def disk(self, layout):
        return self.folder / f"{layout.name}.img"

    def _bytes(self, size):
        at = self._rng.randrange(len(self._pool) - size)
        return self._pool[at:at + size]

    def _tree(self, name, files, total):
        tree = self.folder / f"{name}.tree"
        (tree / "grub").mkdir(parents=True)
        for number in range(files):
            size = self._rng.randrange(100, 2 * total // files)
            (tree / str(number)).write_bytes(self._bytes(size))
        return tree

    def _format(self, disk, kind, first, sectors):
        kib = sectors * SECTOR // KIB
        offset = first * SECTOR
        if kind == "esp":
            make("mkfs.vfat", "-F", 12, "-s", 8, "--offset", first, disk, kib)
            loader = self.folder / "loader"
            loader.write_bytes(self._bytes(900 * KIB))
            make("mcopy", "-o", "-i", f"{disk}@@{offset}", loader, "::LOADER.EFI")
        elif kind.endswith("swap"):
            make_elsewhere(disk, first, sectors, "mkswap")
        else:
            if kind == "boot":
                tree = self._tree(f"{disk.stem}-{kind}", 3, BOOT_DATA)
                (tree / "vmlinuz-1").write_bytes(self._bytes(MIB))
            else:
                tree = self._tree(f"{disk.stem}-{kind}", 24, ROOT_DATA)
                (tree / "grub").rmdir()
            make("mkfs.ext4", "-q", "-d", tree, "-E", f"offset={offset}", disk,
                 f"{kib}k")

    def _build(self, layout):
        disk = self.disk(layout)
        with open(disk, "wb") as file:
            file.truncate(layout.size)
        placed, script = _place(layout)
        make("sfdisk", "-q", disk, stdin=script)
        for kind, first, sectors in placed:
            self._format(disk, kind, first, sectors)
        with open(disk, "r+b") as file:
            if layout.tail:
                file.seek(layout.size - 200 * KIB)
                file.write(self._bytes(150 * KIB))
            if layout.gap:
                file.seek(SECTOR)
                file.write(self._bytes(
                    900 * KIB if layout.tail else 60 * KIB))
        make(IMGTOOL, "build", "--disk", disk, "--name", layout.name,
             "--version", "1.0", "--repo", self.folder / "repo", "--key",
             self.key, "--chunk-size", layout.chunk, "--level", 1,
             *(["--boot-partition", layout.boot_partition]
               if layout.boot_partition else []))

    def _serve(self):
        port = self.folder / "port"
        log = self.folder / "server.log"
        with open(log, "wb") as err:
            self._server = subprocess.Popen(
                [IMGSERVER, "serve", "--repo", self.folder / "repo",
                 "--listen", "127.0.0.1:0", "--port-file", port],
                stdout=err, stderr=err)
        while not (port.exists() and port.read_text().endswith("\n")):
            if self._server.poll() is not None:
                raise BadDraw(f"imgserver: {log.read_text()}")
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port.read_text().split(':')[-1].strip()}"

    def close(self):
        if self._server:
            self._server.terminate()
            self._server.wait()
