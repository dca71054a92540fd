"""What a call costs: Pegboard beside Envoy, the bare SDK and other gateways, in one interleaved run.

    .venv/bin/python bench/cost.py [--quick] [--only NAME,…] [--rounds 5] [--save]

Every rival offers the same tool, `echo`; callers run in a closed loop in this process, every text is another, and
every reply is checked. CPU is user and system time of each process and its children, in microseconds a call. What the
others need is installed into `.tools/peers` from pins in `bench/peers/`; `--quick` measures only what needs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from bench.calls.processes import cpu_us, members, memory_mib
from bench.calls.rival import Rival
from bench.calls.rivals import all_rivals
from bench.calls.rounds import Cell, Plan, run

QUICK = Plan(rounds=1, measured_s=1.0, warm_up_s=0.2, concurrencies=(1, 16))
IDLE_S = 5.0


def main() -> None:
    """Run, print, and keep if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true", help="a short run of what needs no other packages")
    arguments.add_argument("--only", help="names of rivals, with commas between them")
    arguments.add_argument("--rounds", type=int, default=Plan().rounds)
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/calls.json")
    options = arguments.parse_args()
    rivals = [rival for rival in all_rivals() if _wanted(rival, options.only, options.quick)]
    before = keeping.load_average()
    with ExitStack() as started:
        starts = {rival.name: started.enter_context(_running(rival)) for rival in rivals}
        memory = {rival.name: {"idle": _memory(rival)} for rival in rivals}
        idle = _idle(rivals)
        cells = asyncio.run(run(rivals, QUICK if options.quick else Plan(options.rounds)))
        for rival in rivals:
            memory[rival.name]["after"] = _memory(rival)
    _print(cells)
    if options.save:
        facts = {
            rival.name: {
                "label": rival.label,
                "versions": dict(rival.versions()),
                "start_s": starts[rival.name],
                "idle_cpu_ms_per_s": idle[rival.name],
                "memory_mib": memory[rival.name],
            }
            for rival in rivals
        }
        loads = [before, keeping.load_average()]
        print(keeping.save("calls", loads, rivals=facts, cells=[cell.figures() for cell in cells]))
    if any(cell.faults for cell in cells):
        sys.exit("Some calls were not answered as they should: see the faults above.")


def _wanted(rival: Rival, only: str | None, quick: bool) -> bool:
    return rival.name in only.split(",") if only else not (quick and rival.peer)


@contextmanager
def _running(rival: Rival) -> Iterator[float]:
    """Start a rival in a folder of its own; how many seconds it took until it answered."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    began = time.monotonic()
    try:
        rival.start(folder)
        took = round(time.monotonic() - began, 1)
        print(f"{rival.name} runs after {took} s", flush=True)
        yield took
    finally:
        rival.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _memory(rival: Rival) -> dict[str, float]:
    return {role: round(memory_mib(pids), 1) for role, pids in members(rival.processes()).items()}


def _idle(rivals: list[Rival]) -> dict[str, float]:
    """CPU of each rival while nobody calls, in milliseconds a second: what they do to one another's figures."""
    pids = {rival.name: [pid for own in members(rival.processes()).values() for pid in own] for rival in rivals}
    before = {name: cpu_us(own) for name, own in pids.items()}
    time.sleep(IDLE_S)
    return {name: round((cpu_us(own) - before[name]) / 1000 / IDLE_S, 1) for name, own in pids.items()}


def _print(cells: list[Cell]) -> None:
    print(f"{'rival':16}{'era':8}{'c':>3}{'calls/s':>9}{'p50 ms':>9}{'p99 ms':>9}  CPU µs a call")
    for cell in cells:
        found = cell.figures()
        roles = "  ".join(f"{role} {spent:.0f}" for role, spent in cell.cpu_a_call().items())
        row = f"{cell.rival:16}{cell.era:8}{cell.concurrency:3}{found['rate']:9}"
        print(f"{row}{found['p50_ms']!s:>9}{found['p99_ms']!s:>9}  {roles}")
        if not cell.latencies:
            print("    none was answered in time")
        for fault, times in cell.faults.items():
            print(f"    {times} × {fault}")


if __name__ == "__main__":
    main()
