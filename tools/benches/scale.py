"""What a disk of 1 TiB costs that a disk of 64 GiB with the same 20 GiB in use
does not: manifest, plan, migration, the driver's start, its memory, a flush, and
what is written until everything is there.  1 is: only what is used counts."""

import json
import sys
import time
from pathlib import Path

from tools.benches import load, report
from tools.benches.big import BigSite, compressing
from tools.benches.site import MIB, Nginx, folder
from tools.benches.systems import Ours

CASES = {"manifest": "KiB", "plan": "s", "migrate": "s", "start": "s",
         "start-rss": "MiB", "flush-writes": "KiB", "fill-writes": "MiB",
         "fill": "s", "full-rss": "MiB"}
FLUSHES = 256


def written_bytes(device):
    """To a loop device, since it was made."""
    name = Path(device).name
    return 512 * int(Path(f"/sys/block/{name}/stat").read_text().split()[6])


def timed(work):
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def flush_writes(ours, site, device):
    """KiB that a write of 4 KiB and a flush bring to the disk."""
    offset, _ = site.root()
    before = written_bytes(device)
    load.fio("randwrite", 4096, 1, uri=ours.uri, offset=offset,
             size=FLUSHES * 4096, options=["--fsync=1"])
    return (written_bytes(device) - before) / 1024 / FLUSHES


def costs(folder_, disk_gib, used_gib):
    """All of it, for one disk; by the names of CASES."""
    site = BigSite(folder_, disk_gib, used_gib).make()
    found = {"manifest": site.manifest().stat().st_size / 1024}
    with Nginx(site) as server, site.old_disk() as disk:
        repository = f"{server.url}/{site.repo.name}"
        found["plan"], _ = timed(
            lambda: site.agent("plan", disk, repository))
        found["migrate"], _ = timed(
            lambda: site.agent("migrate", disk, repository, "--yes"))
        found["start"], ours = timed(
            lambda: Ours(site, server.url, disk=disk))
        with ours:
            found["start-rss"] = ours.rss_bytes() / MIB
            before = written_bytes(disk)
            found["fill"], _ = timed(ours.complete)
            found["fill-writes"] = (written_bytes(disk) - before) / MIB
            found["flush-writes"] = flush_writes(ours, site, disk)
            found["full-rss"] = ours.rss_bytes("VmHWM") / MIB
    return found


def main():
    options = report.parse(report.parser("scale", __doc__))
    result = report.Report("scale")
    used, small, large = (1, 8, 64) if options.quick else (20, 64, 1024)
    rows = {case: result.row(case, unit, f"{small} GiB disk", better="lower")
            for case, unit in CASES.items()}
    with folder(options.lab) as work:
        for gib in small, large:
            with compressing(work) as pool:
                found = costs(pool, gib, used)
            print(f"{gib} GiB: {json.dumps(found)}", flush=True)
            for case, value in found.items():
                mine = rows[case].ours_all if gib == large else \
                    rows[case].peer_all
                mine.append(value)
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
