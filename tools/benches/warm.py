"""Reads and writes of what is on the local disk already: our driver on an NBD
socket against QEMU storage daemon, and through FUSE and a loop device against
QEMU's export of a raw file."""

import sys

from tools.benches import load, report
from tools.benches.site import MIB, Nginx, Site, folder
from tools.benches.systems import Ours, QemuFuse, StorageDaemon

KIB4 = 4096


def _alternate(row, ours, peer, rounds, measure):
    """Ours, the peer, ours, the peer: what disturbs, disturbs both."""
    for _ in range(rounds):
        row.ours_all.append(measure(ours))
        if peer:
            row.peer_all.append(measure(peer))


def _iops(rw, options, offset, size):
    return lambda system: load.fio(rw, KIB4, 16, uri=system.uri, offset=offset,
                                   size=size, seconds=options.seconds)["iops"]


def over_nbd(result, options, site, url):
    offset, size = site.root()
    with Ours(site, url) as ours, \
            options.beside(StorageDaemon, site, url) as peer:
        ours.complete()
        if peer:
            load.fio("read", MIB, 4, uri=peer.uri, offset=offset, size=size)
        cases = [
            ("rand4k-nbd", "IOPS", 2.0, _iops("randread", options, offset, size)),
            ("seq-nbd", "MB/s", 1.0,
             lambda system: load.megabytes_per_second(
                 load.fio("read", MIB, 4, uri=system.uri, offset=offset,
                          size=size, seconds=options.seconds))),
            ("randwrite4k-nbd", "IOPS", 1.5,
             _iops("randwrite", options, offset, min(size, 256 * MIB)))]
        ours.compare(site.image)
        for case, unit, bar, measure in cases:
            row = result.row(case, unit, StorageDaemon.name, bar=bar)
            _alternate(row, ours, peer, options.rounds, measure)
        load.verify(ours.uri, offset, min(size, 16 * MIB))


def over_fuse(result, options, site, url):
    with Ours(site, url, frontend="fuse") as ours, \
            options.beside(QemuFuse, site) as peer:
        ours.complete()
        row = result.row("rand4k-fuse", "IOPS", QemuFuse.name, bar=1.0)
        _alternate(row, ours, peer, options.rounds, lambda system: load.fio(
            "randread", KIB4, 1, file=system.device(),
            seconds=options.seconds)["iops"])


def main():
    options = report.parse(report.parser("warm", __doc__))
    result = report.Report("warm")
    with folder(options.lab) as work:
        site = Site(work, options.quick).make()
        with Nginx(site) as server:
            over_nbd(result, options, site, server.url)
            over_fuse(result, options, site, server.url)
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
