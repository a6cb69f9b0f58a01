"""One uncut run of each phase: how many writes and flushes there are."""

import random

from .case import LOGIN, TIMEOUT
from .disk import powered, runs_until
from .going import Stream
from .guest import Load, victims
from .leaving import Commit, Detach, Grow, Settle
from .site import BAD, Wrong, remove

LEAVING = (Commit, Settle, Detach, Grow)


def measure(site, phases):
    """Leaves `site` with ranges of them and with a target that was worked
    with."""
    leaving = {case.phase for case in LEAVING}
    if "migrate" not in site.measured and set(phases) - leaving:
        Uncut(site).run()
    for case in LEAVING:
        if case.phase in phases and case.phase not in site.measured:
            measure_leaving(site, case)


def measure_leaving(site, case):
    site.say(f"an uncut run of {case.phase}")
    disk = site.work / "uncut.img"
    load = Load(random.Random("uncut"), victims(site.listing))
    text = load.script(*case(site, 0, 0, 0).lines(load))
    boot = site.snapshots.shell(site.state(case.base), site.target(), disk)
    with powered(site.program, disk, site.work, "uncut", **boot) as \
            (machine, cache):
        site.server.files["script"] = text
        url = site.server.guest_url("script")
        cache.tell("mark")
        machine.console.send(f"wget -qO /run/script {url} && "
                             "sh /run/script\n")
        if not runs_until(machine, r"^LOAD-DONE", TIMEOUT, BAD):
            raise Wrong(f"uncut {case.phase}: the machine went off")
        counts = cache.tell("counts")
    site.measure({case.phase: {"write": counts["writes"],
                               "flush": counts["flushes"]}})
    site.say(f"writes and flushes: {site.ranges[case.phase]}")
    remove(disk)


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
        self.phase("return", site.agent("return"), "bootagent: return: done")
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
        site.server.files["script"] = load.script(
            "streamctl backfill limit 4M", "streamctl backfill resume",
            *load.lines(Stream.rounds))
        url = site.server.guest_url("script")
        disk.tell("mark")
        console.run(f"wget -qO /run/script {url} && sh /run/script", TIMEOUT)
        self.count("stream", disk)
        console.send("poweroff\n")
        machine.wait_off(TIMEOUT)
