"""The Envoy beside a process in a pod: doors in front of its sockets, ways to other pods, and what probes may ask.

All of it is TLS by SPIFFE ID, both ways. The bytes are passed on as they are; only what probes ask is read, so that
nothing but three questions gets through without a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.readiness import HEALTH_PATH, READY_PATH
from pegboard_hub.edge.clusters import plain_cluster, protocol
from pegboard_hub.edge.envoy import Json, extension
from pegboard_hub.edge.mutual import Identity, from_some
from pegboard_hub.edge.remote import Remote, remote_cluster

SIDECAR_PATH = "/agentz"
"""Answered by the sidecar itself, once it has its configuration."""

CALLS_PATH = "/healthz/calls"
"""How many calls a server answers right now."""

_TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True, slots=True)
class Door:
    """Where others come in.

    Attributes:
        name: for the statistics.
        port: TCP port, on every address of the pod.
        peers: SPIFFE IDs that are let in.
        below: beginnings of SPIFFE IDs that are let in.
        socket: where what is behind it listens.
    """

    name: str
    port: int
    socket: Path
    peers: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """A socket here that leads to another pod.

    Attributes:
        name: for the statistics.
        socket: made here, for this pod's processes.
        remote: where it leads, and who must be there.
    """

    name: str
    socket: Path
    remote: Remote


@dataclass(frozen=True, slots=True)
class Probes:
    """What the kubelet may ask, without a certificate.

    Attributes:
        port: TCP port, on every address of the pod.
        socket: the server that answers; None where the sidecar alone does.
    """

    port: int
    socket: Path | None = None


def sidecar(
    own: Identity, doors: Iterable[Door], ways: Iterable[Way], probes: Probes, admin: Path, host: str = "::"
) -> Json:
    """The bootstrap of a sidecar.

    Args:
        own: the pod's certificate, and whose count.
        doors: where others come in.
        ways: where this pod goes.
        probes: what the kubelet may ask.
        admin: Unix socket of this Envoy's administration.
        host: address to listen on: `::` is every address, also of version 4.

    Raises:
        ValueError: a door is for nobody.
    """
    doors, ways = tuple(doors), tuple(ways)
    listeners = [_door(own, each, host) for each in doors]
    listeners += [_way(each) for each in ways]
    listeners.append(_probes(probes, host))
    clusters = [_plain(f"door-{each.name}", each.socket) for each in doors]
    clusters += [_remote(own, each) for each in ways]
    clusters += [_probed(probes.socket)] if probes.socket else []
    return {
        "node": {"id": "sidecar", "cluster": "pegboard"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _door(own: Identity, door: Door, host: str) -> Json:
    proxy = extension("tcp", _TCP, stat_prefix=door.name, cluster=f"door-{door.name}")
    chain = {
        "filters": [proxy],
        "transport_socket": from_some(own, door.peers, door.below),
        "transport_socket_connect_timeout": "10s",
    }
    return {**_listener(f"door-{door.name}", _address(host, door.port)), "filter_chains": [chain]}


def _way(way: Way) -> Json:
    proxy = extension("tcp", _TCP, stat_prefix=way.name, cluster=f"way-{way.name}")
    address = {"pipe": {"path": str(way.socket), "mode": 0o660}}
    return {"name": f"way-{way.name}", "address": address, "filter_chains": [{"filters": [proxy]}]}


def _probes(probes: Probes, host: str) -> Json:
    """Three paths, by GET, to the server; everything else ends here."""
    exact = [READY_PATH, HEALTH_PATH, CALLS_PATH] if probes.socket else []
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes: list[Json] = [
        {"match": {"path": path, "headers": [get]}, "route": {"cluster": "probed", "timeout": "5s"}} for path in exact
    ]
    routes.append({"match": {"path": SIDECAR_PATH, "headers": [get]}, "direct_response": {"status": 200}})
    routes.append({"match": {"prefix": "/"}, "direct_response": {"status": 404}})
    manager = extension(
        "http",
        _MANAGER,
        stat_prefix="probes",
        normalize_path=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        route_config={"name": "probes", "virtual_hosts": [{"name": "probes", "domains": ["*"], "routes": routes}]},
        http_filters=[extension("router", "envoy.extensions.filters.http.router.v3.Router")],
    )
    return {**_listener("probes", _address(host, probes.port)), "filter_chains": [{"filters": [manager]}]}


def _listener(name: str, address: Json) -> Json:
    return {"name": name, "address": address, "enable_reuse_port": False}


def _address(host: str, port: int) -> Json:
    return {
        "socket_address": {"address": host, "port_value": port, **({"ipv4_compat": True} if host == "::" else {})}
    }


def _plain(name: str, socket: Path) -> Json:
    cluster = plain_cluster(name, {"pipe": {"path": str(socket)}})
    return {key: value for key, value in cluster.items() if key not in ("@type", *protocol())}


def _probed(socket: Path) -> Json:
    cluster = plain_cluster("probed", {"pipe": {"path": str(socket)}})
    return {key: value for key, value in cluster.items() if key != "@type"}


def _remote(own: Identity, way: Way) -> Json:
    cluster = remote_cluster(f"way-{way.name}", way.remote, own, way.name)
    return {key: value for key, value in cluster.items() if key not in ("@type", *protocol())}
