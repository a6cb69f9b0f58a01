"""Memory of the driver, locked as on a machine of its own, over a disk of 1 TiB
with 20 GiB in use, from the first boot until everything is there, against
64 MiB and 24 bytes for each chunk in use."""

import json
import sys

from tools.benches import report
from tools.benches.big import BigSite, compressing
from tools.benches.site import MIB, Nginx, folder, run
from tools.benches.systems import Ours
from tools.programs import IMGTOOL


def chunks_in_use(site):
    shown = json.loads(run(IMGTOOL, "show", "--repo", site.repo, "--json",
                           "bench"))
    return shown["data_chunks"]


def main():
    options = report.parse(report.parser("memory", __doc__))
    result = report.Report("memory")
    row = result.row("rss-1tib", "MiB", "64 MiB + 24 B a chunk",
                     better="lower", bar=1.0)
    with folder(options.lab) as work, compressing(work) as pool:
        disk_gib, used_gib = (64, 1) if options.quick else (1024, 20)
        site = BigSite(pool, disk_gib, used_gib).make()
        with Nginx(site) as server, site.old_disk() as disk:
            site.agent("migrate", disk, f"{server.url}/{site.repo.name}",
                       "--yes")
            with Ours(site, server.url, disk=disk) as ours:
                ours.complete()
                peak = ours.rss_bytes("VmHWM")
        row.ours_all.append(peak / MIB)
        row.peer_all.append(64 + 24 * chunks_in_use(site) / MIB)
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
