"""Figures of the comparison of calls, by the names readers ask for."""

from __future__ import annotations

from typing import Any, NamedTuple

PATH_ROLES = ("edge", "gateway", "server")
"""Processes that a call passes. Others work beside it."""

MAIN = 16
"""The concurrency that ratios are of, where none is named."""


class Row(NamedTuple):
    """One rival in one era at one concurrency. Times are milliseconds, CPU is µs a call.

    Where nothing was answered in time, there are no times and there is no CPU of a call.
    """

    name: str
    label: str
    era: str
    concurrency: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: dict[str, float]
    calls: int
    rounds: int
    faults: dict[str, int]

    @property
    def path_us(self) -> float:
        """CPU of all processes that the call passes."""
        return sum(spent for role, spent in self.cpu_us.items() if role in PATH_ROLES)

    @property
    def all_us(self) -> float:
        """CPU of all processes but the caller."""
        return sum(spent for role, spent in self.cpu_us.items() if role != "client")


class Calls:
    """The run that `bench/cost.py` kept."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.rivals: dict[str, dict[str, Any]] = kept["rivals"]
        self.rows = [_row(cell, self.rivals) for cell in kept["cells"]]

    def row(self, name: str, era: str = "modern", concurrency: int = MAIN) -> Row:
        """One row.

        Raises:
            KeyError: it was not measured.
        """
        for row in self.rows:
            if (row.name, row.era, row.concurrency) == (name, era, concurrency):
                return row
        raise KeyError(f"{name} {era} c={concurrency}")

    def has(self, *names: str) -> bool:
        """Whether all these were measured."""
        return all(name in self.rivals for name in names)

    def at(self, concurrency: int) -> list[Row]:
        """Every row of one concurrency."""
        return [row for row in self.rows if row.concurrency == concurrency]

    @property
    def client_us(self) -> tuple[float, float]:
        """The least and the most CPU that the caller itself spent on a call, in µs."""
        spent = [row.cpu_us["client"] for row in self.rows if row.calls]
        return min(spent), max(spent)

    @property
    def answered(self) -> int:
        """Right answers in all."""
        return sum(row.calls for row in self.rows)

    @property
    def faults(self) -> dict[str, dict[str, int]]:
        """What went wrong, by where."""
        return {f"{row.name}, {row.era}, c = {row.concurrency}": row.faults for row in self.rows if row.faults}


def _row(cell: dict[str, Any], rivals: dict[str, dict[str, Any]]) -> Row:
    return Row(
        cell["rival"],
        rivals[cell["rival"]]["label"],
        cell["era"],
        cell["concurrency"],
        cell["rate"],
        cell["p50_ms"],
        cell["p99_ms"],
        cell["cpu_us"],
        cell["calls"],
        len(cell["rates"]),
        cell["faults"],
    )
