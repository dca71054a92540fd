"""What a call costs the edge: beside Envoy by hand, for servers, groups and rates, and filter by filter.

    .venv/bin/python bench/edge.py [--calls 320] [--rounds 9] [--only beside,replicas,filters,sizes,stops] [--save]

Real Envoy, real agent, an upstream that answers a constant; every filter and the access log are on, the token is in
the JWT cache, and no rate is ever reached. CPU is Envoy's own. The two others are Envoy by hand before the same
upstream, plain, and with JWT, RBAC and a log (`bench/calls/rivals/envoy.py`). All run at once and take turns, so
that ratios hold on a busy machine; absolute figures do not.

`filters` begins with none and no log, and adds one part after the other, each an Envoy of its own. `sizes` starts one
edge for each size, and changes one grant of the last server. `stops` is `bench/stop.py`'s figure, under its own load.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from bench.calls import processes
from bench.calls.bursts import SHAPES, Contestant, on_cpu_us, upstream
from bench.calls.ordinary import constant, cost
from bench.calls.rival import Target
from bench.calls.rivals.envoy import GuardedEnvoy, PlainEnvoy
from bench.calls.wire import Requests
from bench.stop import under_load
from pegboard.core.bundle import BundledServer, Endpoint
from pegboard.core.coarse import CoarseRule
from pegboard.core.rates import MOST_REQUESTS, NO_LIMITS, Limits, LimitsSection, RateLimit
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.config import BOOTSTRAP, LISTENER, ROUTES
from tests.system.edge_rig import Rig, Upstream, bundled, running_edge, until

Json = dict[str, Any]

GROUPS = 100
SIZES = (*((*size, releases) for size in ((10, 5), (10_000, 100)) for releases in range(3)), (10_000, 1_000, 0))
"""Servers, groups that they are granted to, and releases of each that have two replicas; none: one socket each."""

DEFAULTS = Limits(
    rates=tuple(rate.model_copy(update={"requests": MOST_REQUESTS}) for rate in LimitsSection().compiled().rates)
)
TWENTY = Limits(
    rates=(
        *DEFAULTS.rates,
        *(
            RateLimit(per="person", requests=MOST_REQUESTS, surfaces=("cli",), namespaces=(f"team-{n}",))
            for n in range(8)
        ),
        *(RateLimit(per="person", requests=MOST_REQUESTS - n, surfaces=("cli",)) for n in range(9)),
    )
)


class Kind(NamedTuple):
    """One of Pegboard's edges that are compared: servers, rates, and coarse rules.

    No rule is for the caller: each is looked at, and lets the call pass.

    Attributes:
        rules: that name a server, shared out evenly.
        general: rules that name none, and so are looked at for each call.
        releases: of each server, that have two replicas each; none where a server has one socket.
    """

    servers: int
    limits: Limits
    rules: int = 0
    general: int = 0
    releases: int = 0


EDGES = {
    "10 servers, no rates": Kind(10, NO_LIMITS),
    "10 servers": Kind(10, DEFAULTS),
    "10 servers, twenty rates": Kind(10, TWENTY),
    "10 servers, 100 rules for each": Kind(10, DEFAULTS, 1_000),
    "10 servers, 100 rules for all": Kind(10, DEFAULTS, general=100),
    "10,000 servers": Kind(10_000, DEFAULTS),
    "10,000 servers, 10,000 rules": Kind(10_000, DEFAULTS, 10_000),
}

SPREAD = {
    "10 servers": Kind(10, DEFAULTS),
    "10 servers, two replicas each": Kind(10, DEFAULTS, releases=1),
    "10 servers, two releases each": Kind(10, DEFAULTS, releases=2),
    "10,000 servers": Kind(10_000, DEFAULTS),
    "10,000 servers, two replicas each": Kind(10_000, DEFAULTS, releases=1),
    "10,000 servers, two releases each": Kind(10_000, DEFAULTS, releases=2),
}
"""Edges with and without replicas. Where a server has two releases each takes half of the people."""

PARTS: dict[str, tuple[str, ...]] = {
    "the token": ("jwt",),
    "headers of identity, cookies": ("strip", "cookies", "identity"),
    "grants, revocations, stops": ("revoked", "door", "grants", "tool_stops", "stopped", "rules", "server_rules"),
    "the body (MCP), and its headers' agreement": ("mcp", "agreement"),
    "a session's replica": ("session",),
    "rates": ("rate_address", "rate_person", "rate_surface", "rate_server", "retry-after"),
}
"""What a call costs, part by part: words, and the filters. The log is behind the last of them."""


def main() -> None:
    """Print each table, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=320, help="of one shape, in one round")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument(
        "--only", default="beside,replicas,filters,sizes,stops", help="which tables, with commas between them"
    )
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/edge.json")
    options = arguments.parse_args()
    tables: dict[str, Callable[[int, int], Any]] = {
        "beside": beside,
        "replicas": replicas,
        "filters": filters,
        "sizes": sizes,
        "stops": lambda _, rounds: under_load(max(rounds // 3, 1)),
    }
    before = keeping.load_average()
    found = {name: tables[name](options.calls, options.rounds) for name in options.only.split(",")}
    if options.save:
        print(keeping.save("edge", [before, keeping.load_average()], **found))


def beside(calls: int, rounds: int) -> Json:
    """Pegboard's edges and Envoy by hand, in turns."""
    with ExitStack() as running, tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        socket = running.enter_context(upstream(Path(folder)))
        rivals = [running.enter_context(_by_hand(kind(socket), Path(folder))) for kind in (PlainEnvoy, GuardedEnvoy)]
        ours = [running.enter_context(_pegboard(name, socket, kind)) for name, kind in EDGES.items()]
        return _race([*rivals, *ours], rivals[-1], calls, rounds)


def replicas(calls: int, rounds: int) -> Json:
    """Edges with and without replicas, in turns; each is compared with the first."""
    with ExitStack() as running, tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        socket = running.enter_context(upstream(Path(folder)))
        edges = [running.enter_context(_pegboard(name, socket, kind)) for name, kind in SPREAD.items()]
        return _race(edges, edges[0], calls, rounds)


def filters(calls: int, rounds: int) -> Json:
    """One part of the edge after the other."""
    with ExitStack() as running, tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        socket = running.enter_context(upstream(Path(folder)))
        edge = running.enter_context(_edge(Kind(10, DEFAULTS), socket))
        steps: list[Contestant] = []
        kept: set[str] = {"router"}
        for words, names in {"no filter and no log": (), **PARTS, "the log": ()}.items():
            kept |= set(names)
            logs = words == "the log"
            steps.append(running.enter_context(_part(edge, words, frozenset(kept), Path(folder), logs=logs)))
        assert kept == {each["name"] for each in _manager(_files(edge))["http_filters"]}, "every filter is in a part"
        return _race(steps, steps[0], calls, rounds)


def _race(contestants: list[Contestant], measure: Contestant, calls: int, rounds: int) -> Json:
    for _ in range(rounds):
        for shape in SHAPES:
            for each in contestants:
                each.measure(shape, calls)
    found = {each.name: each.figures(measure) for each in contestants}
    for name, figures in found.items():
        cells = "  ".join(
            f"{f['cpu_us']:6.1f} µs {f['ratio']:5.2f} × {f['p50_ms']:7.3f} ms" for f in figures.values()
        )
        print(f"{name:45} {cells}", flush=True)
    return found


@contextmanager
def _by_hand(rival: PlainEnvoy, folder: Path) -> Iterator[Contestant]:
    own = folder / rival.name
    own.mkdir()
    try:
        rival.start(own)
        target = rival.target()
        [pid] = rival.processes()["edge"]
        yield Contestant(rival.name, target.port, pid, Requests(target, "modern").call(1, b""))
    finally:
        rival.stop()


@contextmanager
def _edge(kind: Kind, socket: Path) -> Iterator[Rig]:
    """An edge of that kind, whose last server is the upstream. Its agent has done its work."""
    with running_edge(envoy=False) as edge:
        names = [f"prod/server-{number}" for number in range(kind.servers)]
        each = kind.rules // kind.servers
        servers = [
            _server(name, number, GROUPS).model_copy(
                update={"rules": _rules(each, name), "endpoints": _endpoints(name, kind.releases)}
            )
            for number, name in enumerate(names)
        ]
        edge.publish(*servers, limits=kind.limits, rules=_rules(kind.general))
        until(lambda: names[-1] in (edge.home.edge / ROUTES).read_text(), "the routes are written")
        edge.socket(names[-1]).symlink_to(socket)
        for replica in servers[-1].endpoints:
            (edge.home.run / replica.address.removeprefix("unix:")).symlink_to(socket)
        edge.start_envoy()
        edge.stop_agent()
        yield edge


def _endpoints(server: str, releases: int) -> tuple[Endpoint, ...]:
    folder = server.replace("/", ".")
    return tuple(
        Endpoint(
            address=f"unix:s/{folder}/{release}-{number}.sock", release=f"{release:064}", percent=100 // releases
        )
        for release in range(releases)
        for number in (1, 2)
    )


def _rules(count: int, *servers: str) -> tuple[CoarseRule, ...]:
    return tuple(
        CoarseRule(
            name=f"rule-{number}",
            effect="deny",
            surfaces=("chat", "ide"),
            except_groups=("nobody",),
            servers=servers,
            why="the bench looks at it",
            ask="the platform team",
        )
        for number in range(count)
    )


@contextmanager
def _pegboard(name: str, socket: Path, kind: Kind) -> Iterator[Contestant]:
    with _edge(kind, socket) as edge:
        assert edge.envoy is not None
        yield Contestant(name, edge.port, edge.envoy.pid, _call(edge, edge.port))


def _call(edge: Rig, port: int) -> bytes:
    """One call of the last server."""
    routes = json.loads((edge.home.edge / ROUTES).read_text())
    number = len(_servers(routes)) - 1
    name = f"prod/server-{number}"
    token = edge.token(name, groups=[f"group-{number % GROUPS}"])
    target = Target(port, f"/mcp/{name}", headers={"Authorization": f"Bearer {token}"})
    return Requests(target, "modern").call(1, b"")


def _servers(routes: Json) -> Json:
    found: Json = routes["resources"][0]["virtual_hosts"][0]["matcher"]["matcher_tree"]["exact_match_map"]["map"]
    return found


def _files(edge: Rig) -> dict[str, Json]:
    return {path.name: json.loads(path.read_text()) for path in edge.home.edge.glob("*.json")}


def _manager(files: dict[str, Json]) -> Json:
    found: Json = files[LISTENER]["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


@contextmanager
def _part(edge: Rig, words: str, kept: frozenset[str], folder: Path, *, logs: bool) -> Iterator[Contestant]:
    """A second Envoy with this edge's files and some of its filters, at a port of its own."""
    own, port, files = folder / str(len(kept) + logs), processes.free_port(), _files(edge)
    own.mkdir()
    manager = _manager(files)
    manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] in kept]
    if not logs:
        manager["access_log"] = []
    files[LISTENER]["resources"][0]["address"]["socket_address"]["port_value"] = port
    hosts = files[ROUTES]["resources"][0]["virtual_hosts"]
    hosts[0]["domains"] = [f"localhost:{port}"]
    hosts[0]["matcher"] = {"matcher_tree": hosts[0]["matcher"]["matcher_tree"]}  # others switch filters off by name
    del hosts[1:]
    moved = {
        str(edge.home.edge_admin_socket): str(own / "admin.sock"),
        str(edge.home.edge_access_log): str(own / "access.log"),
        str(edge.home.edge): str(own),
    }
    for name, document in files.items():
        text = json.dumps(document)
        for here, there in moved.items():
            text = text.replace(here, there)
        (own / name).write_text(text)
    log = own / "envoy.log"
    with log.open("wb") as output:
        envoy = subprocess.Popen(envoy_arguments(own / BOOTSTRAP, 2), stdout=output, stderr=output)
    try:
        processes.until(lambda: processes.listens(port), words, log, 20)
        yield Contestant(words, port, envoy.pid, _call(edge, port))
    finally:
        envoy.kill()
        envoy.wait()


def sizes(calls: int, rounds: int) -> list[dict[str, float]]:
    """One row per size."""
    rows = []
    print("servers groups releases | start s  RSS MB | first us  last us | change: live s  CPU s | replica: s  CPU s")
    for servers, groups, releases in SIZES:
        with running_edge(envoy=False) as edge:
            row = _measured(edge, servers, groups, calls * rounds, releases)
        rows.append(row)
        cpu = f"{row['first_us']:8.0f} {row['last_us']:8.0f} | {row['change_s']:12.2f} {row['change_cpu_s']:6.2f}"
        if releases:
            cpu += f" | {row['replica_s']:13.2f} {row['replica_cpu_s']:6.2f}"
        print(
            f"{servers:7} {groups:6} {releases:8} | {row['start_s']:6.1f} {row['rss_mib']:7.0f} | {cpu}", flush=True
        )
    return rows


def _measured(edge: Rig, servers: int, groups: int, calls: int, releases: int) -> dict[str, float]:
    names = [f"prod/server-{number}" for number in range(servers)]
    registry = [
        _server(name, number, groups).model_copy(update={"endpoints": _endpoints(name, releases)})
        for number, name in enumerate(names)
    ]
    edge.publish(*registry)
    routes = edge.home.edge / ROUTES
    until(lambda: names[-1] in routes.read_text(), "the routes are written")
    for name in {names[0], names[-1]}:
        edge.serve(constant, edge.socket(name))
        for replica in _endpoints(name, releases):
            (edge.home.run / replica.address.removeprefix("unix:")).symlink_to(edge.socket(name))
    began = time.monotonic()
    edge.start_envoy()
    started = time.monotonic() - began
    ends = [(names[0], "group-0"), (names[-1], f"group-{(servers - 1) % groups}")]
    turns = [[cost(edge, name, group, max(calls // 5, 1)) for name, group in ends] for _ in range(5)]
    first, last = (median(found) for found in zip(*turns, strict=True))
    memory = _memory(edge)
    live, spent = _change(edge, registry)
    found = {"start_s": started, "rss_mib": memory, "first_us": first, "last_us": last}
    found |= {"change_s": live, "change_cpu_s": spent}
    if releases:
        live, spent = _replica(edge, registry)
        found |= {"replica_s": live, "replica_cpu_s": spent}
    return {"servers": servers, "groups": groups, "releases": releases} | {
        name: round(value, 2) for name, value in found.items()
    }


def _server(name: str, number: int, groups: int) -> BundledServer:
    mine = tuple(f"group-{(number + step) % groups}" for step in range(min(4, groups)))
    return bundled(name, mine, ("cli", "chat", "ide"))


def _change(edge: Rig, registry: list[BundledServer]) -> tuple[float, float]:
    """Let another group into the last server: seconds until it counts, and Envoy's CPU for it."""
    assert edge.envoy is not None
    last = registry[-1]
    token = edge.token(last.server, groups=["group-0"])
    narrow = last.model_copy(update={"groups": ("group-1",)})
    edge.publish(*registry[:-1], narrow)
    until(lambda: edge.call(f"/mcp/{last.server}", token).status_code == 403, "the group is out")
    before, began = on_cpu_us(edge.envoy.pid), time.monotonic()
    edge.publish(*registry[:-1], last.model_copy(update={"groups": ("group-0",)}))
    until(lambda: edge.call(f"/mcp/{last.server}", token).status_code == 200, "the group is in")
    return time.monotonic() - began, (on_cpu_us(edge.envoy.pid) - before) / 1_000_000


def _replica(edge: Rig, registry: list[BundledServer]) -> tuple[float, float]:
    """A replica of the last server is another: seconds until it is called, and Envoy's CPU for it."""
    assert edge.envoy is not None
    last, another = registry[-1], Upstream("another")
    token = edge.token(last.server, groups=["group-0"])
    address = last.endpoints[0].address.replace(".sock", "-new.sock")
    edge.serve(another, edge.home.run / address.removeprefix("unix:"))
    moved = tuple(each.model_copy(update={"address": address}) for each in last.endpoints[:1])
    before, began = on_cpu_us(edge.envoy.pid), time.monotonic()
    edge.publish(*registry[:-1], last.model_copy(update={"groups": ("group-0",), "endpoints": moved}))
    until(lambda: edge.call(f"/mcp/{last.server}", token).text != "{}", "the replica answers")
    return time.monotonic() - began, (on_cpu_us(edge.envoy.pid) - before) / 1_000_000


def _memory(edge: Rig) -> float:
    assert edge.envoy is not None
    status = Path(f"/proc/{edge.envoy.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
