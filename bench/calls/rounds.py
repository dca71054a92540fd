"""The interleaved run: every rival in turn at every concurrency, round after round, so that all share the weather."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.calls.load import Load
from bench.calls.processes import cpu_us, members
from bench.calls.rival import Rival

FEWEST = 40
"""Answers that a window must hold; one with fewer is made longer."""

MOST_WINDOWS = 4
"""So many times as long at most."""

CLIENT = "client"
"""The role of the one who calls: this process."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Times are seconds; each cell is measured once a round, after its warm-up."""

    rounds: int = 5
    measured_s: float = 2.5
    warm_up_s: float = 0.5
    concurrencies: tuple[int, ...] = (1, 16, 64)


@dataclass(slots=True)
class Cell:
    """All rounds of one rival in one era at one concurrency."""

    rival: str
    era: str
    concurrency: int
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    cpu_us: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def cpu_a_call(self) -> dict[str, float]:
        """Microseconds by role; none where no call was answered."""
        calls = len(self.latencies)
        return {role: round(spent / calls, 1) for role, spent in self.cpu_us.items()} if calls else {}

    def figures(self) -> dict[str, object]:
        """What is kept: medians of rounds, percentiles of all calls, CPU a call by role. Times are milliseconds."""
        calls = len(self.latencies)
        ranked = sorted(self.latencies)
        return {
            "rival": self.rival,
            "era": self.era,
            "concurrency": self.concurrency,
            "calls": calls,
            "rate": round(statistics.median(self.rates), 1),
            "rates": [round(rate, 1) for rate in self.rates],
            "p50_ms": round(ranked[calls // 2] * 1000, 2) if calls else None,
            "p99_ms": round(ranked[min(calls - 1, calls * 99 // 100)] * 1000, 2) if calls else None,
            "cpu_us": self.cpu_a_call(),
            "faults": dict(self.faults),
        }


async def run(rivals: list[Rival], plan: Plan) -> list[Cell]:
    """Measure every cell of `plan`."""
    cells = {
        (rival.name, era, concurrency): Cell(rival.name, era, concurrency)
        for rival in rivals
        for era in rival.eras
        for concurrency in plan.concurrencies
    }
    for number in range(plan.rounds):
        for rival, era, concurrency in _turns(rivals, plan, number):
            cell = cells[rival.name, era, concurrency]
            await _measure(cell, rival, plan)
            where = f"round {number + 1}/{plan.rounds} {rival.name} {era} c={concurrency}"
            print(f"{where:48} {cell.rates[-1]:8.0f}/s {_faults(cell)}", flush=True)
    return list(cells.values())


def _turns(rivals: list[Rival], plan: Plan, number: int) -> Iterator[tuple[Rival, str, int]]:
    """One round; each begins with another rival, so that nobody always follows the same one."""
    start = number * len(rivals) // plan.rounds
    for concurrency in plan.concurrencies:
        for rival in rivals[start:] + rivals[:start]:
            for era in rival.eras:
                yield rival, era, concurrency


async def _measure(cell: Cell, rival: Rival, plan: Plan) -> None:
    pids = members(rival.processes())
    load = Load(rival.target(), cell.era, cell.concurrency)
    callers = await load.start()
    await asyncio.sleep(plan.warm_up_s)
    cell.faults += load.take().faults
    before, began = _spent(pids), time.perf_counter()
    for _ in range(MOST_WINDOWS):
        await asyncio.sleep(plan.measured_s)
        if load.answered >= FEWEST:
            break
    after, took = _spent(pids), time.perf_counter() - began
    seen = load.take()
    cell.latencies += seen.latencies
    cell.rates.append(len(seen.latencies) / took)
    cell.faults += seen.faults
    cell.cpu_us += Counter({role: after[role] - before[role] for role in after})
    await load.stop(callers)
    cell.faults += load.take().faults


def _spent(pids: dict[str, list[int]]) -> dict[str, float]:
    return {CLIENT: time.process_time() * 1e6, **{role: cpu_us(own) for role, own in pids.items()}}


def _faults(cell: Cell) -> str:
    return f"faults: {dict(cell.faults)}" if cell.faults else ""
