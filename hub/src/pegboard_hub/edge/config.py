"""Envoy's whole configuration as a pure function of a snapshot. No input or output happens here.

Files, in the order in which they must be there: `bootstrap.json` is Envoy's argument; `cds.json` has a cluster for
each server; `ecds-*.json` hold the filters that know keys and granted names; `rds.json` has the routes;
`lds.json` has the listener, which depends on no server.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.edge.clusters import clusters
from pegboard_hub.edge.envoy import Json, discovery, typed, watched
from pegboard_hub.edge.filters import file_of, watched_filters
from pegboard_hub.edge.listener import listener
from pegboard_hub.edge.routes import route_configuration
from pegboard_hub.edge.snapshot import EdgeSnapshot

BOOTSTRAP = "bootstrap.json"
CLUSTERS = "cds.json"
ROUTES = "rds.json"
LISTENER = "lds.json"


def render(snapshot: EdgeSnapshot) -> dict[str, Json]:
    """Every file of the edge's configuration by name, in the order in which they must be replaced."""
    filters = {
        file_of(name): discovery(typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=config))
        for name, config in watched_filters(snapshot).items()
    }
    return {
        BOOTSTRAP: bootstrap(snapshot),
        CLUSTERS: _clusters(
            (snapshot.hub_socket, *snapshot.more_hubs), tuple((s.access.server, s.socket) for s in snapshot.servers)
        ),
        **filters,
        ROUTES: discovery(route_configuration(snapshot)),
        LISTENER: discovery(listener(snapshot)),
    }


@lru_cache(2)
def _clusters(hubs: tuple[Path, ...], servers: tuple[tuple[ServerName, Path], ...]) -> Json:
    """Most changes leave it as it is, and of ten thousand servers it is six megabytes to write out for its digest."""
    return discovery(*clusters(hubs, servers))


def bootstrap(snapshot: EdgeSnapshot) -> Json:
    """What Envoy is started with: where the rest is, and its administration on a Unix socket."""
    return {
        "node": {"id": "edge", "cluster": "pegboard"},
        "admin": {"address": {"pipe": {"path": str(snapshot.admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": watched(snapshot.folder / LISTENER),
            "cds_config": watched(snapshot.folder / CLUSTERS),
        },
        # Thousands of servers of which few are called: what a cluster needs is made when it is first used.
        "cluster_manager": {"enable_deferred_cluster_creation": True},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": {"resource_monitors": [_connections()]},
    }


def _connections() -> Json:
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=10_000,
        ),
    }
