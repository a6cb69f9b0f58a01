"""Makes the disk that a case drew: a sparse file, with what is in it."""

import hashlib
import os
import random
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tools.soaks.generated_disks.shell import (
    KIB, MIB, SECTOR, BadDraw, make, make_elsewhere, mounted, run)

ESP_GUID = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


@dataclass
class Disk:
    path: Path
    folder: Path
    # File systems that are compared file by file: part -> {name: digest}.
    files: dict = field(default_factory=dict)
    numbers: dict = field(default_factory=dict)  # part -> partition number


def _sfdisk_script(case):
    label = case.table
    script = [f"label: {label}", "unit: sectors"]
    if label == "gpt":
        script.append("first-lba: 34")
    extended = False
    numbers = {}
    next_primary, next_logical = 1, 5
    for index, part in enumerate(case.parts):
        if part.logical and not extended:
            extended = True
            # It begins with the record of its first logical partition.
            first = part.first - 1
            last = case.parts[-1]
            script.append(f"{next_primary} : start={first}, "
                          f"size={last.first + last.count - first}, type=5")
            next_primary += 1
        if part.logical:
            number, next_logical = next_logical, next_logical + 1
        else:
            number, next_primary = next_primary, next_primary + 1
        numbers[index] = number
        kind = {"esp": ESP_GUID if label == "gpt" else "ef",
                "swap": "S"}.get(part.kind, "L")
        script.append(f"{number} : start={part.first}, size={part.count}, "
                      f"type={kind}")
    return "\n".join(script) + "\n", numbers


class Builder:
    def __init__(self, case, folder, pool):
        self.case = case
        self.rng = case.rng
        self.pool = pool
        self.disk = Disk(folder / "disk", folder)

    def build(self):
        case = self.case
        with open(self.disk.path, "wb") as file:
            file.truncate(case.size)
        if case.table != "none":
            script, numbers = _sfdisk_script(case)
            make("sfdisk", "-q", "--no-tell-kernel", self.disk.path,
                 stdin=script)
            self.disk.numbers = numbers
        if case.noise:
            self._noise()
        for index, part in enumerate(case.parts):
            self._fill(index, part)
        if case.hostile or case.old_region:
            self._spoil()
        return self.disk

    def _bytes(self, size):
        at = self.rng.randrange(len(self.pool) - size)
        return self.pool[at:at + size]

    def _put(self, offset, data):
        with open(self.disk.path, "r+b") as file:
            os.pwrite(file.fileno(), data, offset)

    def _noise(self):
        """Random bytes between the partitions: a gap is the source's too."""
        taken = sorted((p.first, p.first + p.count) for p in self.case.parts)
        for (_, end), (first, _) in zip(taken, taken[1:]):
            # A logical partition's record lies just before it.
            length = min(first - end - 1, 4096) * SECTOR
            if length > 0:
                self._put(end * SECTOR, self._bytes(length))
        if taken and taken[0][0] > 40:
            length = min(taken[0][0] - 41, 4000) * SECTOR
            self._put(36 * SECTOR, self._bytes(length))

    def _fill(self, index, part):
        offset, size = part.first * SECTOR, part.count * SECTOR
        path, kib = self.disk.path, part.count * SECTOR // KIB
        kind = part.kind
        if kind in ("source", "second-ext4", "ext3", "ext2", "two-signatures"):
            self._ext(index, part)
        elif kind == "esp":
            make("mkfs.vfat", "-F", 12, "-s", 8, "--offset", part.first, path, kib)
            loader = self.disk.folder / "loader"
            loader.write_bytes(self._bytes(500 * KIB))
            make("mcopy", "-o", "-i", f"{path}@@{offset}", loader,
                 "::LOADER.EFI")
        elif kind == "raw":
            self._put(offset, self._bytes(min(size, MIB)))
        elif kind in ("swap", "hibernated"):
            self._elsewhere(part, "mkswap")
            if kind == "hibernated":
                self._put(offset + 4086, b"S1SUSPEND\0")
        elif kind == "luks":
            self._luks(offset)
        elif kind == "lvm":
            self._lvm(offset)
        elif kind == "xfs":
            self._elsewhere(part, "mkfs.xfs", "-q")
        elif kind == "btrfs":
            self._elsewhere(part, "mkfs.btrfs", "-q")
        elif kind == "ntfs":
            self._elsewhere(part, "mkntfs", "-q", "-F", "-s", "512", "-p", "0",
                            "-H", "16", "-S", "63")
        if kind == "two-signatures":
            self._luks(offset)

    def _elsewhere(self, part, *program):
        make_elsewhere(self.disk.path, part.first, part.count, *program)

    def _luks(self, offset):
        header = struct.pack(">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1,
                             b"aes", b"xts-plain64", b"sha256", 4096, 64,
                             bytes(20), bytes(32), 1000,
                             b"6e6d1a3c-9a7b-4a52-8c0e-5d8f0a5b2c11")
        self._put(offset, header)

    def _lvm(self, offset):
        body = struct.pack("<I8s32sQQ", 32, b"LVM2 001",
                           b"0123456789abcdef0123456789abcdef", 4 * MIB, 0)
        body += bytes(SECTOR - 20 - len(body))
        # LVM's checksum: CRC-32 that begins with 0xf597a6cf, not inverted.
        crc = zlib.crc32(body, 0xf597a6cf ^ 0xffffffff) ^ 0xffffffff
        self._put(offset + SECTOR,
                  struct.pack("<8sQI", b"LABELONE", 1, crc) + body)

    def _ext(self, index, part):
        case = self.case
        offset, kib = part.first * SECTOR, part.count * SECTOR // KIB
        source = part.kind == "source"
        kind = part.kind if part.kind.startswith("ext") else "ext4"
        options = []
        if source:
            options = list(case.make_options)
            if case.hostile == "no-inode":
                options += ["-N", 64]
        make(f"mkfs.{kind}", "-q", "-F", *options, "-E",
             f"offset={offset},nodiscard,lazy_itable_init=0", self.disk.path,
             f"{kib}k")
        if kind != "ext4":
            return
        where = self.disk.folder / "mnt"
        with mounted(self.disk.path, offset, part.count * SECTOR, where):
            if source:
                self._populate(where)
            else:
                self._write(where, "letters", 300 * KIB)
            self.disk.files[index] = digests(where)

    def _write(self, where, name, size):
        with open(where / name, "wb") as file:
            file.write(self._bytes(size))

    def _populate(self, where):
        case, rng = self.case, self.rng
        (where / "home").mkdir()
        self._write(where, "home/diary", 150 * KIB)
        self._write(where, "os-release", 200)
        if case.hostile == "no-inode":
            self._use_all_inodes(where)
            return
        if case.fragments != "none":
            self._fragment(where)
        info = os.statvfs(where)
        wanted = int(info.f_blocks * info.f_frsize * case.fullness)
        if case.hostile == "too-full":
            # Allocated is enough: nobody looks at a byte of it.
            with open(where / "ballast", "wb") as file:
                left = info.f_bfree * info.f_frsize
                os.posix_fallocate(file.fileno(), 0, left * 92 // 100)
            return
        number = 0
        while (info.f_blocks - info.f_bfree) * info.f_frsize < wanted:
            size = rng.choice([rng.randrange(1, 60 * KIB),
                               rng.randrange(60 * KIB, 4 * MIB)])
            self._write(where, f"home/file{number}", size)
            os.sync() if number % 64 == 63 else None
            number += 1
            wanted -= size

    def _fragment(self, where):
        """Many files, and every other one deleted again."""
        rng = self.rng
        low, high, share = {"files": (16 * KIB, 900 * KIB, 0.35),
                            "fine": (4 * KIB, 200 * KIB, 0.5),
                            "checkers": (64 * KIB, 300 * KIB, 0.9),
                            }[self.case.fragments]
        info = os.statvfs(where)
        left = int(info.f_bavail * info.f_frsize * share)
        (where / "many").mkdir()
        names = []
        while left > 0 and len(names) < 1500:
            size = min(left, rng.randrange(low, high))
            name = f"many/{len(names)}"
            fd = os.open(where / name, os.O_CREAT | os.O_WRONLY, 0o644)
            try:
                if len(names) % 4 == 1:
                    os.write(fd, self._bytes(size))
                else:
                    os.posix_fallocate(fd, 0, size)
                    os.write(fd, self._bytes(64))
            except OSError as error:
                raise BadDraw(f"fragment: {error}") from error
            finally:
                os.close(fd)
            names.append(name)
            left -= size
        for name in names[::2]:
            os.unlink(where / name)

    def _use_all_inodes(self, where):
        try:
            for number in range(100000):
                os.close(os.open(where / f"home/i{number}",
                                 os.O_CREAT | os.O_WRONLY))
        except OSError:
            pass

    def _debugfs(self, part, *requests):
        done = run("debugfs", "-w", "-f", "-",
                   f"{self.disk.path}?offset={part.first * SECTOR}",
                   stdin="\n".join(requests) + "\n")
        if done.returncode:
            raise BadDraw(f"debugfs: {done.stderr}")

    def _spoil(self):
        case, what = self.case, self.case.hostile
        source = case.parts[case.source]
        requests = {
            "unclean": ["feature needs_recovery"],
            "errors": ["ssv state 2"],
            "orphans": ["ssv last_orphan 12"],
            "read-only-feature": ["feature read-only"],
            "external-journal": ["feature -has_journal", "feature has_journal",
                                 "ssv journal_inum 0", "ssv journal_dev 0x801"],
            "region-is-a-directory": ["mkdir .bootstream-region"],
            "region-is-a-link": ["symlink .bootstream-region os-release"],
        }.get(what)
        if case.old_region:
            self._own_region_file(source, what)
        if requests:
            self._debugfs(source, *requests)
        elif what in ("region-is-immutable", "immutable-root"):
            self._own_region_file(source, what)
        elif what == "backup-gpt-damaged":
            self._put(case.size - SECTOR + 20, b"\x5a")
        elif what == "primary-gpt-damaged":
            self._put(SECTOR + 60, b"\x5a\xa5")
        elif what == "partition-beyond-disk":
            os.truncate(self.disk.path,
                        (case.parts[-1].first + case.parts[-1].count // 2)
                        * SECTOR)

    def _own_region_file(self, part, what):
        where = self.disk.folder / "mnt"
        offset, size = part.first * SECTOR, part.count * SECTOR
        with mounted(self.disk.path, offset, size, where):
            if what == "immutable-root":
                make("chattr", "+i", where)
                return
            with open(where / ".bootstream-region", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, MIB)
                if self.case.old_region:
                    file.truncate(3 * MIB)
            if what == "region-is-immutable":
                make("chattr", "+i", where / ".bootstream-region")


def digests(where):
    """Of every file but the region file."""
    found = {}
    for folder, _, names in os.walk(where):
        for name in names:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, where)
            if inside == ".bootstream-region" or os.path.islink(path):
                continue
            with open(path, "rb") as file:
                found[inside] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
