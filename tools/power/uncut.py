"""One uncut run of each phase: how many writes and flushes there are."""

import random

from .cases import LOGIN, TIMEOUT, Stream
from .disk import powered, runs_until
from .guest import Load, victims
from .site import BAD, Wrong, remove


def measure(site):
    """Leaves `site` with ranges and with a target that was worked with."""
    Uncut(site).run()


class Uncut:
    def __init__(self, site):
        self.site = site
        self.disk = site.copy(site.released, "uncut.img")
        self.ranges = {}

    def run(self):
        site = self.site
        site.say("an uncut run of each phase, to know where cuts can be")
        self.phase("migrate", site.agent("migrate"),
                   "bootagent: migrate: done")
        self.phase("boot", site.target(), LOGIN, self.work)
        site.copy(self.disk, "worked.img")
        self.phase("rollback", site.agent("rollback"),
                   "bootagent: rollback: done")
        site.check_source(self.disk)
        remove(self.disk)
        site.say(f"writes and flushes: {self.ranges}")
        site.measure(self.ranges)

    def phase(self, name, boot, pattern, then=None):
        site = self.site
        with powered(site.program, self.disk, site.work, "uncut", **boot) as \
                (machine, disk):
            if not runs_until(machine, pattern, TIMEOUT, BAD):
                raise Wrong(f"uncut {name}: the machine went off")
            self.count(name, disk)
            if then:
                then(machine, disk)

    def count(self, name, disk):
        counts = disk.tell("counts")
        self.ranges[name] = {"write": counts["writes"],
                             "flush": counts["flushes"]}

    def work(self, machine, disk):
        site, console = self.site, machine.console
        console.send("\n")
        console.login(timeout=TIMEOUT)
        load = Load(random.Random("uncut"), victims(site.listing))
        site.server.files["script"] = load.script(Stream.rounds)
        url = site.server.guest_url("script")
        disk.tell("mark")
        console.run(f"wget -qO /run/script {url} && sh /run/script", TIMEOUT)
        self.count("stream", disk)
        console.send("poweroff\n")
        machine.wait_off(TIMEOUT)
