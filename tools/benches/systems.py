"""What is measured side by side: our driver and its peers, each of which offers
an image from an HTTP server and keeps what has been read."""

import json
import signal
import subprocess
import time

from tools.benches.site import SiteError, here, run
from tools.programs import STREAMCTL, STREAMD, STREAMD_UNVERIFIED


class Process:
    """A program in the background, stopped at the end."""

    def __init__(self, command, log):
        self.log = log
        self._out = log.open("ab")
        self.process = subprocess.Popen([str(word) for word in command],
                                        stdin=subprocess.DEVNULL,
                                        stdout=self._out, stderr=self._out)

    def wait_for(self, path):
        while not path.exists():
            if self.process.poll() is not None:
                raise SiteError(f"ended with {self.process.returncode}: "
                                f"{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def rss_bytes(self, which="VmRSS"):
        """Memory that it has now, or with "VmHWM" had at most."""
        for line in open(f"/proc/{self.process.pid}/status", encoding="ascii"):
            if line.startswith(which + ":"):
                return int(line.split()[1]) * 1024
        raise SiteError(f"no {which}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:  # a peer whose server is gone
            self.process.kill()
            self.process.wait()
        self._out.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Ours(Process):
    """streamd over a migrated disk: `disk`, or a fresh one, which comes from `url`
    too, unless that would take long."""
    name = "bootstream"
    program = STREAMD

    def __init__(self, site, url, frontend="socket", migrate_from=None,
                 prefix=here, disk=None):
        repository = f"{url}/{site.repo.name}"
        self.disk = disk or site.migrated_disk(
            "ours.img", f"{migrate_from or url}/{site.repo.name}")
        self.socket = site.work / "ours.sock"
        self.control = site.work / "ours.control"
        self.socket.unlink(missing_ok=True)
        self.status_file = site.work / "ours.status"
        self.status_file.unlink(missing_ok=True)
        self.started = time.monotonic()
        super().__init__(
            prefix(self.program, "run", "--disk", self.disk, "--frontend", frontend,
                   "--socket", self.socket, "--mount", site.work / "fuse",
                   "--control", self.control, "--status-file",
                   self.status_file, "--pubkey", site.public_key, "--url",
                   repository, "--backfill-paused", "--lock-memory"),
            site.work / "ours.log")
        self.wait_for(self.status_file)
        self.uri = f"nbd+unix:///?socket={self.socket}"

    def status(self):
        return json.loads(run(STREAMCTL, "--control", self.control, "status",
                              "--json"))

    def device(self):
        return self.status()["device"]

    def received_bytes(self):
        return self.status()["source"]["bytes_received"]

    def compare(self, image):
        """What it serves is the image, to the last byte."""
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", self.uri, image)

    def backfill(self, *words):
        run(STREAMCTL, "--control", self.control, "backfill", *words)

    def complete(self):
        self.backfill("resume")
        run(STREAMCTL, "--control", self.control, "wait", "complete")


class Unverified(Ours):
    """The same, but for the digests of what comes from the server."""
    name = "bootstream, unverified"
    program = STREAMD_UNVERIFIED


class StorageDaemon(Process):
    """QEMU storage daemon: HTTP, copied on read into a qcow2."""
    name = "qemu-storage-daemon"

    def __init__(self, site, url, prefix=here):
        self.overlay = site.work / "qsd.qcow2"
        self.overlay.unlink(missing_ok=True)
        self.socket = site.work / "qsd.sock"
        self.socket.unlink(missing_ok=True)
        source = f"{url}/{site.image.name}"
        run(*prefix("qemu-img", "create", "-f", "qcow2", "-b", source, "-F",
                    "raw", self.overlay))
        blocks = [f"driver=http,node-name=src,url={source},read-only=on",
                  f"driver=file,node-name=f,filename={self.overlay}",
                  "driver=qcow2,node-name=ov,file=f,backing=src",
                  "driver=copy-on-read,node-name=cor,file=ov"]
        super().__init__(
            prefix("qemu-storage-daemon",
                   *(word for block in blocks for word in ("--blockdev", block)),
                   "--nbd-server", f"addr.type=unix,addr.path={self.socket}",
                   "--export", "type=nbd,id=e,node-name=cor,name=,writable=on"),
            site.work / "qsd.log")
        self.wait_for(self.socket)
        self.uri = f"nbd+unix:///?socket={self.socket}"


class Nbdkit(Process):
    """nbdkit's curl plugin under its copy-on-write filter, which keeps what is
    read until it ends."""
    name = "nbdkit curl + cow"

    def __init__(self, site, url):
        self.socket = site.work / "nbdkit.sock"
        self.socket.unlink(missing_ok=True)
        super().__init__(
            ["nbdkit", "--foreground", "-U", self.socket, "--filter=cow",
             "curl", f"url={url}/{site.image.name}", "cow-on-read=true"],
            site.work / "nbdkit.log")
        self.wait_for(self.socket)
        self.uri = f"nbd+unix:///?socket={self.socket}"


class QemuFuse(Process):
    """A raw file through QEMU's FUSE export, with a loop device on it."""
    name = "qemu raw, FUSE export"

    def __init__(self, site):
        self.file = site.work / "qemu-fuse.img"
        run("cp", "--sparse=always", site.image, self.file)
        self.mount = site.work / "qemu-fuse"
        self.mount.touch()
        super().__init__(
            ["qemu-storage-daemon",
             "--blockdev", f"driver=file,node-name=f,filename={self.file}",
             "--blockdev", "driver=raw,node-name=r,file=f",
             "--export",
             f"type=fuse,id=e,node-name=r,mountpoint={self.mount},writable=on"],
            site.work / "qemu-fuse.log")
        while self.mount.stat().st_size == 0:
            if self.process.poll() is not None:
                raise SiteError(self.log.read_text())
            time.sleep(0.02)
        self._loop = run("losetup", "--find", "--show", "--direct-io=on",
                         self.mount).strip()

    def device(self):
        return self._loop

    def stop(self):
        run("losetup", "-d", self._loop)
        super().stop()
