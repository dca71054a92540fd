"""How fast the switch is, under load: from the answer to a stop until the first refused call, at both layers.

    .venv/bin/python bench/stop.py [--rounds 10] [--calls 3000]

A whole instance with everybody of `tests/system/stop_load.py` calling all the time, at the edge and straight at the
servers' sockets. A figure is negative where the first refusal came before the hub's answer did.

Then what a list of stops costs Envoy a call, as in `edge.py`; `--rounds 0` or `--calls 0` leaves a part out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench.calls.ordinary import answered, constant, cost
from pegboard.core.stops import Stops
from tests.system.edge_rig import bundled, running_edge
from tests.system.stop_load import CALLERS, Load, loaded, machine, resume, stop, write_grants

STOPPED = (0, 1_000, 10_000)


async def measured(rounds: int, grants: Path) -> dict[str, dict[str, float]]:
    """Print the figures of each kind and layer; those of all kinds by layer, in seconds."""
    with loaded(grants) as (instance, load):
        times: dict[tuple[str, str], list[float]] = {}
        began = time.monotonic()
        async with load.running(), machine(instance) as door:
            for _ in range(rounds):
                for name, caller in CALLERS.items():
                    if caller.stop[0]:
                        await _round(load, door, name, times)
        taken = time.monotonic() - began
        calls = sum(map(len, load.samples.values()))
        failed = sum(not s.ok for layer in ("edge", "server") for s in load.samples[layer, "others"])
    print(f"{'stopped':<12} {'layer':<7} {'p50 s':>7} {'p99 s':>7} {'max s':>7}")
    for (name, layer), found in sorted(times.items()):
        print(_line(name, layer, found))
    both = {
        layer: [each for (_, at), found in times.items() if at == layer for each in found]
        for layer in ("edge", "server")
    }
    for layer, found in both.items():
        print(_line("all", layer, found))
    print(f"{calls / taken:.0f} calls/s beside it; {failed} of the calls of others failed")
    return {
        layer: {"p50_s": round(median(found), 2), "p99_s": round(_late(found), 2), "worst_s": round(max(found), 2)}
        for layer, found in both.items()
    } | {"beside": {"calls_a_second": round(calls / taken), "failed": failed}}


async def _round(load: Load, door: httpx2.AsyncClient, name: str, times: dict[tuple[str, str], list[float]]) -> None:
    caller, asked = CALLERS[name], time.monotonic()
    await stop(door, caller)
    answered = time.monotonic()
    for layer in ("edge", "server"):
        refused = await load.first(layer, name, asked, ok=False)
        times.setdefault((name, layer), []).append(refused.sent - answered)
    ended = time.monotonic()
    await resume(door, caller)
    for layer in ("edge", "server"):
        await load.first(layer, name, ended, ok=True)


def _line(name: str, layer: str, found: list[float]) -> str:
    return f"{name:<12} {layer:<7} {median(found):7.2f} {_late(found):7.2f} {max(found):7.2f}"


def _late(found: list[float]) -> float:
    return quantiles(found, n=100, method="inclusive")[98] if len(found) > 1 else found[0]


def at_the_edge(calls: int) -> None:
    """Print what a call costs Envoy while so many others are stopped."""
    print(f"{'stopped':>8} {'us a call':>10}")
    server = bundled("prod/server-0", ("group-0",), ("cli",))
    with running_edge() as edge:
        edge.serve(constant, edge.socket(server.server))
        for count in STOPPED:
            people = {f"person-{number}": "it leaks" for number in range(count)}
            edge.publish(server, stops=Stops(people={**people, "last": "it leaks"} if count else {}))
            token, last = (edge.token(server.server, groups=["group-0"], sub=sub) for sub in ("ana", "last"))
            answered(edge, server.server, token, 200)
            answered(edge, server.server, last, 403 if count else 200)
            print(
                f"{count:8} {median(cost(edge, server.server, 'group-0', calls) for _ in range(3)):10.0f}",
                flush=True,
            )


def main() -> None:
    """Measure."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--calls", type=int, default=3000)
    options = arguments.parse_args()
    if options.calls:
        at_the_edge(options.calls)
    if options.rounds:
        under_load(options.rounds)
    print(json.dumps({"load average": os.getloadavg(), "cores": os.cpu_count()}))


def under_load(rounds: int) -> dict[str, dict[str, float]]:
    """The whole instance's figures, printed and given back."""
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        return asyncio.run(measured(rounds, write_grants(Path(folder))))


if __name__ == "__main__":
    main()
