"""streamd over a disk, and a model of what the target must read back."""

import json
import mmap
import os
import signal
import subprocess
import time

from tools.soaks.generated_disks.nbd_client import NbdClient, NbdError
from tools.soaks.generated_disks.shell import (
    KIB, MIB, STREAMCTL, STREAMD, Failure, run)

_TIMEOUT_S = 60
# The anchor is bound to the image's partition table: these stay.
_HEAD_BYTES = 34 * 512
_TAIL_BYTES = 33 * 512


class Model:
    """The image, and what was written to it since."""

    def __init__(self, image):
        self._file = open(image, "rb")
        self.bytes = mmap.mmap(self._file.fileno(), 0,
                               access=mmap.ACCESS_COPY)
        self.size = len(self.bytes)

    def write(self, offset, data):
        self.bytes[offset:offset + len(data)] = data

    def expect(self, offset, data, told):
        if self.bytes[offset:offset + len(data)] == data:
            return
        for at in range(0, len(data), 512):
            if (self.bytes[offset + at:offset + at + 512] !=
                    data[at:at + 512]):
                raise Failure(f"{told}: byte {offset + at} of the target reads "
                              f"back wrong")

    def close(self):
        self.bytes.close()
        self._file.close()


class Streamd:
    """One run of the driver; `url` instead of the recorded servers."""

    def __init__(self, disk, folder, public_key, url, *options):
        self._folder = folder
        self.socket = folder / "nbd"
        self.control = folder / "control"
        self.log = open(folder / "streamd.log", "ab")
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [STREAMD, "run", "--disk", disk, "--frontend", "socket",
             "--socket", self.socket, "--control", self.control,
             "--status-file", folder / "status.json", "--pubkey", public_key,
             "--url", url, *options],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready:"):
            self.process.wait()
            raise Failure(f"streamd does not start: {self.said()}")

    def said(self):
        return (self._folder / "streamd.log").read_text()[-2000:]

    def client(self):
        return NbdClient(self.socket, _TIMEOUT_S)

    def status(self):
        done = run(STREAMCTL, "--control", self.control, "status", "--json")
        if done.returncode:
            raise Failure(f"streamctl status: {done.stderr} {self.said()}")
        return json.loads(done.stdout)

    def wait_complete(self):
        done = run(STREAMCTL, "--control", self.control, "wait", "complete",
                   timeout=_TIMEOUT_S)
        if done.returncode:
            raise Failure(f"wait complete: {done.stderr} {self.said()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(_TIMEOUT_S):
            raise Failure(f"streamd ended with {self.process.returncode}: "
                          f"{self.said()}")
        self._close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self):
        self.process.stdout.close()
        self.log.close()


class Target:
    """Uses the target as its own system would, for a while."""

    def __init__(self, model, rng, pool, room_chunks, chunk):
        self.model = model
        self.rng = rng
        self.pool = pool
        self.room = room_chunks  # chunks that may be written; None: any
        self.chunk = chunk
        self.touched = set()

    def _extent(self, most):
        """A range; where the room is counted, inside what was taken."""
        rng, size = self.rng, self.model.size
        grain = rng.choice([512, 4 * KIB, 4 * KIB])
        offset = rng.randrange(size // grain) * grain
        length = rng.randrange(1, most // grain + 1) * grain
        length = min(length, size - _TAIL_BYTES - offset)
        if offset < _HEAD_BYTES or length <= 0:
            return None
        if self.room is None:
            return offset, length
        for chunk in range(offset // self.chunk,
                           (offset + length - 1) // self.chunk + 1):
            if chunk not in self.touched and len(self.touched) >= self.room:
                return None
            self.touched.add(chunk)
        return offset, length

    def read_some(self, client, times):
        for _ in range(times):
            offset = self.rng.randrange(self.model.size // 512) * 512
            length = min(self.rng.choice([512, 4 * KIB, 200 * KIB, MIB]),
                         self.model.size - offset)
            self.model.expect(offset, client.read(offset, length), "a read")

    def read_all(self, client, told):
        for offset in range(0, self.model.size, 2 * MIB):
            length = min(2 * MIB, self.model.size - offset)
            self.model.expect(offset, client.read(offset, length), told)

    def write_some(self, client, times):
        for _ in range(times):
            extent = self._extent(300 * KIB)
            if extent is None:
                continue
            offset, length = extent
            kind = self.rng.random()
            if kind < 0.75:
                at = self.rng.randrange(len(self.pool) - length)
                data = self.pool[at:at + length]
                client.write(offset, data)
                self.model.write(offset, data)
            elif kind < 0.9:
                client.write_zeroes(offset, length)
                self.model.write(offset, bytes(length))
            else:
                self._trim(client, offset, length)

    def _trim(self, client, offset, length):
        """Afterwards each sector is what it was, or zeroes."""
        client.trim(offset, length)
        now = client.read(offset, length)
        for at in range(0, length, 512):
            sector = now[at:at + 512]
            if sector.count(0) == 512:
                self.model.write(offset + at, sector)
        self.model.expect(offset, now, "after a discard")

    def write_everything(self, client):
        end = self.model.size - _TAIL_BYTES
        for offset in range(_HEAD_BYTES, end, MIB):
            length = min(MIB, end - offset)
            at = self.rng.randrange(len(self.pool) - length)
            data = self.pool[at:at + length]
            client.write(offset, data)
            self.model.write(offset, data)

    def flush(self, client):
        client.flush()
