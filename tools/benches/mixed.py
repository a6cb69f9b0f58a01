"""Cold reads of a user while the rest of the image comes in: what they wait for
then, against what they wait for while nothing else happens, and what is left of
the backfill's own rate.  Over 100 Mbit/s with a round trip of 20 ms."""

import sys
import threading
import time

from tools.benches import load, report
from tools.benches.network import (
    SERVER_ADDRESS, Wire, at_client, at_server)
from tools.benches.site import Nginx, Site, folder
from tools.benches.systems import Ours


def p99_ms(ours, site, seconds):
    """Of single reads where the backfill comes last."""
    offset, size = site.root()
    part = size // 3 // load.CHUNK_BYTES * load.CHUNK_BYTES
    return load.first_touches(ours.uri, offset + size - part, part,
                              seconds)[1]


def rate(ours, seconds):
    """MB/s that come over the network, demand and all."""
    before = ours.received_bytes()
    start = time.monotonic()
    time.sleep(seconds)
    return (ours.received_bytes() - before) / 1e6 / (time.monotonic() - start)


def both(ours, site, seconds):
    """p99 and rate at once."""
    found = []
    reader = threading.Thread(
        target=lambda: found.append(p99_ms(ours, site, seconds)))
    ours.backfill("resume")
    reader.start()
    speed = rate(ours, seconds)
    reader.join()
    return found[0], speed


def main():
    options = report.parse(report.parser("mixed", __doc__))
    result = report.Report("mixed")
    p99 = result.row("demand-p99", "ms", "the same, idle", better="lower",
                     bar=1.5)
    share = result.row("backfill-rate", "MB/s", "the same, idle", bar=0.5)
    with folder(options.lab) as work:
        site = Site(work, options.quick).make()
        with Nginx(site) as local, Wire(100, 20), \
                Nginx(site, at_server, SERVER_ADDRESS) as far:
            def fresh():
                return Ours(site, far.url, migrate_from=local.url,
                            prefix=at_client)
            for _ in range(options.rounds):
                with fresh() as ours:
                    p99.peer_all.append(p99_ms(ours, site, options.seconds))
                with fresh() as ours:
                    ours.backfill("resume")
                    time.sleep(1)
                    share.peer_all.append(rate(ours, options.seconds))
                with fresh() as ours:
                    wait, speed = both(ours, site, options.seconds)
                    p99.ours_all.append(wait)
                    share.ours_all.append(speed)
    return result.finish(options)


if __name__ == "__main__":
    sys.exit(main())
