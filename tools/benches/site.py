"""The disks, the image and the servers that benchmarks share."""

import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tools.programs import AGENT, BUILD, IMGTOOL, ROOT

MIB = 1 << 20
os.environ["PATH"] += ":/usr/sbin:/sbin"


class SiteError(Exception):
    pass


def run(*arguments, timeout=1800):
    """A program that must succeed; its output."""
    done = subprocess.run([str(a) for a in arguments], text=True,
                          capture_output=True, timeout=timeout, check=False)
    if done.returncode:
        raise SiteError(f"{' '.join(map(str, arguments))} ended with "
                        f"{done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


@contextmanager
def folder(lab):
    """`lab`, or one on tmpfs that goes away at the end."""
    if lab:
        Path(lab).mkdir(parents=True, exist_ok=True)
        yield Path(lab)
        return
    with tempfile.TemporaryDirectory(prefix="bootstream-bench.",
                                     dir="/dev/shm") as made:
        yield Path(made)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """In `work`: a disk full of a Debian system (image.img), published as
    `name`, and an old system's disk to move to it.  What is there already is
    used again.  `quick`: a small disk, of our own programs."""

    name = "bench"

    def __init__(self, work, quick=False):
        self.work = work
        self.quick = quick
        self.image = work / "image.img"
        self.repo = work / "repo"
        self.key = work / "key"
        self.public_key = work / "key.pub"

    def make(self):
        if not self.image.exists():
            self._make_image()
        if not self.public_key.exists():
            run(IMGTOOL, "keygen", "--out", self.key)
        if not (self.repo / "images" / self.name / "latest").exists():
            run(IMGTOOL, "build", "--disk", self.image, "--name", self.name,
                "--version", "1", "--repo", self.repo, "--key", self.key)
        return self

    def root(self):
        """Where the image's root file system is: offset and size in bytes.  It
        is what a boot set has least of."""
        table = json.loads(run("sfdisk", "--json", self.image))
        found, = (part for part in table["partitiontable"]["partitions"]
                  if part.get("name") == "root")
        return found["start"] * 512, found["size"] * 512 // MIB * MIB

    def _make_image(self):
        fresh = self.work / "image.new"
        if self.quick:
            source = BUILD / "initramfs"
        else:
            source = self.work / "debian.img"
            run(ROOT / "tools/images/make-target", source)
        run(ROOT / "tools/benches/pack-disk", source, fresh)
        if not self.quick:
            source.unlink()
        fresh.rename(self.image)

    def migrated_disk(self, name, url):
        """A fresh disk of an old system, moved as far as the first boot."""
        disk = self.work / name
        disk.unlink(missing_ok=True)
        size = 3 * self.image.stat().st_size + 1024 * MIB
        with disk.open("wb") as file:
            file.truncate(size)
        subprocess.run(["sfdisk", "-q", disk], input="2048,,L\n", text=True,
                       check=True, stdout=subprocess.DEVNULL)
        run("mkfs.ext4", "-q", "-E", f"offset={MIB}", disk,
            f"{size // MIB - 2}M")
        run(AGENT, "migrate", "--yes", "--disk", disk, "--server", url,
            "--image", self.name, "--pubkey", self.public_key, "--headroom",
            128 * MIB)
        return disk


def here(*command):
    """A command as it is: no namespace of its own."""
    return list(command)


class Nginx:
    """A plain HTTP server for the folder of a site.  `prefix` makes of a command
    one that runs elsewhere, at `address`."""

    def __init__(self, site, prefix=here, address="127.0.0.1"):
        self.port = free_port()
        self.url = f"http://{address}:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="nginx.",
                                                   dir=site.work)
        where = self._folder.name
        config = Path(where) / "nginx.conf"
        temporary = "".join(f"  {kind}_temp_path {where}/{kind};\n" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi",
                             "scgi"))
        config.write_text(f"""daemon off;
user root;
pid {where}/pid;
error_log {where}/log;
worker_processes 1;
events {{}}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
{temporary}
  server {{
    listen {address}:{self.port};
    root {site.work};
  }}
}}
""")
        self._process = subprocess.Popen(prefix("nginx", "-c", config),
                                         stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        _wait_for_file(Path(where) / "pid", self._process)

    def stop(self):
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _wait_for_file(path, process):
    while not path.exists():
        if process.poll() is not None:
            raise SiteError("nginx ended at once")
        time.sleep(0.02)
