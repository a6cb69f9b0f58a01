"""What the host finds on the disk of a machine that is off."""

import json
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .lab import TOOLS, LabError

CHUNK = 128 * 1024


def list_files(disk):
    """Mode, owner, size, digest of every file in the disk's root partition."""
    return subprocess.run([TOOLS / "images/list-files", disk], check=True,
                          stdout=subprocess.PIPE).stdout.decode()


def agent_status(lab, disk):
    return json.loads(lab.run(lab.program("bootagent"), "status", "--json",
                              "--disk", disk, output=True))


@contextmanager
def streamed(lab, disk, *options):
    """The target image of `disk` as an NBD socket; (NBD URI, ask)."""
    with tempfile.TemporaryDirectory(prefix="streamed-") as folder:
        nbd, control = f"{folder}/nbd", f"{folder}/control"
        process = subprocess.Popen(
            [lab.program("streamd"), "run", "--disk", str(disk), "--frontend",
             "socket", "--socket", nbd, "--control", control, "--status-file",
             f"{folder}/status", "--pubkey", str(lab.pubkey), "--url",
             f"http://127.0.0.1:{lab.port}", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            if not process.stdout.readline().startswith(b"ready"):
                raise LabError("streamd did not start")
            yield f"nbd+unix:///?socket={nbd}", lambda r: ask(control, r)
        finally:
            process.terminate()
            process.wait()


def ask(control, request):
    """One request to a driver's control socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(control)
        connection.sendall(json.dumps(request).encode() + b"\n")
        reply = b""
        while not reply.endswith(b"\n"):
            part = connection.recv(65536)
            if not part:
                raise LabError("streamd hung up")
            reply += part
    reply = json.loads(reply)
    if not reply["ok"]:
        raise LabError(reply["error"])
    return reply


@contextmanager
def copy_of_streamed(lab, disk):
    """The target image of `disk` as a file that goes away in the end; (path,
    dirty extents).  Other NBD clients must accept the device."""
    copy = lab.work / "streamed.img"
    try:
        with streamed(lab, disk, "--read-only") as (uri, control):
            lab.run("nbdinfo", uri)
            lab.run("qemu-img", "info", "-U", uri)
            lab.run("nbdcopy", uri, copy)
            if copy.stat().st_size != Path(lab.target).stat().st_size:
                raise LabError("the streamed device has another size than "
                               "the image")
            dirty = control({"command": "dirty"})["extents"]
        yield copy, dirty
    finally:
        copy.unlink(missing_ok=True)


def compare_with_image(lab, disk):
    """Every block that is not dirty must equal the image.  Returns (dirty
    bytes, blocks that differ though they are not dirty)."""
    with copy_of_streamed(lab, disk) as (copy, dirty):
        return sum(size for _, size in dirty), \
            differences(copy, lab.target, dirty)


def differences(path, reference, dirty):
    """Blocks of 4 KiB of `reference` that `path` has otherwise, without those
    of the extents `dirty`."""
    dirty_blocks = set()
    for offset, size in dirty:
        dirty_blocks.update(range(offset // 4096, (offset + size) // 4096))
    wrong, at = [], 0
    with Path(path).open("rb") as one, Path(reference).open("rb") as two:
        while b := two.read(CHUNK):
            a = one.read(len(b))
            if a != b:
                for i in range(0, len(a), 4096):
                    block = (at + i) // 4096
                    if a[i:i + 4096] != b[i:i + 4096] and \
                            block not in dirty_blocks:
                        wrong.append(block)
            at += len(b)
    return wrong


def chunks_outside(disk, extents):
    """Digest of every chunk of `disk` that lies in none of `extents`."""
    import hashlib
    ours = set()
    for first, count in extents:
        ours.update(range(first, first + count))
    digests = {}
    zero = hashlib.sha256(bytes(CHUNK)).digest()
    with Path(disk).open("rb") as file:
        number = 0
        while data := file.read(CHUNK):
            if number not in ours:
                digests[number] = zero if data == bytes(len(data)) else \
                    hashlib.sha256(data).digest()
            number += 1
    return digests
