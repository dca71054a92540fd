"""What revoking costs: a call at the edge and in a server, and bringing a revocation to everybody.

    .venv/bin/python bench/revocation.py [--calls 3000]

The edge is as in `edge.py`: real Envoy and agent, CPU of Envoy's own a call. The hub's part is the writing of
every bundle, by the hub's own writer on a real disk, of which a revocation makes one; edge and servers look at their
file up to 0.25 s later.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.calls.ordinary import answered, constant, cost
from pegboard.core.bundle import Ages
from pegboard.core.caller import Caller
from pegboard.core.coarse import RuleSet
from pegboard.core.names import ServerName
from pegboard.core.rates import Limits
from pegboard.core.release import Declaration
from pegboard.core.revoked import Revoked
from pegboard.core.stops import Stops
from pegboard_hub.common.home import Home
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.model import Access, RegisteredServer, Release, Snapshot
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import migrate
from tests.hub.company import presto
from tests.system.edge_rig import bundled, running_edge

REVOKED = (0, 1_000, 10_000)
SERVERS = (2, 100, 1_000)
ROUNDS = 5


def sessions(count: int) -> Revoked:
    """So many sessions that ended."""
    return Revoked(sessions=frozenset(uuid.uuid4().hex for _ in range(count)))


def at_the_edge(calls: int) -> None:
    """Print what a call costs Envoy, and how long a further revocation takes to count there."""
    print(f"{'revoked':>8} {'us a call':>10} {'counts after s':>15}")
    server = bundled("prod/server-0", ("group-0",), ("cli",))
    with running_edge() as edge:
        edge.serve(constant, edge.socket(server.server))
        for count in REVOKED:
            known = sessions(count)
            edge.publish(server, revoked=known)
            token = edge.token(server.server, groups=["group-0"])
            answered(edge, server.server, token, 200)
            time.sleep(1)  # Envoy has taken the list
            costs = [cost(edge, server.server, "group-0", calls) for _ in range(3)]
            began = time.monotonic()
            edge.publish(server, revoked=Revoked(known.sessions | {"session"}))
            answered(edge, server.server, token, 401)
            print(f"{count:8} {median(costs):10.0f} {time.monotonic() - began:15.2f}", flush=True)
            edge.publish(server)


def in_a_server() -> None:
    """Print what the look costs a server."""
    caller = Caller("ana", "person", (), "cli", "pegboard-cli", "", 0, uuid.uuid4().hex, session=uuid.uuid4().hex)
    for count in REVOKED:
        revoked, times = sessions(count), 200_000
        began = time.perf_counter()
        for _ in range(times):
            revoked.voids(caller)
        print(f"in a server, {count} revoked: {(time.perf_counter() - began) / times * 1e9:.0f} ns a request")


async def by_the_hub() -> None:
    """Print how long the hub takes to write every bundle, and how much that is."""
    print(f"{'servers':>8} {'revoked':>8} {'all written s':>14} {'MB':>6}")
    release = Release.of(Declaration.model_validate(presto()))
    for servers in SERVERS:
        granted = Access(("ads-eng", "finance"), ("cli", "chat"))
        names = [ServerName("prod", f"server-{number}") for number in range(servers)]
        snapshot = Snapshot({str(n): RegisteredServer(n, "x", granted, granted, "bench", release) for n in names})
        for count in REVOKED[:2]:
            with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
                taken, size = await _written(Home.open(Path(folder) / "home"), snapshot, names, count)
            print(f"{servers:8} {count:8} {taken:14.2f} {size / 1e6:6.1f}", flush=True)


async def _written(home: Home, snapshot: Snapshot, names: list[ServerName], count: int) -> tuple[float, int]:
    for name in names:
        home.add_server(name)
    database = Database.at(home.database)
    await migrate(database)
    revoked = sessions(count)
    writer = BundleWriter(
        home,
        database,
        open_keys(home),
        "http://localhost",
        Ages(),
        revoked=lambda: revoked,
        stops=Stops,
        limits=Limits,
        rules=RuleSet,
        edges=tuple,
    )
    taken = []
    for _ in range(ROUNDS):
        revoked = Revoked(revoked.sessions | {uuid.uuid4().hex})
        began = time.monotonic()
        await writer.write(snapshot, time.time(), refresh=False)
        taken.append(time.monotonic() - began)
    await database.close()
    return median(taken), sum(home.bundle(name).stat().st_size for name in names)


def main() -> None:
    """Measure all three."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=3000)
    options = arguments.parse_args()
    in_a_server()
    asyncio.run(by_the_hub())
    at_the_edge(options.calls)
    print(json.dumps({"load average": os.getloadavg(), "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
