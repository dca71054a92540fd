"""How long a saved change of the grants file takes to its effect at the edge, on a whole instance with two servers.

    .venv/bin/python bench/change.py [--times 20] [--port 8400]

Real Envoy, hub and servers as `pegboard up` starts them. From the moment the file is in its place (a rename) to the
first answer, of calls that follow one another, that shows the effect. A new server's release is there from before;
its time includes the start of its process. Prints median and longest, and the machine's load meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import httpx2

sys.path.insert(0, str(Path(__file__).parent.parent))

from pegboard_hub.demo.wire import Reply, Wire
from tests.system.instance import Instance, running
from tests.system.survival.test_changes import NEW, SCRATCH, Operator

PATIENCE_S = 60.0
Shows = Callable[[Reply], bool]


def ok(reply: Reply) -> bool:
    """The call ran."""
    return reply.status == httpx2.codes.OK and reply.refusal is None


def refused(reason: str) -> Shows:
    """The call was refused for this reason."""
    return lambda reply: reply.refusal is not None and reply.refusal["reason"] == reason


def gone(reply: Reply) -> bool:
    """The edge knows no such server."""
    return reply.status == httpx2.codes.NOT_FOUND


CHANGES: tuple[tuple[str, str, str, str | None, Shows], ...] = (
    ("grant taken", "fay", SCRATCH, 'groups = ["ads-eng"]', refused("group_not_granted")),
    ("grant given", "fay", SCRATCH, "", ok),
    ("server stopped", "ana", SCRATCH, 'stopped = "bench"', refused("server_stopped")),
    ("server resumed", "ana", SCRATCH, "", ok),
    ("tool stopped", "ana", SCRATCH, 'stopped_tools = { echo = "bench" }', refused("tool_stopped")),
    ("tool resumed", "ana", SCRATCH, "", ok),
    ("server added", "ana", NEW, "", ok),
    ("server withdrawn", "ana", NEW, None, gone),
)
"""What is changed, who looks at which server, its line in the file, and what shows the effect."""


async def measure(instance: Instance, operator: Operator, times: int) -> None:
    """Print one row per kind of change."""
    operator.change(**{NEW: ""})  # its release is made once, and is there from now on
    while f"{NEW} is live" not in instance.said:
        await asyncio.sleep(0.1)
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        wire = Wire(http, instance.public_url)
        tokens = {(who, server): await wire.token(who, server) for _, who, server, _, _ in CHANGES}
        await effect(wire, tokens["ana", NEW], NEW, ok)
        operator.change(**{NEW: None})
        while f"{NEW} is withdrawn and has ended" not in instance.said:
            await asyncio.sleep(0.1)
        taken: dict[str, list[float]] = {what: [] for what, *_ in CHANGES}
        for number in range(times):
            for what, who, server, line, shows in CHANGES:
                operator.change(**{server: line})
                began = time.monotonic()
                await effect(wire, tokens[who, server], server, shows)
                taken[what].append(time.monotonic() - began)
            while instance.said.count(f"{NEW} is withdrawn and has ended") < number + 2:
                await asyncio.sleep(0.05)
    for what, seconds in taken.items():
        print(f"{what:18} {median(seconds):8.2f} {max(seconds):8.2f} {len(seconds):6}")


async def effect(wire: Wire, token: str, server: str, shows: Shows) -> None:
    """Call until an answer shows it."""
    async with asyncio.timeout(PATIENCE_S):
        while not shows(await wire.call(token, "echo", {"text": "bench"}, server)):
            await asyncio.sleep(0.01)


def main() -> None:
    """Start an instance, measure, end it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--times", type=int, default=20)
    arguments.add_argument("--port", type=int)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        operator = Operator(Path(folder) / "grants.toml")
        with running("--grants", str(operator.file), port=given.port) as instance:
            print(f"{'change':18} {'median s':>8} {'max s':>8} {'times':>6}", flush=True)
            asyncio.run(measure(instance, operator, given.times))
    print(f"load average of the last minutes: {os.getloadavg()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
