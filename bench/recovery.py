"""How long callers wait when a process is killed: from the last good answer before it to the first good one after it.

    .venv/bin/python bench/recovery.py [--times 5] [--rate 15]

One detached instance with the demo's servers, callers of both protocol eras through the real edge, `kill -9`, again
and again. A process whose death no caller notices shows the usual time between two answers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.instances import detached
from pegboard_hub.common.home import Home
from tests.system.survival.kills import PROCESSES, SERVERS, Kill, kill, kill_supervisor, live_again, outage, process
from tests.system.survival.load import Load

SUPERVISOR = "supervisor"


def main() -> None:
    """Print one row per process."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--times", type=int, default=5)
    arguments.add_argument("--rate", type=float, default=15.0, help="calls a second of each of four callers")
    options = arguments.parse_args()
    print(f"{'killed':14} {'calls to':14} {'median s':>8} {'worst s':>8}  calls in all runs")
    with detached() as instance:
        for name in (*PROCESSES, SUPERVISOR):
            asyncio.run(measure(instance.home, instance.url, name, options.times, options.rate))


async def measure(home: Home, url: str, name: str, times: int, rate: float) -> None:
    """Kill one process so many times; a row for each server."""
    seen: dict[str, list[float]] = {server: [] for server in SERVERS}
    load = Load(url, rate)
    async with load.running() as book:
        for _ in range(times):
            await answers(load, time.monotonic())
            killed = await killed_and_back(home, name)
            await answers(load, time.monotonic())
            for server in SERVERS:
                seen[server].append(outage(load, killed, (server,)))
    fates = Counter(each.fate for each in book.entries)
    told = ", ".join(f"{number} {fate}" for fate, number in fates.items())
    for server, seconds in seen.items():
        print(f"{name:14} {server:14} {statistics.median(seconds):8.2f} {max(seconds):8.2f}  {told}", flush=True)


async def killed_and_back(home: Home, name: str) -> Kill:
    """Kill a process and wait until all that fell with it is live."""
    if name == SUPERVISOR:
        return await kill_supervisor(home)
    restarts = process(home, name)["restarts"]
    killed = kill(home, name)
    await live_again(home, killed, restarts)
    return killed


async def answers(load: Load, since: float) -> None:
    """Wait until every server answered."""
    await asyncio.gather(*(load.answered(server, since) for server in SERVERS))


if __name__ == "__main__":
    main()
