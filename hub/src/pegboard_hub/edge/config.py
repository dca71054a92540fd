"""Envoy's whole configuration as a pure function of a snapshot. No input or output happens here.

Files, in the order in which they must be there: `bootstrap.json` is Envoy's argument; `cds.json` has a cluster for
each server; `ecds-*.json` hold the filters that know keys and granted names; `rds.json` has the routes,
`rds-services.json` those of the listener for services, where there is one; `lds.json` has the listeners, which
depend on no server.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pegboard_hub.edge.clusters import Behind, clusters
from pegboard_hub.edge.envoy import Json, discovery, extension, typed, watched
from pegboard_hub.edge.filters import file_of, watched_filters
from pegboard_hub.edge.gate import through_gate
from pegboard_hub.edge.listener import listener, service_listener
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.routes import route_configuration, service_route_configuration
from pegboard_hub.edge.snapshot import EdgeSnapshot, Gate

MOST_CONNECTIONS = 10_000
"""Callers' connections at once; further ones are closed as they come."""

BOOTSTRAP = "bootstrap.json"
CLUSTERS = "cds.json"
ROUTES = "rds.json"
SERVICE_ROUTES = "rds-services.json"
LISTENER = "lds.json"


def render(snapshot: EdgeSnapshot) -> dict[str, Json]:
    """Every file of the edge's configuration by name, in the order in which they must be replaced."""
    door = snapshot.services
    filters = {
        file_of(name): discovery(typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=config))
        for name, config in watched_filters(snapshot).items()
    }
    return {
        BOOTSTRAP: bootstrap(snapshot),
        CLUSTERS: _clusters(
            (snapshot.hub_socket, *snapshot.more_hubs),
            tuple(
                Behind(
                    s.access.server, s.socket, s.replicas, snapshot.limits.of(str(s.access.server)).calls, s.choosing
                )
                for s in snapshot.servers
            ),
            snapshot.own,
            snapshot.gate,
        ),
        **filters,
        ROUTES: discovery(route_configuration(snapshot)),
        **({SERVICE_ROUTES: discovery(service_route_configuration(snapshot))} if door else {}),
        LISTENER: discovery(listener(snapshot), *([service_listener(snapshot, door)] if door else [])),
    }


@lru_cache(2)
def _clusters(hubs: tuple[Path, ...], servers: tuple[Behind, ...], own: Identity, gate: Gate | None = None) -> Json:
    """Most changes leave it as it is, and of ten thousand servers it is six megabytes to write out for its digest."""
    found = clusters(hubs[:1] if gate else hubs, servers, own)
    return discovery(*(found if gate is None else (through_gate(cluster, gate) for cluster in found)))


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
        "overload_manager": {
            "resource_monitors": [_connections(), _memory()],
            "actions": [
                *(_at(share, f"envoy.overload_actions.{action}") for action, share in _WHEN_FULL),
                _impatience(),
            ],
        },
    }


MOST_MEMORY = 2 * 1024**3
"""Bytes of memory that Envoy may take. With ten thousand servers it takes a tenth of that."""

_WHEN_FULL = (("shrink_heap", 0.85), ("stop_accepting_requests", 0.95), ("stop_accepting_connections", 0.98))
"""What it does from which share of that memory on."""


def _memory() -> Json:
    monitor = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    return extension("envoy.resource_monitors.fixed_heap", monitor, max_heap_size_bytes=MOST_MEMORY)


def _at(share: float, action: str) -> Json:
    full = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": share}}
    return {"name": action, "triggers": [full]}


_CONNECTIONS = "envoy.resource_monitors.global_downstream_max_connections"

FEW_FREE = (0.5, 0.9)
"""Shares of the connections from which on unused ones are closed sooner, and within `UNUSED_S`. Who opens them all to
keep others out has them for seconds then; a connection with a request or a stream in it is in use."""

UNUSED_S = 2
"""Seconds for which a connection may be unused where nearly all are taken."""


def _impatience() -> Json:
    first, full = FEW_FREE
    scaled = {"scaling_threshold": first, "saturation_threshold": full}
    factors = [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": f"{UNUSED_S}s"}]
    return {
        "name": "envoy.overload_actions.reduce_timeouts",
        "triggers": [{"name": _CONNECTIONS, "scaled": scaled}],
        "typed_config": typed(
            "envoy.config.overload.v3.ScaleTimersOverloadActionConfig", timer_scale_factors=factors
        ),
    }


def _connections() -> Json:
    return {
        "name": _CONNECTIONS,
        "typed_config": typed(
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=MOST_CONNECTIONS,
        ),
    }
