"""Edges on another machine: a gate in front of an instance's sockets, and the way through it.

A gate is an Envoy that passes bytes on and reads none. It takes connections with the certificate of a joined edge
alone (SPIFFE ID), and which socket is meant is the name that TLS asks for (SNI): `hub`, `internal`, or a server's. A
name that is none leads nowhere. The edge takes the gate's own certificate alone. Behind the gate everything is as on
one machine: the hub asks for the edge's credential, and a server for its caller's token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pegboard.core.names import ServerName
from pegboard_hub.edge.clusters import CLUSTER_PREFIX, HUB, answering_for_itself, plain_cluster, protocol
from pegboard_hub.edge.envoy import Json, discovery, extension, typed, watched
from pegboard_hub.edge.mutual import Identity, from_some, to_one
from pegboard_hub.edge.remote import Remote, remote_cluster
from pegboard_hub.edge.replicas import addresses, behind_one, has_addresses, has_replicas
from pegboard_hub.edge.snapshot import Gate
from pegboard_hub.edge.tls import inspector

NO_PORTS: Mapping[str, Remote] = MappingProxyType({})

INTERNAL = "internal"
"""What the hub's internal door is called at the gate."""

BOOTSTRAP = "gate.json"
CLUSTERS = "gate-cds.json"
LISTENER = "gate-lds.json"
TUNNEL = "tunnel.json"

_TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def name_of(server: ServerName, mark: str = "") -> str:
    """What a server is called at the gate, or one of its replicas by its mark; the hub's names have no dot."""
    return f"{mark}{'.' if mark else ''}{server.name}.{server.namespace}.mcp"


def through_gate(cluster: Json, gate: Gate) -> Json:
    """A cluster of the hub or a server, led through the gate."""
    name = str(cluster["name"])
    there = Remote(gate.host, gate.port, gate.spiffe_id)
    if name == HUB:
        return _at(answering_for_itself(remote_cluster(name, there, gate.own, name)), cluster)
    if gate.direct and has_addresses(cluster):
        return cluster
    server = ServerName.parse(name.removeprefix(CLUSTER_PREFIX))
    remote = _at(remote_cluster(name, there, gate.own, name_of(server)), cluster)
    if not has_replicas(cluster):
        return remote
    [address] = addresses(remote)
    del remote["transport_socket"], remote["load_assignment"]

    def secured(mark: str) -> Json:
        return to_one(gate.own, gate.spiffe_id, name_of(server, mark))

    return behind_one({**cluster, **remote}, address, secured)


def _at(remote: Json, cluster: Json) -> Json:
    # Handshakes between machines take longer than a local socket.
    return {**remote, "connect_timeout": "3s", **{k: v for k, v in cluster.items() if k == "circuit_breakers"}}


def gate_files(
    host: str,
    port: int,
    own: Identity,
    edges: Sequence[str],
    sockets: Mapping[str, Iterable[Path]],
    folder: Path,
    admin: Path,
    ports: Mapping[str, Remote] = NO_PORTS,
) -> dict[str, Json]:
    """The gate's files by name. While there is no edge to let in there is no listener.

    Args:
        host: address to listen on.
        port: TCP port to listen on.
        own: the gate's certificate, and whose count.
        edges: SPIFFE IDs of the edges that are let in.
        sockets: where what is behind the gate listens, by its name.
        folder: where the files lie, absolute.
        admin: Unix socket of this Envoy's administration.
        ports: what is behind the gate at a port, by its name, and who must answer there.
    """
    behind = [
        _tcp(name, *({"pipe": {"path": str(each)}} for each in found)) for name, found in sorted(sockets.items())
    ]
    behind += [_bare(remote_cluster(name, remote, own)) for name, remote in sorted(ports.items())]
    return {
        BOOTSTRAP: {
            "node": {"id": "gate", "cluster": "pegboard"},
            "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
            "dynamic_resources": {
                "lds_config": watched(folder / LISTENER),
                "cds_config": watched(folder / CLUSTERS),
            },
        },
        CLUSTERS: discovery(*behind),
        LISTENER: discovery(*([_listener(host, port, own, edges)] if edges else [])),
    }


def _listener(host: str, port: int, own: Identity, edges: Sequence[str]) -> Json:
    by_name = extension(
        "envoy.filters.network.sni_cluster", "envoy.extensions.filters.network.sni_cluster.v3.SniCluster"
    )
    # `nowhere` is no cluster: it counts only where TLS asked for no name.
    proxy = extension("tcp", _TCP, stat_prefix="gate", cluster="nowhere")
    return typed(
        "envoy.config.listener.v3.Listener",
        name="gate",
        address={"socket_address": {"address": host, "port_value": port}},
        enable_reuse_port=False,
        listener_filters=[inspector()],
        listener_filters_timeout="10s",
        filter_chains=[
            {
                "filters": [by_name, proxy],
                "transport_socket": from_some(own, sorted(edges)),
                "transport_socket_connect_timeout": "10s",
            }
        ],
    )


def tunnel(gate: Gate, socket: Path, admin: Path) -> Json:
    """The bootstrap of the Envoy beside an edge that makes the hub's internal door a socket of the edge's machine."""
    cluster = {
        key: value
        for key, value in remote_cluster(
            INTERNAL, Remote(gate.host, gate.port, gate.spiffe_id), gate.own, INTERNAL
        ).items()
        if key not in ("@type", *protocol())
    }
    listener = {
        "name": INTERNAL,
        "address": {"pipe": {"path": str(socket), "mode": 0o600}},
        "filter_chains": [{"filters": [extension("tcp", _TCP, stat_prefix=INTERNAL, cluster=INTERNAL)]}],
    }
    return {
        "node": {"id": "tunnel", "cluster": "pegboard"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _tcp(name: str, *addresses: Json) -> Json:
    return _bare(plain_cluster(name, *addresses))


def _bare(cluster: Json) -> Json:
    """The cluster without what is about requests: none is read."""
    return {key: value for key, value in cluster.items() if key not in protocol()}
