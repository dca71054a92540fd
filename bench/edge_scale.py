"""What servers and groups cost the edge: CPU a call on the first and the last route, start, memory, one change.

    .venv/bin/python bench/edge_scale.py [--calls 3000] [--save]

Real Envoy, real agent, one client connection, an upstream that answers a constant. CPU is Envoy's own (user and
system, from /proc), in microseconds a call; every filter and the access log are on and the token is in the JWT cache.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from pegboard.core.bundle import BundledServer
from tests.system.edge_rig import Rig, bundled, running_edge, tool_call, until

SIZES = ((10, 5), (1_000, 100), (10_000, 100), (10_000, 1_000))
"""Servers, and groups that they are granted to."""

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


async def constant(scope: Any, receive: Any, send: Any) -> None:
    """The cheapest upstream there is."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": b"{}"})


def main() -> None:
    """Print one row per size."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=3000)
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/edge_scale.json")
    options = arguments.parse_args()
    before, rows = keeping.load_average(), []
    print("servers groups | start s  RSS MB | first us  last us | change: live s  CPU s")
    for servers, groups in SIZES:
        with running_edge(envoy=False) as edge:
            row = measure(edge, servers, groups, options.calls)
        rows.append(row)
        cost = f"{row['first_us']:8.0f} {row['last_us']:8.0f} | {row['change_s']:12.2f} {row['change_cpu_s']:6.2f}"
        print(f"{servers:7} {groups:6} | {row['start_s']:6.1f} {row['rss_mib']:7.0f} | {cost}", flush=True)
    if options.save:
        print(keeping.save("edge_scale", [before, keeping.load_average()], rows=rows))


def measure(edge: Rig, servers: int, groups: int, calls: int) -> dict[str, float]:
    """One row."""
    names = [f"prod/server-{number}" for number in range(servers)]
    registry = [_server(name, number, groups) for number, name in enumerate(names)]
    edge.publish(*registry)
    routes = edge.home.edge / "rds.json"
    until(lambda: names[-1] in routes.read_text(), "the routes are written")
    for name in {names[0], names[-1]}:
        edge.serve(constant, edge.socket(name))
    began = time.monotonic()
    edge.start_envoy()
    started = time.monotonic() - began
    first, last = (_cost(edge, name, f"group-{number % groups}", calls) for number, name in _ends(names))
    memory = _memory(edge)
    live, spent = _change(edge, registry)
    found = {"start_s": started, "rss_mib": memory, "first_us": first, "last_us": last}
    found |= {"change_s": live, "change_cpu_s": spent}
    return {"servers": servers, "groups": groups} | {name: round(value, 2) for name, value in found.items()}


def _server(name: str, number: int, groups: int) -> BundledServer:
    mine = tuple(f"group-{(number + step) % groups}" for step in range(min(4, groups)))
    return bundled(name, mine, ("cli", "chat", "ide"))


def _ends(names: list[str]) -> list[tuple[int, str]]:
    return [(0, names[0]), (len(names) - 1, names[-1])]


def _cost(edge: Rig, name: str, group: str, calls: int) -> float:
    headers = {
        "authorization": f"Bearer {edge.token(name, groups=[group])}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }
    content = json.dumps(tool_call())
    with edge.client() as client:
        for _ in range(200):
            assert client.post(f"/mcp/{name}", headers=headers, content=content).status_code == 200
        before = _cpu(edge)
        for _ in range(calls):
            client.post(f"/mcp/{name}", headers=headers, content=content)
        return (_cpu(edge) - before) * TICK_US / calls


def _change(edge: Rig, registry: list[BundledServer]) -> tuple[float, float]:
    """Let another group into the last server: seconds until it counts, and Envoy's CPU for it."""
    last = registry[-1]
    token = edge.token(last.server, groups=["group-0"])
    narrow = last.model_copy(update={"groups": ("group-1",)})
    edge.publish(*registry[:-1], narrow)
    until(lambda: edge.call(f"/mcp/{last.server}", token).status_code == 403, "the group is out")
    before, began = _cpu(edge), time.monotonic()
    edge.publish(*registry[:-1], last.model_copy(update={"groups": ("group-0",)}))
    until(lambda: edge.call(f"/mcp/{last.server}", token).status_code == 200, "the group is in")
    return time.monotonic() - began, (_cpu(edge) - before) * TICK_US / 1_000_000


def _cpu(edge: Rig) -> int:
    assert edge.envoy is not None
    fields = Path(f"/proc/{edge.envoy.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory(edge: Rig) -> float:
    assert edge.envoy is not None
    status = Path(f"/proc/{edge.envoy.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
