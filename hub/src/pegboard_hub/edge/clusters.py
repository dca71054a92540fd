"""Clusters: a server is one Unix socket, and so is the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.edge.envoy import Json, typed
from pegboard_hub.edge.snapshot import MEMORY

HUB = "hub"
CLUSTER_PREFIX = "mcp/"
"""What the name of a server's cluster begins with."""

UPSTREAM_IDLE_S = 3
"""Seconds an unused connection is kept. Shorter than a server's own keep-alive (uvicorn: 5 s), so that no call is
sent into a connection that the server is just closing."""


_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PROTOCOL: Json = {
    _OPTIONS: typed(
        _OPTIONS,
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": f"{UPSTREAM_IDLE_S}s"},
    )
}
"""How a server is spoken to: HTTP/1.1. The same for all, so it is built once."""


def cluster_name(server: ServerName) -> str:
    """A server's cluster."""
    return f"{CLUSTER_PREFIX}{server}"


def clusters(hubs: Sequence[Path], servers: Iterable[tuple[ServerName, Path]]) -> list[Json]:
    """The hub's cluster and one for each server, by the sockets where they listen."""
    checked = {"health_checks": [_HEALTH]} if len(hubs) > 1 else {}
    named = [_cluster(cluster_name(name), socket) for name, socket in servers]
    return [_cluster(HUB, *hubs) | checked, *named]


@lru_cache(MEMORY)
def _cluster(name: str, *sockets: Path) -> Json:
    endpoints = [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}} for socket in sockets]
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout="1s",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        typed_extension_protocol_options=_PROTOCOL,
    )


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
