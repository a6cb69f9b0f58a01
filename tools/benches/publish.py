"""Put what benchmarks have written (--json) into the README: a table, and a plot
of each.  What others have put there stays."""

import argparse
import json
import re
import sys
from pathlib import Path

from tools.benches import plot
from tools.programs import ROOT

FIGURES = Path("tools/benches/figures")
BEGIN, END = "<!-- tools/bench publish: begin -->", "<!-- end -->"


def number(value):
    """Three digits that mean something."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bar_of(row):
    if row["bar"] is None:
        return ""
    return f"{'≥' if row['better'] == 'higher' else '≤'} {row['bar']:g}"


def circumstances(bench):
    machine, versions = bench["machine"], bench["versions"]
    others = ", ".join(f"{name} {version}" for name, version in versions.items()
                       if name not in ("bootstream", "commit"))
    return (f"{bench['date']}, commit {versions['commit']}: "
            f"{machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory_gib']} GiB; {others}")


HEAD = ["| bench | case | ours | peer | | ratio | bar |",
        "|---|---|---|---|---|---|---|"]


def rows(bench):
    return [f"| {bench['bench']} | {row['case']} "
            f"| {number(row['ours'])} {row['unit']} "
            f"| {number(row['peer'])} {row['unit']} "
            f"| {row['peer_name'].replace('|', chr(92) + '|')} "
            f"| {number(row['ratio'])} | {bar_of(row)} |"
            for row in bench["rows"]]


class Section:
    """What is between the marks: each benchmark's rows, and its
    circumstances; alike ones are said once."""

    def __init__(self, text):
        self.rows, self.circumstances = {}, {}
        for line in text.splitlines():
            if row := re.match(r"\| (\w+) \|", line):
                self.rows.setdefault(row[1], []).append(line)
            elif said := re.match(r"([\w, ]+): (\d{4}-.*)\.$", line):
                for name in said[1].split(", "):
                    self.circumstances[name] = said[2]
        self.rows.pop("bench", None)  # the head

    def put(self, bench):
        self.rows[bench["bench"]] = rows(bench)
        self.circumstances[bench["bench"]] = circumstances(bench)

    def lines(self):
        said = {}
        for name in self.rows:
            said.setdefault(self.circumstances[name], []).append(name)
        return [*HEAD, *(row for kept in self.rows.values() for row in kept),
                "", *(f"{', '.join(names)}: {text}."
                      for text, names in said.items()),
                "", *(f"![{name}]({FIGURES / name}.svg)"
                      for name in self.rows)]


def main():
    parser = argparse.ArgumentParser(prog="tools/bench publish",
                                     description=__doc__)
    parser.add_argument("file", nargs="+", help="a benchmark's JSON")
    benches = [json.loads(Path(name).read_text())
               for name in parser.parse_args().file]
    readme = ROOT / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{readme}: no line '{BEGIN}' before a line '{END}'")
    (ROOT / FIGURES).mkdir(exist_ok=True)
    for bench in benches:
        plot.draw(ROOT / FIGURES / f"{bench['bench']}.svg", bench["bench"],
                  bench["rows"])
    before, rest = text.split(BEGIN, 1)
    within, after = rest.split(END, 1)
    section = Section(within)
    for bench in benches:
        section.put(bench)
    readme.write_text(
        "\n".join([before + BEGIN, *section.lines(), END]) + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
