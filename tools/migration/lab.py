"""Everything that a migration needs, made from nothing and kept in a folder:
keys, package, source disk, target image, repository, image server."""

import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"

AGENT_SCRIPT = """#!ipxe
kernel {base}/vmlinuz initrd=initrd.img console=ttyS0 {orders}
initrd --name initrd.img {base}/initrd.img
boot
"""
DISK_SCRIPTS = {
    "uefi": "#!ipxe\nexit\n",
    "bios": "#!ipxe\nsanboot --no-describe --drive 0x80\n",
}


class LabError(Exception):
    pass


class Lab:
    """Files lie in `work`; what is there already is used again.  Programs come
    from `build`.  `say` prints a line of progress."""

    image = "desk"
    # What a lab with other systems has otherwise.
    source_options = target_options = build_options = ()
    booted = "login:"  # the target's console says this when it has come up
    boot_seconds = 900  # and that is the longest it may take

    def __init__(self, work, build, firmware, say):
        self.work = Path(work)
        self.build = Path(build)
        self.firmware = firmware
        self.say = say
        self.repo = self.work / "repo"
        self.source = self.work / "source.img"
        self.source_files = self.work / "source.files"
        self.target = self.work / "target.img"
        self.trace = self.work / f"target.{firmware}.trace"
        self.key = self.work / "office"
        self.pubkey = self.work / "office.pub"
        self.server = None
        self.port = None  # a free one, unless set before serving
        self.work.mkdir(parents=True, exist_ok=True)

    def program(self, name):
        for folder in ("bootagent", "imgserver", "initramfs"):
            path = self.build / folder / name
            if path.is_file():
                return str(path)
        raise LabError(f"{self.build}: no program {name}; build first")

    def run(self, *command, output=False):
        """Run a command to its end; its output goes to a log of the lab."""
        words = [str(word) for word in command]
        log = self.work / "commands.log"
        with log.open("ab") as file:
            file.write(("+ " + " ".join(words) + "\n").encode())
            file.flush()
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stderr=file,
                stdout=subprocess.PIPE if output else file)
        if done.returncode != 0:
            tail = b"\n".join(log.read_bytes().splitlines()[-30:])
            raise LabError(f"{words[0]} ended with {done.returncode}:\n"
                           + tail.decode(errors="replace"))
        return done.stdout.decode() if output else ""

    def make(self):
        """All of it; the source, which nothing else needs, beside the rest."""
        with ThreadPoolExecutor(1) as aside:
            source = aside.submit(
                self._step, "source: Debian 12 with users' files", self.source,
                self._make_source)
            self._make_target_side()
            source.result()

    def _make_target_side(self):
        self._step("keys", self.pubkey, self._make_keys)
        self._step("package for Debian 13", self.work / "package",
                   self._make_package)
        self._step("target: Debian 13 with our package", self.target,
                   self._make_target)
        self._step("agent's boot files", self.repo / "boot" / "initrd.img",
                   self._make_agent)
        self._step("trace: watch a boot", self.trace, self._watch)
        self._step("image: build, sign",
                   self.repo / "images" / self.image / "latest",
                   self._publish)

    def fresh_disk(self, name="disk.img"):
        """A copy of the source disk for a machine to use."""
        disk = self.work / name
        self.run("cp", "--sparse=always", self.source, disk)
        return disk

    def __enter__(self):
        self._serve()
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.terminate()
            self.server.wait()
            self.server = None

    @contextmanager
    def without_server(self):
        """It is away, and then there again."""
        self.__exit__()
        yield
        self._serve()

    @property
    def boot_url(self):
        return f"http://10.0.2.2:{self.port}/boot/boot.ipxe"

    def order_agent(self, action, *more):
        """From the next network boot on: the agent, with this order."""
        url = f"http://10.0.2.2:{self.port}"
        orders = [f"bootstream.action={action}", f"bootstream.server={url}",
                  f"bootstream.image={self.image}",
                  "bootstream.onerror=poweroff", *more]
        self._write_script(AGENT_SCRIPT.format(
            base=url + "/boot", orders=" ".join(orders)))

    def order_nothing(self):
        """From the next network boot on: the agent without an order, which
        starts an armed disk.  A BIOS cannot be told to: its script does it."""
        if self.firmware == "bios":
            self.order_disk()
            return
        self._write_script(AGENT_SCRIPT.format(
            base=f"http://10.0.2.2:{self.port}/boot",
            orders="bootstream.onerror=poweroff"))

    def order_disk(self):
        """From the next network boot on: go on to the machine's own disk."""
        self._write_script(DISK_SCRIPTS[self.firmware])

    def manifest(self):
        return json.loads(self.run(
            self.program("imgtool"), "show", "--repo", self.repo, "--pubkey",
            self.pubkey, "--json", self.image, output=True))

    def _step(self, what, outcome, make):
        if outcome.exists():
            return
        start = time.monotonic()
        self.say(f"make {what}")
        make()
        if not outcome.exists():
            raise LabError(f"{outcome} was not made")
        self.say(f"made {what.split(':')[0]}: "
                 f"{time.monotonic() - start:.0f} s")

    def _make_keys(self):
        self.run(self.program("imgtool"), "keygen", "--out", self.key)

    def _make_package(self):
        fresh = self.work / "package.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self.run(TOOLS / "build-deb", "--release", "trixie", "--out", fresh)
        fresh.rename(self.work / "package")

    def _make_source(self):
        self.run(TOOLS / "images/make-source", self.source,
                 *self.source_options)

    def _make_target(self):
        deb, = (self.work / "package").glob("*.deb")
        self.run(TOOLS / "images/make-target", self.target, "--deb", deb,
                 "--file", f"{self.pubkey}:/etc/bootstream/pubkey.pem",
                 *self.target_options)

    def _make_agent(self):
        self.run(TOOLS / "images/make-agent", self.target, self.repo / "boot",
                 "--pubkey", self.pubkey)

    def _watch(self):
        self.run(self.program("imgtool"), "trace", "--disk", self.target,
                 "--firmware", self.firmware, "--out", self.trace, "--until",
                 self.booted, "--timeout", self.boot_seconds)

    def _publish(self):
        self.run(self.program("imgtool"), "build", "--disk", self.target,
                 "--name", self.image, "--version", "13.0", "--repo",
                 self.repo, "--key", self.key, "--trace", self.trace,
                 *self.build_options)

    def _serve(self):
        port_file = self.work / "port"
        port_file.unlink(missing_ok=True)
        log = (self.work / "server.log").open("ab")
        self.server = subprocess.Popen(
            [self.program("imgserver"), "serve", "--repo", str(self.repo),
             "--listen", f"127.0.0.1:{self.port or 0}",
             "--port-file", str(port_file),
             "--access-log", str(self.work / "access.log")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not port_file.exists() or not port_file.read_text().strip():
            try:
                self.server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise LabError("imgserver ended: see " + log.name)
        self.port = int(re.sub(r"\D", "", port_file.read_text()))

    def _write_script(self, text):
        path = self.repo / "boot" / "boot.ipxe"
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, path)
