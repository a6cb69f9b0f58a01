#!/usr/bin/env python3
"""Kills streamd's worker again and again while threads write to the device that
it serves, and hold what they read against what they wrote.

    kill_load.py DEVICE --control SOCKET --image FILE --kills N --seed S

DEVICE is an NBD socket or a block device; FILE is what it should have read at
the beginning.  Nobody flushes for long: what was answered must be there all
the same.  Prints one JSON object; exit code 0 only if nothing was wrong."""

import argparse
import ctypes
import json
import mmap
import os
import random
import socket
import stat
import struct
import sys
import threading
import time

BLOCK = 4096
REQUEST_MAX = 256 * 1024
THREADS = 8
BACK_WITHIN_S = 120
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 16
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64,
                           ctypes.c_int64]


class NbdClient:
    """One connection; connects again and repeats what was not answered."""
    READ, WRITE, FLUSH, ZEROES = 0, 1, 3, 6

    def __init__(self, path):
        self.path, self.socket, self.connects = path, None, 0

    def receive(self, size):
        parts, left = [], size
        while left:
            part = self.socket.recv(left)
            if not part:
                raise ConnectionError("hung up")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.path)
        self.connects += 1
        if self.receive(18)[:16] != b"NBDMAGICIHAVEOPT":
            raise RuntimeError("no NBD server")
        self.socket.sendall(struct.pack(">I", 3))
        self.socket.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 0))
        self.receive(10)

    def ask(self, command, offset, length, data=b""):
        while True:
            try:
                if self.socket is None:
                    self.connect()
                self.socket.sendall(struct.pack(
                    ">IHHQQI", 0x25609513, 0, command, 1, offset, length) + data)
                magic, error, _ = struct.unpack(">IIQ", self.receive(16))
                if magic != 0x67446698:
                    raise RuntimeError("no NBD reply")
                if error:
                    raise OSError(error, "NBD error")
                return self.receive(length) if command == self.READ else b""
            except (ConnectionResetError, BrokenPipeError):
                self.socket = None
            except ConnectionRefusedError:
                raise  # the keeper holds the socket: never
            except ConnectionError:
                self.socket = None

    def read(self, offset, size):
        return self.ask(self.READ, offset, size)

    def write(self, offset, data):
        self.ask(self.WRITE, offset, len(data), data)

    def zero(self, offset, size):
        self.ask(self.ZEROES, offset, size)

    def flush(self):
        self.ask(self.FLUSH, 0, 0)


class BlockDevice:
    """Direct I/O: nothing hides in the page cache."""
    connects = 0

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.memory = mmap.mmap(-1, REQUEST_MAX)
        # A loop device's discards are zeroes; others' are hints.
        self.zeroing = [FALLOC_FL_ZERO_RANGE]
        if os.path.basename(path).startswith("loop"):
            self.zeroing.append(FALLOC_FL_PUNCH_HOLE)

    def read(self, offset, size):
        view = memoryview(self.memory)[:size]
        if os.preadv(self.fd, [view], offset) != size:
            raise OSError("short read")
        return bytes(view)

    def write(self, offset, data):
        view = memoryview(self.memory)[:len(data)]
        view[:] = data
        if os.pwritev(self.fd, [view], offset) != len(data):
            raise OSError("short write")

    def zero(self, offset, size):
        mode = FALLOC_FL_KEEP_SIZE | random.choice(self.zeroing)
        if LIBC.fallocate(self.fd, mode, offset, size) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")

    def flush(self):
        os.fdatasync(self.fd)


def open_device(path):
    if stat.S_ISSOCK(os.stat(path).st_mode):
        return NbdClient(path)
    return BlockDevice(path)


class Worker(threading.Thread):
    """Writes to a part of the device that is its own."""

    def __init__(self, path, model, begin, end, seed):
        super().__init__(daemon=True)
        self.device = open_device(path)
        self.model, self.begin, self.end = model, begin, end
        self.random = random.Random(seed)
        self.stopping = False
        self.answered = 0
        self.slowest = 0  # seconds
        self.failure = None

    def run(self):
        try:
            while not self.stopping:
                began = time.monotonic()
                self.step()
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.answered += 1
        except Exception as error:  # pylint: disable=broad-except
            self.failure = f"{type(error).__name__}: {error}"

    def place(self, unit):
        size = unit * self.random.randint(1, self.random.choice(
            [1, 4, 16, REQUEST_MAX // unit]))
        size = min(size, REQUEST_MAX, self.end - self.begin)
        at = self.begin + self.random.randrange(
            (self.end - self.begin - size) // unit + 1) * unit
        return at, size

    def step(self):
        what = self.random.random()
        at, size = self.place(self.random.choice([512, BLOCK]))
        if what < 0.5:
            data = self.random.randbytes(size)
            self.device.write(at, data)
            self.model[at:at + size] = data
        elif what < 0.55:
            at, size = self.place(BLOCK)
            self.device.zero(at, size)
            self.model[at:at + size] = bytes(size)
        elif what < 0.57:
            self.device.flush()
        else:
            self.compare(at, size)

    def compare(self, at, size):
        got = self.device.read(at, size)
        if got != self.model[at:at + size]:
            first = next(i for i in range(size) if got[i] != self.model[at + i])
            raise RuntimeError(f"byte {at + first} differs "
                               f"(read {size} at {at})")

    def compare_all(self):
        for at in range(self.begin, self.end, REQUEST_MAX):
            self.compare(at, min(REQUEST_MAX, self.end - at))


def ask_status(control):
    """The driver's status; None while there is nobody to tell."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(BACK_WITHIN_S)
        client.connect(control)
        try:
            client.sendall(b'{"command": "status"}\n')
            line = b""
            while not line.endswith(b"\n"):
                part = client.recv(65536)
                if not part:
                    return None
                line += part
        except (ConnectionResetError, BrokenPipeError):
            return None
        return json.loads(line)


def wait_for(condition):
    """Its first true value; None when the time is up."""
    end = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    return None


def failure_of(workers):
    return next((w.failure for w in workers if w.failure), None)


def kill_once(control, workers, rng, number):
    """Why it went wrong, or None; and how long nobody answered, in seconds."""
    before = sum(w.answered for w in workers)
    wanted = before + rng.randint(1, 400)
    if not wait_for(lambda: failure_of(workers) or
                    sum(w.answered for w in workers) >= wanted):
        return "the load stands still", 0
    status = wait_for(lambda: ask_status(control))
    if not status:
        return "no status", 0
    if status["restarts"] != number:
        return f"{status['restarts']} restarts instead of {number}", 0
    time.sleep(rng.random() * 0.02)  # anywhere in what it does
    os.kill(status["pid"], 9)
    began = time.monotonic()
    if not wait_for(lambda: (ask_status(control) or {}).get("restarts") ==
                    number + 1):
        return "nobody came back", 0
    return failure_of(workers), time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    parser.add_argument("--control", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", help="write what the device should read")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with open(options.image, "rb") as file:
        model = bytearray(file.read())
    cuts = [len(model) * i // THREADS // BLOCK * BLOCK
            for i in range(THREADS + 1)]
    cuts[-1] = len(model)
    workers = [Worker(options.device, model, cuts[i], cuts[i + 1],
                      rng.randrange(1 << 32)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    started = (wait_for(lambda: ask_status(options.control)) or
               {"restarts": 0})["restarts"]
    failure, kills, outages = None, 0, []
    while kills < options.kills and failure is None:
        failure, seconds = kill_once(options.control, workers, rng,
                                     started + kills)
        kills += 1
        outages.append(seconds)
    for worker in workers:
        worker.stopping = True
    for worker in workers:
        worker.join(BACK_WITHIN_S)
        if worker.is_alive():
            failure = failure or "a request was never answered"
    failure = failure or failure_of(workers)
    try:
        if failure is None:
            for worker in workers:
                worker.compare_all()
    except Exception as error:  # pylint: disable=broad-except
        failure = f"at the end: {type(error).__name__}: {error}"
    if options.model:
        with open(options.model, "wb") as file:
            file.write(model)
    outages.sort()
    print(json.dumps({
        "kills": kills, "failure": failure, "seed": options.seed,
        "answered": sum(w.answered for w in workers),
        "connects": sum(w.device.connects for w in workers),
        "outage_median_s": round(outages[len(outages) // 2], 3),
        "outage_max_s": round(outages[-1], 3),
        "request_max_s": round(max(w.slowest for w in workers), 3)}))
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
