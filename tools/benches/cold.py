"""The first sequential read of an image that is still on the server, on
loopback: our driver, which verifies what it gets, against QEMU storage daemon
and nbdkit, which do not; and once without its digests, to compare like with
like.  A fresh disk each time."""

import sys

from tools.benches import load, report
from tools.benches.site import MIB, Nginx, Site, folder
from tools.benches.systems import (
    Nbdkit, Ours, StorageDaemon, Unverified)


def first_read(system, site, url):
    """MB/s over the image's root file system, by one client."""
    offset, size = site.root()
    with system(site, url) as it:
        figures = load.fio("read", MIB, 4, uri=it.uri, offset=offset,
                           size=size)
        if isinstance(it, Ours):
            it.compare(site.image)
    return load.megabytes_per_second(figures)


def main():
    options = report.parse(report.parser("cold", __doc__))
    result = report.Report("cold")
    with folder(options.lab) as work:
        site = Site(work, options.quick).make()
        rows = [(result.row("seq-loopback", "MB/s", StorageDaemon.name,
                            bar=1.2), Ours, StorageDaemon),
                (result.row("seq-loopback-nbdkit", "MB/s", Nbdkit.name),
                 Ours, Nbdkit),
                (result.row("seq-loopback-unverified", "MB/s",
                            StorageDaemon.name), Unverified, StorageDaemon)]
        with Nginx(site) as server:
            for _ in range(options.rounds):
                for row, ours, peer in rows:
                    row.ours_all.append(first_read(ours, site, server.url))
                    if not options.quick:
                        row.peer_all.append(first_read(peer, site, server.url))
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
