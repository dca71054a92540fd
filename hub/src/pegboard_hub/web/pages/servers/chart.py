"""A small chart of calls per day, drawn on the server as SVG, with words for whoever does not see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pegboard_hub.ledger.model import DAY_MS

DAYS = 30
BAR = 8
GAP = 2
HEIGHT = 48


class Bar(NamedTuple):
    """One day's bar. Lengths are in the chart's own units."""

    x: int
    y: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart.

    Attributes:
        words: what it shows, as a sentence or two.
        first: the first day, for people.
        last: the last one.
    """

    bars: tuple[Bar, ...]
    words: str
    first: str
    last: str
    width: int = DAYS * (BAR + GAP) - GAP
    height: int = HEIGHT
    bar: int = BAR

    @property
    def empty(self) -> bool:
        """Whether there was no call on any of the days."""
        return not any(bar.height for bar in self.bars)


def chart(calls: Mapping[int, int], now_ms: int) -> Chart:
    """The last `DAYS` days.

    Args:
        calls: number of calls by the beginning of their UTC day, in milliseconds since the epoch.
        now_ms: the time, in milliseconds since the epoch.
    """
    today = now_ms - now_ms % DAY_MS
    days = [today - DAY_MS * back for back in range(DAYS - 1, -1, -1)]
    counts = [calls.get(day, 0) for day in days]
    most = max(counts)
    bars = []
    for place, (day, count) in enumerate(zip(days, counts, strict=True)):
        # A day with calls is seen, however many another day had.
        height = max(round(HEIGHT * count / most, 1), 2) if count else 0
        bars.append(Bar(place * (BAR + GAP), HEIGHT - height, height, f"{_day(day)}: {count:,}"))
    words = f"{sum(counts):,} call{'' if sum(counts) == 1 else 's'} in the last {DAYS} days"
    if most:
        words += f"; most on {_day(days[counts.index(most)])}, {most:,}"
    return Chart(tuple(bars), f"{words}.", _day(days[0]), _day(days[-1]))


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
