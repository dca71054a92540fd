"""What metrics and log lines cost: a call in a server, and a gathering by the supervisor.

    .venv/bin/python bench/metrics.py [--calls 20000]

In process. The first part drives what the chain tells the meter of one allowed call (five timed steps, one call
under way, one end), then writes the line that is logged of it, in microseconds of CPU a call. The second part reads
and writes pages as the supervisor does, of servers that declare ten tools each, all called from three surfaces.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pegboard.core.logs import JsonFormatter, annotated
from pegboard.core.metrics import STEPS
from pegboard.remote.metrics import ServerMeter
from pegboard_hub.runtime.gathering import samples_of
from pegboard_hub.telemetry.exposition import write

TOOLS = [f"tool_{number}" for number in range(10)]


def main() -> None:
    """Print each figure with what it is of."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=20_000)
    calls = arguments.parse_args().calls
    meter = ServerMeter(TOOLS)
    print(f"metrics of a call    {each(lambda: one_call(meter), calls):7.1f} us")
    print(f"a step of it         {each(lambda: one_step(meter), calls):7.1f} us")
    print(f"annotating a request {each(one_annotation, calls):7.1f} us")
    print(f"its log line         {each(one_line(JsonFormatter({'server': 'dev/desk'})), calls):7.1f} us")
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    print(f"the same as text     {each(one_line(plain), calls):7.1f} us")
    page = busy_page()
    print(f"a server's page        {len(page) / 1024:.0f} KiB")
    for servers in (10, 100, 1000):
        began = time.process_time()
        samples = [s for number in range(servers) for s in samples_of(f"prod/server-{number}", page, TOOLS)]
        text = write(samples)
        spent = time.process_time() - began
        print(f"gathering {servers:5} busy servers: {spent:6.2f} s of CPU, a page of {len(text) / 2**20:.1f} MiB")


def each(work: Callable[[], object], times: int) -> float:
    """Microseconds of CPU for one run of `work`, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - began)
    return best / times * 1e6


def one_step(meter: ServerMeter) -> None:
    """One timed step."""
    with meter.step("admit"):
        pass


def one_call(meter: ServerMeter) -> None:
    """What the chain tells of one allowed call."""
    for step in STEPS:
        with meter.step(step):
            pass
    with meter.under_way():
        pass
    meter.ended("tool_1", "cli", "ok", 0.001)


def one_annotation() -> None:
    """The three blocks in which a call is noted for its log lines."""
    request = "0c6f9d8e-1111-4222-8333-944445555666"
    with annotated(request_id=request, trace_id=request), annotated(sub="ana", surface="cli"), annotated(tool="t"):
        pass


def one_line(formatter: logging.Formatter) -> Callable[[], object]:
    """Logging one line."""
    logger = logging.Logger("bench")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(formatter)
    logger.addHandler(handler)

    def line() -> None:
        with annotated(request_id="0c6f9d8e-1111-4222-8333-944445555666", sub="ana", surface="cli", tool="echo"):
            logger.info("call %s: %s by %s from %s", "0c6f9d8e-1111-4222-8333-944445555666", "echo", "ana", "cli")

    return line


def busy_page() -> str:
    """The page of a server of which everything was called."""
    meter = ServerMeter(TOOLS)
    for tool in TOOLS:
        for surface in ("cli", "chat", "ide"):
            for outcome in ("ok", "tool_error"):
                meter.ended(tool, surface, outcome, 0.01)
    return meter.page().decode()


if __name__ == "__main__":
    main()
