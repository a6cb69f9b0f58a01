"""One case of each phase: a disk in a known state, a power cut or several in
a row, recovery as the machine would do it, and all checks."""

import random

from .disk import Cut, powered, runs_until
from .guest import Load, victims
from .site import BAD, Wrong, remove

LOGIN = r"new-desk login: "
TIMEOUT = 420


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
        self.disk = self.before = None

    def run(self):
        try:
            self.story()
        finally:
            # What a failure leaves is kept by whoever reports it.
            self.site.server.files.pop("script", None)

    def clean(self):
        remove(self.disk, self.before, *self.site.work.glob(f"{self.name}.*"))

    def story(self):
        raise NotImplementedError

    # Cuts.

    def next_cut(self, phase=None, share=1.0):
        """At a point of the first `share` of what an uncut run does."""
        phase = phase or self.phase
        kind = self.draw.choice(("write", "flush"))
        most = max(1, int(self.site.ranges[phase][kind] * share))
        return Cut(phase, kind, self.draw.randint(1, most),
                   self.draw.getrandbits(32), recovery=bool(self.cuts))

    def power(self, boot):
        return powered(self.site.program, self.disk, self.site.work,
                       self.name, **boot)

    def run_cut(self, boot, pattern, cut):
        """Start, and lose power at `cut`, at the latest at `pattern`."""
        with self.power(boot) as (machine, disk):
            disk.arm(cut)
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
        """What the cut has left, until recovery has been seen to work."""
        self.before = self.site.copy(self.disk, f"{self.name}.before.img")

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

    def target_comes_up(self, load=None):
        """Login, and what was durable is there."""
        with self.power(self.site.target()) as (machine, _):
            self.log_in(machine)
            self.verify(machine, load)

    def verify(self, machine, load):
        load = load or Load(self.draw, [])
        self.run_script(machine, load.verify_script())
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
        self.disk = site.copy(site.released, f"{self.name}.img")
        for _ in range(min(draw.choice((1, 2, 3, 4)), self.cuts_max)):
            self.run_cut(site.agent("migrate"), r"bootagent: migrate: done",
                         self.next_cut())
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
        if draw.random() < 0.4:
            self.target_comes_up()
            site.check_map(self.disk)
        site.rollback(self.disk)
        self.source_comes_back()


class Boot(Case):
    """The first start of the target, or a later one, is cut between its first
    write and login."""
    phase = "boot"

    def story(self):
        site, draw = self.site, self.draw
        if draw.random() < 0.5 and site.worked.exists():
            self.disk = site.copy(site.worked, f"{self.name}.img")
        else:
            self.disk = site.armed(f"{self.name}.img")
        boot = site.firmware() if draw.random() < 0.1 else site.target()
        # A third start that does not come up would be rolled back.
        for _ in range(min(draw.choice((1, 2)), self.cuts_max)):
            self.run_cut(boot, LOGIN, self.next_cut())
        self.target_comes_up()
        site.check_map(self.disk)
        if draw.random() < 0.5:
            site.check_target(self.disk)
        site.rollback(self.disk)
        self.source_comes_back()


class Stream(Case):
    """The target works, and what is missing comes in, when the power goes;
    sometimes it goes again in the start that follows."""
    phase = "stream"
    rounds = 24

    def story(self):
        site, draw = self.site, self.draw
        fresh = draw.random() < 0.7 or not site.worked.exists()
        self.disk = site.armed(f"{self.name}.img") if fresh else \
            site.copy(site.worked, f"{self.name}.img")
        load = Load(draw, victims(site.listing))
        for _ in range(min(draw.choice((2, 3, 3)), self.cuts_max)):
            with self.power(site.target()) as (machine, disk):
                self.log_in(machine)
                self.verify(machine, load)
                self.work(machine, disk, load)
            if len(self.cuts) < self.cuts_max and draw.random() < 0.6:
                self.run_cut(site.target(), LOGIN, self.next_cut("boot"))
            site.check_map(self.disk)
        self.target_comes_up(load)
        site.check_target(self.disk)
        if not site.worked.exists():
            site.copy(self.disk, "worked.img")
        site.rollback(self.disk)
        self.source_comes_back()

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
        if draw.random() < 0.8 and site.worked.exists():
            self.disk = site.copy(site.worked, f"{self.name}.img")
        else:
            self.disk = site.armed(f"{self.name}.img")
        wished = draw.random() < 0.5
        if wished:
            site.wish_rollback(self.disk)
        for _ in range(min(draw.choice((1, 2, 3, 4)), self.cuts_max)):
            self.run_cut(*self.way(wished), self.next_cut())
        if draw.random() < 0.3:
            self.run_whole(*self.way(wished))
        # Done already: says so, and changes nothing.
        site.rollback(self.disk)
        self.source_comes_back(boots=draw.random() < 0.2)

    def way(self, wished):
        """The target's initramfs knows the wish as long as it is on the disk;
        where it finds no target any more, the firmware comes to the agent."""
        by_target = wished and self.site.status(self.disk)["rollback_wished"]
        if by_target and self.draw.random() < 0.7:
            return self.site.target(), r"the old system is back"
        return self.site.agent("rollback"), r"bootagent: rollback: done"


CASES = {case.phase: case for case in (Migrate, Boot, Stream, Rollback)}
