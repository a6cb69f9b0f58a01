"""One case of each phase: a disk in a known state, a power cut or several in
a row, recovery as the machine would do it, and all checks."""

import random
import shutil

from .disk import Cut, powered, runs_until
from .guest import Load, victims
from .site import BAD, Wrong, remove
from .snapshots import STARTS

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


class Migrate(Case):
    """The agent's migration is cut, once or several times in a row; the agent
    goes on to the end, or back."""
    phase = "migrate"

    def story(self):
        site, draw = self.site, self.draw
        site.copy(site.released, self.disk.name)
        for _ in range(min(draw.choice((1, 2, 3, 4)), self.cuts_max)):
            cut = self.next_cut(share=self.left())
            first = not self.cuts and site.snapshots.last_before(
                ["migrate"], cut.kind, cut.number)
            self.run_cut(site.agent("migrate"), r"bootagent: migrate: done",
                         cut, first)
        if draw.random() < 0.3:
            site.rollback(self.disk)
            self.source_comes_back()
            return
        if draw.random() < 0.3:
            self.run_whole(site.agent("migrate"), r"bootagent: migrate: done")
        else:
            site.migrate(self.disk)
        if site.status(self.disk)["phase"] != "armed":
            raise Wrong("migrate ended, and the disk is not armed")
        site.check_map(self.disk)
        if draw.random() < 0.15:
            self.target_comes_up(Load(draw, []))
            site.check_map(self.disk)
        site.rollback(self.disk)
        self.source_comes_back()


class Boot(Case):
    """The first start of the target, or a later one, is cut between its first
    write and login."""
    phase = "boot"

    def story(self):
        site, draw = self.site, self.draw
        again = draw.random() < 0.25 and site.worked.exists()
        boot = site.firmware() if draw.random() < 0.1 else site.target()
        # A third start that does not come up would be rolled back.
        for _ in range(min(draw.choice((1, 2)), self.cuts_max)):
            later = again or bool(self.cuts)
            cut = self.next_cut(share=LATER_START if later else 1.0)
            fresh = not later and "extra" in boot
            start = fresh and self.last_start(cut)
            if not start and not self.cuts:
                self.make_disk(again)
            self.run_cut(boot, LOGIN, cut, start)
        self.recover(Load(draw, []), 0.25)
        site.rollback(self.disk)
        self.source_comes_back()

    def last_start(self, cut):
        return self.site.snapshots.last_before(
            [name for name, _ in STARTS], cut.kind, cut.number)


class Stream(Case):
    """The target works, and what is missing comes in, when the power goes;
    sometimes it goes again in the start that follows."""
    phase = "stream"
    rounds = 24

    def story(self):
        site, draw = self.site, self.draw
        again = draw.random() < 0.2 and site.worked.exists()
        load = Load(draw, victims(site.listing))
        for _ in range(min(draw.choice((1, 1, 1, 2)), self.cuts_max)):
            if self.cuts:
                self.work_after_login(load)
            elif again or "shell" not in site.snapshots.known:
                self.make_disk(again)
                self.work_after_login(load)
            else:
                self.work_in_shell(load)
            if len(self.cuts) < self.cuts_max and draw.random() < 0.4:
                self.run_cut(site.target(), LOGIN,
                             self.next_cut("boot", LATER_START))
            site.check_map(self.disk)
        self.recover(load, 0.25)
        if not site.worked.exists():
            site.copy(self.disk, "worked.img")
        site.rollback(self.disk)
        self.source_comes_back()

    def work_after_login(self, load):
        with self.power(self.site.target()) as (machine, disk):
            self.log_in(machine)
            if len(load):
                self.verify(machine, load)
            self.work(machine, disk, load)

    def work_in_shell(self, load):
        boot = self.site.snapshots.resume("shell", self.site.target(),
                                          self.disk)
        with self.power(boot) as (machine, disk):
            self.work(machine, disk, load)

    def work(self, machine, disk, load):
        """Load until the power goes."""
        cut = self.next_cut()
        cut.recovery = False  # it had come up
        self.site.server.files["script"] = load.script(self.rounds)
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
        load.heard(console.text[start:])


class Rollback(Case):
    """The way back is cut: by the agent, or by the target's initramfs."""
    phase = "rollback"

    def story(self):
        site, draw = self.site, self.draw
        worked = draw.random() < 0.8 and site.worked.exists()
        self.make_disk(worked)
        wished = draw.random() < 0.5
        if wished:
            site.wish_rollback(self.disk)
        for _ in range(min(draw.choice((1, 2, 3, 4)), self.cuts_max)):
            cut = self.next_cut(share=self.left())
            boot, pattern = self.way(wished)
            first = worked and not wished and not self.cuts
            self.run_cut(boot, pattern, cut,
                         first and site.snapshots.last_before(
                             ["rollback"], cut.kind, cut.number))
        if draw.random() < 0.3:
            self.run_whole(*self.way(wished))
        # Done already: says so, and changes nothing.
        site.rollback(self.disk)
        self.source_comes_back(boots=draw.random() < 0.2)

    def way(self, wished):
        """The target's initramfs knows the wish as long as it is on the disk;
        where it finds no target any more, the firmware comes to the agent."""
        by_target = wished and \
            self.site.status(self.disk).get("rollback_wished")
        if by_target and self.draw.random() < 0.7:
            return self.site.target(), r"the old system is back"
        return self.site.agent("rollback"), r"bootagent: rollback: done"


CASES = {case.phase: case for case in (Migrate, Boot, Stream, Rollback)}
