"""The main job, from the old system to the new one and back."""

import json

from tools.vm.machine import Machine

from . import checks
from .timeline import Timeline

BAD = r"Kernel panic|bootagent: FAILED|bootstream: the boot stops here"


class Story:
    """One migration of one machine.  `lab` is made and serving."""

    def __init__(self, lab, say):
        self.lab = lab
        self.say = say
        self.time = Timeline(say)
        self.result = {}

    def tell(self):
        """All of it; fills `result` for the JSON."""
        lab = self.lab
        self.disk = lab.fresh_disk()
        self.files_before = checks.list_files(self.disk)
        try:
            self._forward()
            self._look_at_the_disk()
            self._back()
        finally:
            self.disk.unlink()
        self._account()

    def _machine(self, **options):
        return Machine(self.disk, self.lab.work, name="workstation",
                       firmware=self.lab.firmware, boot="network",
                       boot_url=self.lab.boot_url, **options)

    def _forward(self):
        lab = self.lab
        lab.order_agent("migrate")
        with self._machine() as machine:
            console = machine.console
            self.time.watch(lambda: machine.network_bytes()[0])
            console.expect(r"bootagent: migrate: begins", 300, unless=BAD)
            self.time.phase("firmware, network boot of the agent")
            console.expect(r"bootagent: migrate: done", 900, unless=BAD)
            # From now on this machine goes to its own disk.
            lab.order_nothing()
            self.time.phase("migrate, until the target is armed")
            console.expect(r"new-desk login: ", 600, unless=BAD)
            self.time.phase("restart, target up to its login prompt")
            self.result["network_bytes_until_login"] = \
                machine.network_bytes()[0]
            self.result["target_login"] = True
            console.send("\n")
            console.login()
            self._work(machine)

    def _work(self, machine):
        """Write, flush, restart, find it again; then bring in the rest."""
        console = machine.console
        console.run("head -c 50000000 /dev/urandom > /root/work && "
                    "sha256sum /root/work > /root/work.sum && sync")
        console.run("apt-get --version && find /usr/share -type f | "
                    "head -n 3000 | xargs cat | wc -c", 600)
        self.time.phase("work on the target")
        # Counters begin anew with each start of the driver.
        before = json.loads(console.run("streamctl status --json").output)
        console.send("systemctl reboot\n")
        console.login(timeout=600)
        self.time.phase("restart of the target")
        console.run("sha256sum -c /root/work.sum")
        console.run("streamctl backfill resume")
        console.run("streamctl wait complete", 1200)
        self.time.phase("the rest of the image comes in")
        after = json.loads(console.run("streamctl status --json").output)
        self.driver_lives = (before, after)
        console.send("poweroff\n")
        machine.wait_off(300)
        self.time.phase("shut down")

    def _look_at_the_disk(self):
        dirty, wrong = checks.compare_with_image(self.lab, self.disk)
        self.say(f"the disk's image: {dirty / 1e6:.1f} MB written by the "
                 f"target, {len(wrong)} other blocks differ from the server's")
        self.result["blocks_wrong"] = len(wrong)
        self.agent_status = checks.agent_status(self.lab, self.disk)

    def _back(self):
        lab = self.lab
        lab.order_agent("rollback", "bootstream.ondone=poweroff")
        with self._machine() as machine:
            self.time.watch(lambda: machine.network_bytes()[0])
            machine.console.expect(r"bootagent: rollback: done", 900,
                                   unless=BAD)
            machine.wait_off(120)
            self.time.phase("roll back")
        self._compare_source()
        lab.order_disk()
        with self._machine() as machine:
            self.time.watch(lambda: machine.network_bytes()[0])
            machine.console.expect(r"login: ", 600, unless=BAD)
            self.time.phase("old system up to its login prompt")
            self.result["rollback_login"] = True

    def _compare_source(self):
        """All files as before, but for our own region file."""
        ours = "/.bootstream-region"
        after = [line for line in checks.list_files(self.disk).splitlines()
                 if not line.endswith(ours)]
        before = self.files_before.splitlines()
        changed = set(before) ^ set(after)
        for line in sorted(changed)[:10]:
            self.say("differs: " + line)
        self.result["source_file_intact"] = not changed
        self.say(f"the old system: {len(before)} files compared, "
                 f"{len(changed)} differences")

    def _account(self):
        manifest = self.lab.manifest()
        stored = sum(s["engine"]["demand_misses_stored_in_region"]
                     for s in self.driver_lives)
        self.result.update({
            "phases": self.time.phases,
            "image_bytes": manifest["image_bytes"],
            "image_used_bytes": manifest["data_bytes"],
            "image_used_bytes_compressed": manifest["packed_bytes"],
            "boot_set_chunks": manifest["boot_set_chunks"],
            "relocated_chunks": self.driver_lives[-1]["chunks"]["relocated"],
            "demand_misses_stored_in_region": stored,
            "frontend": self.driver_lives[-1]["frontend"],
        })

    def failures(self):
        """Sentences; empty if the story went as it should."""
        r = self.result
        wrong = []
        for key in ("target_login", "source_file_intact", "rollback_login"):
            if not r.get(key):
                wrong.append(f"{key} is not true")
        if r["frontend"] != "ublk":
            wrong.append("the target has ublk, and runs over " + r["frontend"])
        if r["blocks_wrong"]:
            wrong.append("clean blocks differ from the image")
        if 2 * r["relocated_chunks"] < r["boot_set_chunks"]:
            wrong.append("less than half of the boot set's homes held data")
        if r["demand_misses_stored_in_region"] == 0:
            wrong.append("no demand miss was stored in the region")
        if r["network_bytes_until_login"] > 0.30 * r["image_used_bytes"]:
            wrong.append("more than 30 % of the used bytes until login")
        return wrong
