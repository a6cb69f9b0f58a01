"""The phases of a migration, and of its ways back."""

from .case import LATER_START, LOGIN, TIMEOUT, Case
from .disk import runs_until
from .guest import Load, victims
from .site import BAD, Wrong
from .snapshots import STARTS


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
        text = load.script("streamctl backfill limit 4M",
                           "streamctl backfill resume",
                           *load.lines(self.rounds))
        self.cut_script(machine, disk, load, text)


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


class Return(Case):
    """The way back to the target, which is parked, is cut; the agent goes on
    with it, and once more back."""
    phase = "return"

    def story(self):
        site, draw = self.site, self.draw
        site.copy(site.parked(), self.disk.name)
        for _ in range(min(draw.choice((1, 2, 3)), self.cuts_max)):
            cut = self.next_cut(share=self.left())
            self.run_cut(site.agent("return"), r"bootagent: return: done", cut)
        if draw.random() < 0.3:
            self.run_whole(site.agent("return"), r"bootagent: return: done")
        else:
            site.bring_back(self.disk)
        if site.status(self.disk)["phase"] == "parked":
            raise Wrong("return ended, and the target is still parked")
        site.check_map(self.disk)
        site.check_target(self.disk)
        if draw.random() < 0.2:
            self.target_comes_up(Load(draw, []))
            site.check_map(self.disk)
        site.rollback(self.disk)
        self.source_comes_back()
