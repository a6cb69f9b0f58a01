"""Other programs, and what a case says when it fails."""

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tools.programs import (  # noqa: F401 (for the cases)
    AGENT, IMGSERVER, IMGTOOL, STREAMCTL, STREAMD)

SECTOR = 512
KIB = 1 << 10
MIB = 1 << 20

os.environ["PATH"] += ":/usr/sbin:/sbin"


class Failure(Exception):
    """What must not happen: a broken promise, with all that is known."""


class BadDraw(Exception):
    """A disk that could not be made as drawn; no case at all."""


def run(*arguments, stdin=None, timeout=120):
    """The finished process, whatever its exit code."""
    return subprocess.run([str(a) for a in arguments], input=stdin, text=True,
                          capture_output=True, timeout=timeout)


def make(*arguments, stdin=None):
    """A program that builds something: it must succeed."""
    done = run(*arguments, stdin=stdin)
    if done.returncode:
        raise BadDraw(f"{' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def make_elsewhere(disk, first, sectors, *program):
    """A program that knows no offset, on a file of its own."""
    with tempfile.NamedTemporaryFile(dir=Path(disk).parent) as alone:
        alone.truncate(sectors * SECTOR)
        make(*program, alone.name)
        make("dd", f"if={alone.name}", f"of={disk}", "bs=64K",
             f"seek={first * SECTOR}", "oflag=seek_bytes",
             "conv=notrunc,sparse", "status=none")


@contextmanager
def mounted(disk, offset, size, directory, options="rw"):
    """A file system of a disk file, through a loop device."""
    directory.mkdir(exist_ok=True)
    make("mount", "-t", "ext4", "-o",
         f"loop,offset={offset},sizelimit={size},{options}", disk, directory)
    try:
        yield directory
    finally:
        done = run("umount", directory)
        if done.returncode:
            raise Failure(f"umount: {done.stderr}")
        _wait_until_detached(disk)


def _wait_until_detached(disk):
    """Another process's mount namespace may keep a copy of the mount."""
    deadline = time.monotonic() + 60
    while any(_content(file) == str(disk) for file in
              Path("/sys/block").glob("loop*/loop/backing_file")):
        if time.monotonic() > deadline:
            raise BadDraw(f"{disk} stays attached to a loop device")
        time.sleep(0.02)


def _content(file):
    try:
        return file.read_text().rstrip("\n")
    except OSError:  # detached meanwhile
        return ""
