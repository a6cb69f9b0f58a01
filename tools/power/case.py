"""What the cases of all phases share: a disk in a known state, a power cut or
several in a row, recovery as the machine would do it, and all checks."""

import random
import shutil

from .disk import Cut, powered, runs_until
from .site import BAD, Wrong, remove

LOGIN = r"new-desk login: "
TIMEOUT = 420
KEEP_BYTES = 4 << 30
# Of the first start's writes: the system has been set up.
LATER_START = 0.12


class Case:
    """`draw` decides everything, so that the same words do the same again, as
    nearly as a machine can.  `cuts_max` bounds the number of cuts."""
    phase = None

    def __init__(self, site, seed, number, cuts_max):
        self.site = site
        self.number = number
        self.draw = random.Random(f"{seed}/{self.phase}/{number}")
        self.cuts_max = cuts_max
        self.name = f"{self.phase}-{number}"
        self.cuts = []
        self.done = {"logins": 0, "rolled_back": 0, "files": 0}
        self.disk = site.work / f"{self.name}.img"

    def run(self):
        try:
            self.story()
        finally:
            # What a failure leaves is kept by whoever reports it.
            self.site.server.files.pop("script", None)

    def clean(self):
        remove(*self.site.work.glob(f"{self.name}.*"))

    def story(self):
        raise NotImplementedError

    def make_disk(self, worked):
        """Of a target that was worked with, or has never run."""
        if worked:
            self.site.copy(self.site.worked, self.disk.name)
        else:
            self.site.armed(self.disk.name)

    # Cuts.

    def next_cut(self, phase=None, share=1.0):
        """At a point of what an uncut run does, or of a `share` of that."""
        phase = phase or self.phase
        kind = self.draw.choice(("write", "flush"))
        most = max(1, int(self.site.ranges[phase][kind] * share))
        return Cut(phase, kind, self.draw.randint(1, most),
                   self.draw.getrandbits(32), recovery=bool(self.cuts))

    def left(self):
        """The share of the phase's work that the cuts so far have left."""
        share = 1.0
        for cut in self.cuts:
            done = cut.number / self.site.ranges[cut.phase][cut.kind]
            share *= max(0.03, 1 - done)
        return share

    def power(self, boot):
        return powered(self.site.program, self.disk, self.site.work,
                       self.name, **boot)

    def run_cut(self, boot, pattern, cut, snapshot=None):
        """Start, or go on where `snapshot` was taken, and lose power at
        `cut`, at the latest at `pattern`."""
        before = 0
        if snapshot:
            boot = self.site.snapshots.resume(snapshot, boot, self.disk)
            before = self.site.snapshots.known[snapshot][cut.kind]
        with self.power(boot) as (machine, disk):
            disk.arm(cut, before)
            seen = runs_until(machine, pattern, TIMEOUT, BAD)
            self.lose_power(disk, cut, seen)

    def cut_script(self, machine, disk, load, text):
        """Run it in the guest until the power goes; what the guest has
        said."""
        cut = self.next_cut()
        cut.recovery = False  # it had come up
        self.site.server.files["script"] = text
        url = self.site.server.guest_url("script")
        disk.tell("mark")
        disk.arm(cut)
        console = machine.console
        start = len(console.text)
        console.send(f"until wget -qO /run/script {url}; do sleep 1; done; "
                     "sh /run/script\n")
        seen = runs_until(machine, r"^LOAD-DONE", TIMEOUT, BAD)
        self.lose_power(disk, cut, seen)
        if machine.running():
            machine.wait_off(60)
        said = console.text[start:]
        load.heard(said)
        return said

    def lose_power(self, disk, cut, at_its_end):
        disk.settle(cut)
        if cut.late and not at_its_end:
            raise Wrong("the machine went off by itself")
        self.cuts.append(cut)
        self.keep_before()
        o = cut.outcome
        self.site.say(
            f"{self.name}: {cut.phase}: cut at {cut.kind} {cut.number}"
            f"{', at its end' if cut.late else ''}"
            f"{', in recovery' if cut.recovery else ''}: {o['unflushed']} "
            f"unflushed, {o['kept']} kept, {o['dropped']} dropped, "
            f"{o['torn']} torn")

    def keep_before(self):
        """What the cut has left, until recovery has been seen to work; where
        there is room for it."""
        if shutil.disk_usage(self.site.work).free > KEEP_BYTES:
            self.site.copy(self.disk, f"{self.name}.before.img")

    # Without a cut.

    def run_whole(self, boot, pattern):
        """Start, and see `pattern`."""
        with self.power(boot) as (machine, _):
            if not runs_until(machine, pattern, TIMEOUT, BAD):
                raise Wrong(f"the machine went off before {pattern!r}")

    def log_in(self, machine):
        machine.console.login(timeout=TIMEOUT)
        self.done["logins"] += 1

    def run_script(self, machine, text):
        """In the guest, from our own server."""
        self.site.server.files["script"] = text
        url = self.site.server.guest_url("script")
        machine.console.run(f"until wget -qO /run/script {url}; do sleep 1; "
                            "done; sh /run/script", TIMEOUT)

    def target_comes_up(self, load):
        """Login, and what was durable is there."""
        with self.power(self.site.target()) as (machine, _):
            self.log_in(machine)
            self.verify(machine, load)

    def verify(self, machine, load):
        self.run_script(machine, load.verify_script())

    def recover(self, load, logins):
        """The target comes up: on the machine in so many of the cases, else
        its driver on the host.  Then everything is looked at."""
        if self.draw.random() < logins or not self.site.snapshots.known:
            self.target_comes_up(load)
        else:
            self.site.recover_target(self.disk)
        self.site.check_map(self.disk)
        self.site.check_target(self.disk, load)
        self.done["files"] += len(load)

    def source_comes_back(self, boots=False):
        self.site.check_source(self.disk)
        self.done["rolled_back"] += 1
        if boots:
            with self.power({"firmware": "bios", "boot": "disk"}) as \
                    (machine, _):
                machine.console.expect(r"old-desk login: ", TIMEOUT, BAD)
            self.done["logins"] += 1
