"""fio, and what of its figures a benchmark needs."""

import json
import socket
import struct
import subprocess

CHUNK_BYTES = 128 << 10
# Whoever is silent for so long has lost a request: QEMU's HTTP driver does.
SECONDS_MAX = 300


class LoadError(Exception):
    pass


def fio(rw, block_bytes, depth, *, uri=None, file=None, offset=0, size=None,
        seconds=None, options=()):
    """Run one job against an NBD URI or a block device; the figures of its
    reads or writes, as fio's JSON has them.  Without `seconds`: once over the
    range, else again and again."""
    command = ["fio", "--name=load", f"--rw={rw}", f"--bs={block_bytes}",
               f"--iodepth={depth}", f"--offset={offset}",
               "--randrepeat=0", "--output-format=json"]
    if uri:
        command += ["--ioengine=nbd", f"--uri={uri}"]
    else:
        command += ["--ioengine=libaio", "--direct=1", f"--filename={file}"]
    if size is not None:
        command.append(f"--size={size}")
    if seconds is not None:
        command += ["--time_based", f"--runtime={seconds}", "--ramp_time=1",
                    "--norandommap"]
    try:
        done = subprocess.run(command + list(options), capture_output=True,
                              text=True, check=False,
                              timeout=SECONDS_MAX + (seconds or 0))
    except subprocess.TimeoutExpired:
        raise LoadError(f"no answer any more: {' '.join(command)}") from None
    if done.returncode:
        raise LoadError(f"{' '.join(command)}: {done.stderr}{done.stdout}")
    start = done.stdout.index("{")
    job = json.loads(done.stdout[start:])["jobs"][0]
    if job["error"]:
        raise LoadError(f"fio: error {job['error']}")
    return job["write" if "write" in rw else "read"]


def first_touches(uri, offset, size, seconds):
    """Latencies in ms, median and 99th percentile, of reads of 4 KiB, one after
    the other, each in a chunk that nobody has read."""
    figures = fio("randread", 4096, 1, uri=uri, offset=offset, size=size,
                  options=[f"--blockalign={CHUNK_BYTES}",
                           f"--runtime={seconds}"])
    found = figures["clat_ns"]["percentile"]
    return found["50.000000"] / 1e6, found["99.000000"] / 1e6


def megabytes_per_second(figures):
    return figures["bw_bytes"] / 1e6


def verify(uri, offset, size):
    """Random writes that are read back and compared."""
    fio("randwrite", 4096, 16, uri=uri, offset=offset, size=size,
        options=["--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                 "--verify_state_save=0"])


_NBD_REQUEST = struct.Struct(">IHHQQI")
_NBD_REPLY_BYTES = 16


class NbdReader:
    """Reads, one at a time, over an NBD socket."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.recv(18, socket.MSG_WAITALL)
        # Fixed newstyle, no zeroes; NBD_OPT_EXPORT_NAME of the default export.
        self._socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
        self._socket.recv(10, socket.MSG_WAITALL)
        self._buffer = bytearray(_NBD_REPLY_BYTES + (32 << 20))

    def read(self, offset, size):
        self._socket.sendall(_NBD_REQUEST.pack(0x25609513, 0, 0, 0, offset,
                                               size))
        wanted = memoryview(self._buffer)[:_NBD_REPLY_BYTES + size]
        while wanted:
            got = self._socket.recv_into(wanted, 0, socket.MSG_WAITALL)
            if got == 0:
                raise LoadError("the NBD server hung up")
            wanted = wanted[got:]
        if self._buffer[4:8] != bytes(4):
            raise LoadError(f"reading {size} bytes at {offset} failed")

    def close(self):
        self._socket.close()
