"""A chart as SVG, in the colours of whichever theme shows it."""

from __future__ import annotations

from html import escape
from math import log

from bench.reporting.calls import Calls, Row

WIDTH, LABELS, BAR, GAP, TOP = 960, 370, 20, 10, 56
TICKS = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)

_STYLE = """
.page { fill: #ffffff }
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0 }
.bar { fill: #8c959f } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d }
  .bar { fill: #656c76 } .ours { fill: #4493f8 }
}
"""


def chart(calls: Calls) -> str:
    """CPU of one call in every process that it passes, on a logarithmic scale, with 16 callers."""
    rows = sorted(calls.at(16), key=lambda row: row.path_us)
    height = TOP + len(rows) * (BAR + GAP) + 30
    scale = _Scale(max(row.path_us for row in rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>CPU of a call by server or gateway</title><style>{_STYLE}</style>",
        # A ground of its own: who prefers dark may still read a light page.
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        '<text x="12" y="16">CPU µs of a call in what it passes, 16 callers (logarithmic, shorter is better)</text>',
        *_grid(scale, height),
        *(_bar(row, TOP + number * (BAR + GAP), scale) for number, row in enumerate(rows)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    def __init__(self, most: float) -> None:
        self._low = log(200)
        self._span = log(most * 2) - self._low
        self.most = most

    def x(self, value: float) -> float:
        """Where a value stands."""
        return LABELS + (log(value) - self._low) / self._span * (WIDTH - LABELS)


def _grid(scale: _Scale, height: int) -> list[str]:
    ticks = [tick for tick in TICKS if tick <= scale.most * 1.5]
    return [
        f'<line class="grid" x1="{scale.x(tick):.0f}" y1="{TOP - 8}" x2="{scale.x(tick):.0f}" y2="{height - 24}"/>'
        f'<text class="small" x="{scale.x(tick):.0f}" y="{TOP - 14}" text-anchor="middle">{tick:,}</text>'
        for tick in ticks
    ]


def _bar(row: Row, y: int, scale: _Scale) -> str:
    label = escape(f"{row.label.replace('*', '').replace('`', '')}, {row.era}")
    ours = " ours" if row.name == "pegboard" else ""
    end = scale.x(row.path_us)
    return (
        f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{label}</text>'
        f'<rect class="bar{ours}" x="{LABELS}" y="{y}" width="{end - LABELS:.0f}" height="{BAR}" rx="2"/>'
        f'<text class="small" x="{end + 6:.0f}" y="{y + 14}">{row.path_us:,.0f}</text>'
    )
