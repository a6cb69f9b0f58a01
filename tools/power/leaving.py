"""The phases from commit on: the old system is given up, everything settles, the
driver leaves, the system grows to the disk."""

from .case import LATER_START, LOGIN, TIMEOUT, Case
from .guest import Load, victims
from .site import Wrong


class Leaving(Case):
    """The target has come up, on a disk in the state `base`, and works, with
    `end` in the midst of it; power is cut from there on."""
    base = None
    rounds = 3
    end = ()

    def lines(self, load):
        return [*load.lines(self.rounds), *self.end, *load.lines(self.rounds)]

    def story(self):
        site, draw = self.site, self.draw
        load = Load(draw, victims(site.listing))
        boot = site.snapshots.shell(site.state(self.base), site.target(),
                                    self.disk)
        with self.power(boot) as (machine, disk):
            said = self.cut_script(machine, disk, load,
                                   load.script(*self.lines(load)))
        if len(self.cuts) < self.cuts_max and draw.random() < 0.3:
            self.run_cut(site.target(), LOGIN,
                         self.next_cut("boot", LATER_START))
        self.look(said)
        self.go_on(load)
        self.done["files"] += len(load)

    def look(self, said):
        """What the guest has said holds."""

    def go_on(self, load):
        """To the end, on the machine in a quarter of the cases, else on the
        host; then no driver is needed."""
        site = self.site
        if self.draw.random() < 0.25:
            with self.power(site.target()) as (machine, _):
                self.log_in(machine)
                self.verify(machine, load)
                # There may be no driver any more.
                machine.console.run(
                    "streamctl backfill resume; streamctl wait detached || "
                    "test ! -e /run/bootstream/control", TIMEOUT)
                self.verify(machine, load)
                self.turn_off(machine)
        elif site.is_streamed(self.disk):
            site.check_map(self.disk)
            site.settle_and_leave(self.disk, load)
        site.check_left(self.disk, load)

    def turn_off(self, machine):
        machine.console.send("poweroff\n")
        machine.wait_off(TIMEOUT)


class Commit(Leaving):
    """Committed or not; if the guest was told so, it is."""
    phase = "commit"
    base = "complete"
    end = ("streamctl commit --yes && echo COMMITTED",)

    def lines(self, load):
        return ["streamctl backfill pause", *super().lines(load)]

    def look(self, said):
        self.committed = self.site.status(self.disk).get("committed")
        if "\nCOMMITTED" in said and not self.committed:
            raise Wrong("the guest was told that it is committed")

    def go_on(self, load):
        if self.committed:
            super().go_on(load)
            return
        self.recover(load, 0.25)
        self.site.rollback(self.disk)
        self.source_comes_back()


class Settle(Leaving):
    """What is not at home moves there, while the guest works."""
    phase = "settle"
    base = "committed"
    rounds = 8
    end = ("streamctl wait settled",)

    def lines(self, load):
        return ["streamctl backfill limit 0", "streamctl backfill resume",
                *super().lines(load)]


class Detach(Leaving):
    """Hardly anything is left to move: the last of it, and the driver's
    leaving."""
    phase = "detach"
    base = "nearly"
    end = ("streamctl backfill limit 0", "streamctl backfill resume",
           "streamctl wait detached && echo DETACHED")

    def look(self, said):
        if "\nDETACHED" in said and self.site.is_streamed(self.disk):
            raise Wrong("the guest was told that the driver has left")


class Grow(Leaving):
    """The driver has left; partition table, partition and file system grow.
    The next start goes on with that."""
    phase = "grow"
    base = "detached"
    end = ("streamctl grow && echo GROWN",)

    def go_on(self, load):
        with self.power(self.site.target()) as (machine, _):
            self.log_in(machine)
            self.verify(machine, load)
            machine.console.run("streamctl grow", TIMEOUT)
            self.verify(machine, load)
            self.turn_off(machine)
        self.site.check_left(self.disk, load)
        self.site.check_grown(self.disk)
