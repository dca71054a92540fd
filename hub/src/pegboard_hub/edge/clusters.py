"""Clusters: a server is one Unix socket, or its replicas (`replicas`), and the hub is one or several sockets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pegboard.core.names import ServerName
from pegboard_hub.edge.envoy import Json, extension, typed
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.replicas import breaker, cluster_of
from pegboard_hub.edge.snapshot import MEMORY, Replica

HUB = "hub"
CLUSTER_PREFIX = "mcp/"
"""What the name of a server's cluster begins with."""

UPSTREAM_IDLE_S = 3
"""Seconds an unused connection is kept. Shorter than a server's own keep-alive (uvicorn: 5 s), so that no call is
sent into a connection that the server is just closing."""


TO_SERVERS: Json = extension("codec", "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
"""The last filter of every way to a server: it writes the request. Filters before it see what a server answers."""

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def protocol(**more: str) -> Json:
    """How a server is spoken to: HTTP/1.1. `more` are further options of its connections."""
    options = typed(
        _OPTIONS,
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": f"{UPSTREAM_IDLE_S}s", **more},
    )
    return {"typed_extension_protocol_options": {_OPTIONS: options}}


_PROTOCOL = protocol()
"""The same for all servers of this machine, so it is built once."""


def cluster_name(server: ServerName) -> str:
    """A server's cluster."""
    return f"{CLUSTER_PREFIX}{server}"


class Behind(NamedTuple):
    """What is behind a server's cluster.

    Attributes:
        server: its name.
        socket: where it answers, where it has no replicas.
        replicas: where it answers else.
        calls: how many it is given at once; None for any number.
        choosing: whether it matters of which release a replica is (`replicas.cluster_of`).
    """

    server: ServerName
    socket: Path
    replicas: tuple[Replica, ...]
    calls: int | None
    choosing: bool


def clusters(hubs: Sequence[Path], servers: Iterable[Behind], own: Identity) -> list[Json]:
    """The hub's cluster and one for each server; `own` is who the edge is to replicas behind ports."""
    checked = {"health_checks": [_HEALTH], "outlier_detection": _OUTLIERS} if len(hubs) > 1 else {}
    named = [_of_server(each, own) for each in servers]
    return [answering_for_itself(_cluster(HUB, *hubs)) | checked, *named]


def _of_server(behind: Behind, own: Identity) -> Json:
    name = cluster_name(behind.server)
    if behind.replicas:
        return _of_replicas(name, behind.replicas, own, choosing=behind.choosing) | breaker(behind.calls)
    return _cluster(name, behind.socket) | _calls(behind.calls)


@lru_cache(MEMORY)
def _of_replicas(name: str, replicas: tuple[Replica, ...], own: Identity, *, choosing: bool) -> Json:
    return cluster_of(name, replicas, own, _PROTOCOL, choosing=choosing)


def answering_for_itself(cluster: Json) -> Json:
    """The hub's cluster: what is taken away of servers' answers is the hub's to say, as cookies, redirects, and where
    to sign in."""
    options = cluster["typed_extension_protocol_options"][_OPTIONS]
    return cluster | {"typed_extension_protocol_options": {_OPTIONS: {**options, "http_filters": [TO_SERVERS]}}}


@lru_cache(MEMORY)
def _cluster(name: str, *sockets: Path) -> Json:
    return plain_cluster(name, *({"pipe": {"path": str(socket)}} for socket in sockets))


def plain_cluster(name: str, *addresses: Json) -> Json:
    """A cluster of these addresses (Envoy's `core.v3.Address`)."""
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout="1s",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **_PROTOCOL,
    )


def _calls(most: int | None) -> Json:
    """Calls at once. Connections are never what is short: a call would wait for one, and not be refused."""
    if most is None:
        return {}
    return {"circuit_breakers": {"thresholds": [_threshold(most)]}}


@lru_cache
def _threshold(most: int) -> Json:
    return {"max_requests": most, "max_pending_requests": most, "max_connections": 2 * most}


_OUTLIERS: Json = {
    "consecutive_local_origin_failure": 3,
    "split_external_local_origin_errors": True,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "interval": "1s",
    "base_ejection_time": "2s",
    "max_ejection_time": "10s",
    "max_ejection_percent": 50,
}
"""One of several hubs that takes no connections is spared them for a while, between two looks; what it answers is its
own word, so a 5xx counts for nothing. One in two stays in any case."""

_HEALTH: Json = {
    "interval": "0.5s",
    "no_traffic_interval": "0.5s",
    "unhealthy_interval": "0.5s",
    "timeout": "2s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/healthz"},
}
"""How one of several hubs is looked after. It only spares requests the way to one that is gone: those that meet it
are tried at another (`routes`)."""
