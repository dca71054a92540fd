"""A server on another machine: between it and the edge there is TLS by SPIFFE ID, both ways.

On one machine a server listens on a Unix socket that the edge alone may open. On another machine the same socket has
an Envoy in front of it (`front`), which takes the edge's certificate and nobody else's; the edge takes that of this
one server and nobody else's, not even another server's of the same trust domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pegboard_hub.edge.clusters import plain_cluster, protocol
from pegboard_hub.edge.envoy import Json, extension
from pegboard_hub.edge.mutual import Identity, from_one, to_one

CONNECTION_S = 600
"""Seconds after which a connection takes no further call. Calls that follow one another would keep it open for ever,
and with it what its certificates said once."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a server on another machine is, and who it must be.

    Attributes:
        host: name or address of its machine.
        port: TCP port of what stands in front of it.
        spiffe_id: the name in its certificate.
    """

    host: str
    port: int
    spiffe_id: str


def remote_cluster(name: str, remote: Remote, own: Identity, sni: str = "") -> Json:
    """The edge's cluster of a server on another machine; `sni` is what it is called where several are behind one."""
    return plain_cluster(name, _address(remote.host, remote.port)) | {
        # Its address is asked for again now and then: it may move.
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "transport_socket": to_one(own, remote.spiffe_id, sni),
        **protocol(max_connection_duration=f"{CONNECTION_S}s"),
    }


def front(host: str, port: int, socket: Path, own: Identity, edge: str, admin: Path) -> Json:
    """The bootstrap of the Envoy in front of a server.

    Args:
        host: address to listen on.
        port: TCP port to listen on.
        socket: where the server listens.
        own: the server's certificate, and whose count.
        edge: the edge's SPIFFE ID; nobody else gets through.
        admin: Unix socket of this Envoy's administration.
    """
    proxy = extension(
        "tcp",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix="front",
        cluster="server",
    )
    # The bytes are the edge's, as they are: nothing here reads them.
    listener = {
        "name": "front",
        "address": _address(host, port),
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [proxy], "transport_socket": from_one(own, edge)}],
    }
    server = {key: value for key, value in _server(socket).items() if key != "@type"}
    return {
        "node": {"id": "front", "cluster": "pegboard"},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {"listeners": [listener], "clusters": [server]},
    }


def _server(socket: Path) -> Json:
    return plain_cluster("server", {"pipe": {"path": str(socket)}})


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
