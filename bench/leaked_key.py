"""How fast a key that leaked is worthless: the command's start, and from the order until each door refuses it.

    .venv/bin/python bench/leaked_key.py [--times 8] [--rate 8]

One detached instance with the demo's servers; callers of both protocol eras through the real edge, who renew their
tokens twice a second; `pegboard keys leaked`, again and again. What it says of each door is what it tried there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.instances import detached
from bench.recovery import answers
from pegboard_hub.common.home import Home
from tests.system.survival.load import Load

RENEW_S = 0.5


def main() -> None:
    """Print a row for each door."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--times", type=int, default=8)
    arguments.add_argument("--rate", type=float, default=8.0, help="calls a second of each of four callers")
    options = arguments.parse_args()
    with detached() as instance:
        asyncio.run(measure(instance.home, instance.url, options.times, options.rate))


async def measure(home: Home, url: str, times: int, rate: float) -> None:
    """Give all keys up so many times under load."""
    load = Load(url, rate, RENEW_S)
    took: dict[str, list[float]] = {}
    async with load.running() as book:
        await answers(load, time.monotonic())
        for _ in range(times):
            asked = time.time()
            found = await give_up(home)
            took.setdefault("(start of the command)", []).append(found["leak"]["at"] - asked)
            for door, seconds in found["refused_s"].items():
                took.setdefault(door, []).append(seconds)
            await answers(load, time.monotonic() + RENEW_S)
    print(f"{times} times, load average {os.getloadavg()[0]:.0f}")
    for door, each in took.items():
        print(f"{door:24} median {statistics.median(each):.2f} s, longest {max(each):.2f} s")
    fates = Counter(f"{each.fate} {each.why}".strip() for each in book.entries)
    print("calls:", ", ".join(f"{number} {fate}" for fate, number in fates.items()))


async def give_up(home: Home) -> Any:
    """What the command says."""
    command = [sys.executable, "-m", "pegboard.cli", "keys", "leaked", "--home", str(home.root), "--json"]
    running = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await running.communicate()
    if running.returncode != 0:
        raise SystemExit(f"a key was not given up: status {running.returncode}")
    return json.loads(out)


if __name__ == "__main__":
    main()
