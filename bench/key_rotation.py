"""What a rotation of keys costs callers: how long it takes, and what becomes of the calls that are made meanwhile.

    .venv/bin/python bench/key_rotation.py [--times 8] [--rate 8]

One detached instance with the demo's servers; callers of both protocol eras through the real edge, who renew their
tokens twice a second, so that tokens of every key are in use; `pegboard keys rotate`, again and again.
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
from bench.recovery import answers
from pegboard_hub.common.home import Home
from tests.system.survival.load import Load

RENEW_S = 0.5


def main() -> None:
    """Print one row."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--times", type=int, default=8)
    arguments.add_argument("--rate", type=float, default=8.0, help="calls a second of each of four callers")
    options = arguments.parse_args()
    with detached() as instance:
        asyncio.run(measure(instance.home, instance.url, options.times, options.rate))


async def measure(home: Home, url: str, times: int, rate: float) -> None:
    """Rotate tokens and bundles so many times under load."""
    load = Load(url, rate, RENEW_S)
    took = []
    async with load.running() as book:
        await answers(load, time.monotonic())
        for _ in range(times):
            began = time.monotonic()
            await rotate(home)
            took.append(time.monotonic() - began)
        await answers(load, time.monotonic())
    fates = Counter(f"{each.fate} {each.why}".strip() for each in book.entries)
    told = ", ".join(f"{number} {fate}" for fate, number in fates.items())
    print(f"{times} rotations, median {statistics.median(took):.1f} s, longest {max(took):.1f} s; calls: {told}")


async def rotate(home: Home) -> None:
    """Rotate all keys with the command."""
    command = [sys.executable, "-m", "pegboard.cli", "keys", "rotate", "--home", str(home.root)]
    running = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL, stdout=sys.stderr)
    if await running.wait() != 0:
        raise SystemExit(f"a rotation did not end: status {running.returncode}")


if __name__ == "__main__":
    main()
