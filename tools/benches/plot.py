"""Ratios of a benchmark as bars, by gnuplot."""

import subprocess

_SCRIPT = """
set terminal svg size 720,{height} font "sans,13" background "white"
set output "{file}"
set title "{title}"
set style fill solid 0.85 noborder
set xrange [0:*]
set yrange [-0.6:{top}]
set ytics ({tics}) nomirror
set xtics nomirror
set border 3
set key off
set xlabel "ours over the peer; the mark is the bar"
$rows << END
{rows}
END
plot $rows using (0):1:(0):2:($1-0.3):($1+0.3) with boxxyerror lc rgb "#3b6ea5", \\
     $rows using ($3 > 0 ? $3 : 1/0):1:(0):(0.38) with vectors nohead lw 2 lc rgb "#b03a2e", \\
     $rows using ($3 > 0 ? $3 : 1/0):1:(0):(-0.38) with vectors nohead lw 2 lc rgb "#b03a2e", \\
     $rows using 2:1:4 with labels left offset 0.6,0
"""


def draw(file, bench, rows):
    """Write an SVG.  A row whose ratio must be low says so in its name."""
    rows = [row for row in rows if row["ratio"] is not None]
    if not rows:
        raise ValueError(f"{bench}: nothing was measured beside us")
    lines, tics = [], []
    for at, row in enumerate(reversed(rows)):
        hint = "" if row["better"] == "higher" else " (lower is better)"
        tics.append(f'"{row["case"]}{hint}" {at}')
        lines.append(f'{at} {row["ratio"]:.4g} {row["bar"] or 0:g} '
                     f'"{row["ratio"]:.2f}"')
    script = _SCRIPT.format(
        file=file, title=f"tools/bench {bench}", rows="\n".join(lines),
        tics=", ".join(tics), top=len(rows) - 0.4, height=110 + 46 * len(rows))
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
