"""Put what benchmarks have written (--json) into the README: a table, and a plot
of each."""

import argparse
import json
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


def table(benches):
    lines = ["| bench | case | ours | peer | | ratio | bar |",
             "|---|---|---|---|---|---|---|"]
    for bench in benches:
        for row in bench["rows"]:
            lines.append(
                f"| {bench['bench']} | {row['case']} "
                f"| {number(row['ours'])} {row['unit']} "
                f"| {number(row['peer'])} {row['unit']} "
                f"| {row['peer_name'].replace('|', chr(92) + '|')} "
                f"| {number(row['ratio'])} | {bar_of(row)} |")
    return lines


def section(benches):
    """The lines between the marks; circumstances that are alike once."""
    said = {}
    for bench in benches:
        said.setdefault(circumstances(bench), []).append(bench["bench"])
    lines = table(benches) + [""]
    for text, names in said.items():
        lines.append(f"{', '.join(names)}: {text}.")
    lines.append("")
    lines += [f"![{bench['bench']}]({FIGURES / bench['bench']}.svg)"
              for bench in benches]
    return lines


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
    _, after = rest.split(END, 1)
    readme.write_text(
        "\n".join([before + BEGIN, *section(benches), END]) + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
