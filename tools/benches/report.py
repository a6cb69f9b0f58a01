"""What every benchmark takes, prints and writes."""

import argparse
import json
import os
import re
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

from tools.programs import ROOT, STREAMD


def parser(name, description):
    """The options that all benchmarks share."""
    result = argparse.ArgumentParser(prog=f"tools/bench {name}",
                                     description=description)
    result.add_argument("--json", metavar="FILE", help="write the figures")
    result.add_argument("--plot", metavar="FILE.svg", help="draw them")
    result.add_argument("--rounds", type=int, default=3, metavar="N",
                        help="measure each so often and take the median "
                        "(%(default)s)")
    result.add_argument("--seconds", type=int, default=5, metavar="S",
                        help="length of a timed measurement (%(default)s)")
    result.add_argument("--lab", metavar="DIR",
                        help="keep disks and images here and use what is there")
    result.add_argument("--quick", action="store_true",
                        help="a small image and one short round, without the "
                        "others: the figures say nothing, but everything is "
                        "done and checked")
    return result


def parse(options):
    """The arguments, with what --quick means; beside(peer, ...) makes a peer, or
    None if none is wanted."""
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    arguments.beside = lambda peer, *of: (
        nullcontext() if arguments.quick else peer(*of))
    return arguments


@dataclass
class Row:
    """One case: medians of both, and all that was measured.  The ratio is ours
    over the peer's; `bar` is what it must reach.  `paired`: both were measured in
    turn, on a machine whose speed drifts: it is the median of the ratios of those
    that were neighbours."""
    case: str
    unit: str
    peer_name: str
    better: str = "higher"
    bar: float | None = None
    paired: bool = False
    ours_all: list = field(default_factory=list)
    peer_all: list = field(default_factory=list)

    def as_json(self):
        ours = median(self.ours_all)
        peer = median(self.peer_all) if self.peer_all else None
        return {"case": self.case, "ours": ours, "peer": peer,
                "peer_name": self.peer_name, "unit": self.unit,
                "ratio": self.ratio(ours, peer) if peer else None,
                "better": self.better, "bar": self.bar,
                "ours_all": self.ours_all, "peer_all": self.peer_all}

    def ratio(self, ours, peer):
        if not self.paired:
            return ours / peer
        return median(a / b for a, b in zip(self.ours_all, self.peer_all,
                                            strict=True))


def _say(*command):
    """The first version number that a program prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              check=False)
    except FileNotFoundError:
        return "absent"
    found = re.search(r"\d+(\.\d+)+[^\s,]*", done.stdout + done.stderr)
    return found.group(0) if found else "unknown"


def versions():
    """Of all that takes part."""
    return {"bootstream": _say(STREAMD, "--version"),
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                capture_output=True, check=False).stdout.strip(),
            "qemu-storage-daemon": _say("qemu-storage-daemon", "--version"),
            "nbdkit": _say("nbdkit", "--version"),
            "nginx": _say("nginx", "-v"),
            "fio": _say("fio", "--version"),
            "linux": os.uname().release}


def machine():
    model = re.search(r"model name\s*: (.*)",
                      Path("/proc/cpuinfo").read_text())
    return {"processor": model.group(1) if model else os.uname().machine,
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") *
                                os.sysconf("SC_PHYS_PAGES") / 2 ** 30)}


class Report:
    """The rows of one benchmark."""

    def __init__(self, bench):
        self.bench = bench
        self.rows = []

    def row(self, *arguments, **more):
        self.rows.append(Row(*arguments, **more))
        return self.rows[-1]

    def finish(self, options):
        """Print, and write what `options` ask for."""
        rows = [row.as_json() for row in self.rows]
        facts = {"machine": machine(), "versions": versions()}
        print(", ".join(f"{k} {v}" for part in facts.values()
                        for k, v in part.items()))
        print(f"{'case':22} {'ours':>12} {'peer':>12} {'ratio':>7} {'bar':>5}")
        for row in rows:
            bar = "" if row["bar"] is None else f"{row['bar']:g}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            peer = "" if row["peer"] is None else f"{row['peer']:.5g}"
            print(f"{row['case']:22} {row['ours']:12.5g} {peer:>12} "
                  f"{ratio:>7} {bar:>5}  {row['unit']}, "
                  f"{row['better']} is better, peer: {row['peer_name']}")
        if options.json:
            Path(options.json).write_text(json.dumps(
                {"bench": self.bench, "date": date.today().isoformat(),
                 "rows": rows, **facts}, indent=2) + "\n")
        if options.plot:
            from tools.benches import plot
            plot.draw(options.plot, self.bench, rows)
        return 0
