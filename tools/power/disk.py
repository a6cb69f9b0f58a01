"""A disk file that a virtual machine uses through a volatile cache."""

import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass

from tools.vm.console import ConsoleEnded
from tools.vm.machine import Machine


class PowerError(Exception):
    pass


@dataclass
class Cut:
    """Where the power goes, and what came of it."""
    phase: str
    kind: str  # "write" or "flush"
    number: int  # of them, from the mark on
    seed: int  # what becomes of writes that were not flushed
    recovery: bool  # the boot before was cut too
    late: bool = False  # what was to be cut had ended before
    outcome: dict = None


class PowerDisk:
    """tests/support/serve_volatile, for one time with the power on."""

    def __init__(self, program, file):
        self.file = file
        self._folder = tempfile.mkdtemp(prefix="power-")
        self.uri = f"nbd+unix:///?socket={self._folder}/nbd"
        # It ends when we do, whatever our end is.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, "--file", str(file),
             "--socket", f"{self._folder}/nbd"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready\n")

    def tell(self, command):
        """A command's answer; the cut's, if the power has gone meanwhile."""
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise PowerError("serve_volatile ended without a word")
        return json.loads(line)

    def arm(self, cut, before=0):
        """`before` of them were counted when the power was on the last
        time."""
        self.tell(f"cut-at-{cut.kind} {cut.number - before} {cut.seed}")

    def settle(self, cut):
        """Off: if the power has not gone by itself, it goes now."""
        answer = self.tell(f"cut {cut.seed}")
        if "cut" not in answer:
            raise PowerError(f"serve_volatile: {answer}")
        cut.outcome = answer["cut"]
        cut.late = bool(cut.outcome["by_command"])

    def close(self):
        """All that was written is kept."""
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _expect(self, line):
        if self._process.stdout.readline() != line:
            self.close()
            raise PowerError("serve_volatile did not start")


@contextmanager
def powered(program, file, work, name, **options):
    """(machine, disk) with the power on; off at the end, all that was written
    kept."""
    disk = PowerDisk(program, file)
    try:
        # "writeback": the guest sees a cache, and its flushes are passed on.
        with Machine(disk.uri, work, name=name, memory="1G",
                     cache="writeback", **options) as machine:
            disk.tell(f"victim {machine.pid}")
            if "-incoming" in options.get("extra", ()):
                go_on(machine)
            yield machine, disk
    finally:
        disk.close()


def go_on(machine):
    """A machine that was kept stands still when it is there again."""
    while machine.qmp.command("query-status")["status"] == "inmigrate":
        time.sleep(0.05)
    machine.qmp.command("cont")


def runs_until(machine, pattern, timeout, unless=None):
    """Wait for `pattern`; False if the machine went off before."""
    try:
        machine.console.expect(pattern, timeout, unless)
        return True
    except ConsoleEnded:
        machine.wait_off(60)
        return False
