"""Machines that are kept as they ran, to begin there again in a moment: the
memory as QEMU migrates it, and the disk, of which only what differs from a
known one is stored."""

import json
import os
import time

from .disk import powered, runs_until
from .site import BAD, CHUNK, Wrong, chunks_with_data, remove

TIMEOUT = 420


class Snapshots:
    """Lie in the site's folder as NAME.ram and NAME.delta; snapshots.json
    says what they are, and which server's address is in their memory."""

    def __init__(self, site):
        self.site = site
        self._index = site.work / "snapshots.json"
        self.known = {}
        if self._index.exists():
            kept = json.loads(self._index.read_text())
            if kept["port"] == site.lab.port:
                self.known = kept["known"]

    def take(self, name, base, machine, disk):
        """Of a machine that runs, on a disk that came from `base`; it stops
        for a moment, and goes on."""
        work, qmp = self.site.work, machine.qmp
        qmp.command("stop")
        qmp.command("migrate-set-parameters",
                    **{"max-bandwidth": 1 << 40})
        qmp.command("migrate", uri=f"exec:cat >{work / name}.ram")
        while (state := qmp.command("query-migrate")["status"]) != "completed":
            if state in ("failed", "cancelled"):
                raise Wrong(f"snapshot {name}: {state}")
            time.sleep(0.05)
        counts = disk.tell("write-back")
        save_delta(base, disk.file, work / f"{name}.delta")
        qmp.command("cont")
        self.known[name] = {"write": counts["writes"],
                            "flush": counts["flushes"],
                            "base": base.name}
        self._index.write_text(json.dumps(
            {"port": self.site.lab.port, "known": self.known}) + "\n")

    def resume(self, name, boot, disk):
        """Make `disk` what it was; how to start."""
        work = self.site.work
        self.site.copy(work / self.known[name]["base"], disk.name)
        apply_delta(work / f"{name}.delta", disk)
        return {**boot, "extra": boot["extra"] + [
            "-incoming", f"exec:cat {work / name}.ram"]}

    def shell(self, base, boot, disk):
        """`disk` is what `base`, of the target, has become when it has come up
        and somebody has logged in; how to go on with that."""
        name = f"shell-{base.stem}"
        if name not in self.known:
            self.site.say(f"snapshot: {name}")
            fresh = self.site.copy(base, "snapshot.img")
            with powered(self.site.program, fresh, self.site.work, "snapshot",
                         **boot) as (machine, cache):
                machine.console.login(timeout=TIMEOUT)
                self.take(name, base, machine, cache)
            remove(*self.site.work.glob("snapshot.*"))
        return self.resume(name, boot, disk)

    def last_before(self, names, kind, number):
        """The latest of `names`, which are in order, that a cut at write or
        flush `number` comes after; None if there is none."""
        found = None
        for name in names:
            if name in self.known and self.known[name][kind] < number:
                found = name
        return found


def save_delta(base, disk, file):
    """What `disk` has otherwise than `base`."""
    numbers = []
    with open(base, "rb", 0) as a, open(disk, "rb", 0) as b, \
            open(file, "wb") as out:
        size = os.stat(base).st_size
        for number in sorted(chunks_with_data(a, size) |
                             chunks_with_data(b, size)):
            data = os.pread(b.fileno(), CHUNK, number * CHUNK)
            if data != os.pread(a.fileno(), CHUNK, number * CHUNK):
                numbers.append(number)
                out.write(data)
    file.with_suffix(".chunks").write_text(json.dumps(numbers))


def apply_delta(file, disk):
    with open(file, "rb") as data, open(disk, "r+b", 0) as out:
        for number in json.loads(file.with_suffix(".chunks").read_text()):
            os.pwrite(out.fileno(), data.read(CHUNK), number * CHUNK)


# Where the target's first start is kept: (name, share of its writes).
STARTS = (("start-0", None), ("start-1", 0.35), ("start-2", 0.7))


def make_all(site, snapshots, phases):
    """One start of the agent for each of its orders, one of the target; as the
    phases have use for them."""
    for order, base in (("migrate", site.released), ("rollback", site.worked)):
        if order in phases and order not in snapshots.known and \
                base.exists():
            site.say(f"snapshot: the agent, about to {order}")
            disk = site.copy(base, "snapshot.img")
            with powered(site.program, disk, site.work, "snapshot",
                         **site.agent(order)) as (machine, cache):
                see(machine, f"bootagent: {order}: begins")
                snapshots.take(order, base, machine, cache)
    if "shell" not in snapshots.known and {"boot", "stream"} & set(phases):
        make_target(site, snapshots)
    remove(*site.work.glob("snapshot.*"))


def make_target(site, snapshots):
    site.say("snapshots: the target's first start")
    disk = site.armed("snapshot.img")
    with powered(site.program, disk, site.work, "snapshot",
                 **site.target()) as (machine, cache):
        see(machine, r"ready: /dev/")
        for name, share in STARTS:
            while share and cache.tell("counts")["writes"] < \
                    share * site.ranges["boot"]["write"]:
                if not machine.running():
                    raise Wrong("the machine went off")
                if "login: " in machine.console.text:
                    return log_in(site, snapshots, machine, cache)
                time.sleep(0.1)
            snapshots.take(name, site.released, machine, cache)
        log_in(site, snapshots, machine, cache)


def log_in(site, snapshots, machine, cache):
    machine.console.login(timeout=TIMEOUT)
    snapshots.take("shell", site.released, machine, cache)


def see(machine, pattern):
    if not runs_until(machine, pattern, TIMEOUT, BAD):
        raise Wrong(f"the machine went off before {pattern!r}")
