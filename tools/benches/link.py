"""Cold reads over a link with a rate and a delay: our driver against QEMU
storage daemon, the link's capacity and its round trip."""

import sys
import time

from tools.benches import load, report
from tools.benches.network import (
    SERVER_ADDRESS, Wire, at_client, at_server)
from tools.benches.site import MIB, Nginx, Site, folder
from tools.benches.systems import Ours, StorageDaemon


def sequential(it, site):
    """MB/s of the image."""
    offset, size = site.root()
    return load.megabytes_per_second(
        load.fio("read", MIB, 4, uri=it.uri, offset=offset, size=size))


def share_of_link(ours, site):
    """MB/s that arrive while the image is read in sequence, from the first
    connection on."""
    before = ours.received_bytes()
    start = time.monotonic()
    sequential(ours, site)
    seconds = time.monotonic() - start
    return (ours.received_bytes() - before) / 1e6 / seconds


def main():
    options = report.parse(report.parser("link", __doc__))
    result = report.Report("link")
    with folder(options.lab) as work:
        site = Site(work, options.quick).make()
        with Nginx(site) as local:
            _gigabit(result, options, site, local)
            _far(result, options, site, local)
            _latency(result, options, site, local)
    return result.finish(options)


def _gigabit(result, options, site, local):
    row = result.row("seq-1gbit", "MB/s", StorageDaemon.name, bar=2.5)
    with Wire(1000, 0), Nginx(site, at_server, SERVER_ADDRESS) as far:
        for _ in range(options.rounds):
            with Ours(site, far.url, migrate_from=local.url,
                      prefix=at_client) as ours:
                row.ours_all.append(sequential(ours, site))
            if options.quick:
                continue
            with StorageDaemon(site, far.url, prefix=at_client) as peer:
                row.peer_all.append(sequential(peer, site))


def _far(result, options, site, local):
    row = result.row("seq-100mbit-200ms", "MB/s", "what TCP may carry", bar=0.9)
    with Wire(100, 200) as wire, Nginx(site, at_server, SERVER_ADDRESS) as far:
        for _ in range(options.rounds):
            with Ours(site, far.url, migrate_from=local.url,
                      prefix=at_client) as ours:
                row.ours_all.append(share_of_link(ours, site))
            row.peer_all.append(wire.payload_per_second() / 1e6)


def _latency(result, options, site, local):
    row = result.row("rand4k-20ms", "ms", "round trip", better="lower",
                     bar=1.5)
    offset, size = site.root()
    with Wire(1000, 20) as wire, Nginx(site, at_server, SERVER_ADDRESS) as far:
        for _ in range(options.rounds):
            with Ours(site, far.url, migrate_from=local.url,
                      prefix=at_client) as ours:
                median, _ = load.first_touches(ours.uri, offset, size,
                                               options.seconds)
            row.ours_all.append(median)
            row.peer_all.append(wire.round_trip_s() * 1e3)


if __name__ == "__main__":
    sys.exit(main())
