"""Making an image of a disk for the server: imgtool build against casync make
(and zstd, for what compression alone costs), same disk, same cores."""

import os
import shutil
import sys
import time

from tools.benches import report
from tools.benches.site import Site, folder, run
from tools.programs import IMGTOOL


def _timed(fresh, *command):
    """Seconds of a command that fills the folder `fresh`."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    start = time.monotonic()
    run(*command)
    return time.monotonic() - start


def imgtool(site):
    repo = site.work / "build-repo"
    return _timed(repo, IMGTOOL, "build", "--disk", site.image, "--name", "b",
                  "--version", "1", "--repo", repo, "--key", site.key)


def casync(site):
    store = site.work / "build-casync"
    return _timed(store, "casync", "make", "--store", store / "store",
                  store / "image.caibx", site.image)


def zstd(site):
    out = site.work / "build-zstd"
    return _timed(out, "zstd", "-3", "-q", f"-T{os.cpu_count()}", site.image,
                  "-o", out / "image.zst")


def main():
    options = report.parse(report.parser("build", __doc__))
    result = report.Report("build")
    with folder(options.lab) as work:
        site = Site(work, options.quick).make()
        megabytes = site.image.stat().st_size / 1e6
        rows = [(result.row("casync", "MB/s", "casync make", bar=2.0), casync),
                (result.row("zstd", "MB/s", "zstd -3"), zstd)]
        for _ in range(options.rounds):
            for row, peer in rows:
                row.ours_all.append(megabytes / imgtool(site))
                row.peer_all.append(megabytes / peer(site))
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
