"""What the edge is told: everything Envoy's configuration depends on, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pegboard.core.access import ServerAccess
from pegboard.core.coarse import CoarseRule
from pegboard.core.jose import Jwks
from pegboard.core.rates import Limits
from pegboard.core.replicas import Share
from pegboard.core.revoked import Revoked
from pegboard.core.stops import Stops
from pegboard_hub.edge.mutual import Identity

MEMORY = 1 << 15
"""How many servers' rendered parts are kept: of thousands one changes at a time, and that one alone is rendered."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One of several processes of a server.

    Attributes:
        release: whose it is.
        mark: what its sessions are known by (`core.replicas`).
        socket: where it listens on this machine; None for a port.
        host: name or address of its machine.
        port: TCP port.
        spiffe_id: who must answer at the port.
    """

    release: str
    mark: str
    socket: Path | None = None
    host: str = ""
    port: int = 0
    spiffe_id: str = ""


@dataclass(frozen=True, slots=True)
class EdgeServer:
    """One server as the edge knows it.

    Attributes:
        access: what was granted.
        socket: where it answers, where it has no replicas.
        replicas: where it answers else; its releases' together.
        shares: which callers go to which release of theirs.
    """

    access: ServerAccess
    socket: Path
    replicas: tuple[Replica, ...] = ()
    shares: tuple[Share, ...] = ()

    @property
    def choosing(self) -> bool:
        """Whether it matters of which release a replica is: there are several, or none takes anybody new."""
        return not self.shares or len({each.release for each in self.replicas}) > 1


HEAD_S, REQUEST_S, IDLE_S, UNUSED_S = 10.0, 60.0, 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the edge waits, in seconds.

    Attributes:
        head_s: for a connection's handshake, and for the whole head of a request.
        request_s: for a whole request, from its first byte to the last of its body.
        idle_s: a call or a stream may be silent for so long, in either direction.
        unused_s: a connection without a request stays open for so long.
    """

    head_s: float = HEAD_S
    request_s: float = REQUEST_S
    idle_s: float = IDLE_S
    unused_s: float = UNUSED_S


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class ServicesDoor:
    """The listener for services.

    Attributes:
        port: TCP port to listen on.
        identity: the edge's own certificate, and whose count.
        public_port: the port that services use, where that is another; 0 for the same.
    """

    port: int
    identity: Identity
    public_port: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """The way to an instance on another machine (`edge.gate`).

    Attributes:
        host: name or address of its machine.
        port: TCP port of its gate.
        spiffe_id: who the gate must be.
        own: this edge's certificate, and whose count.
        direct: servers that have addresses of their own are gone to there, and not through the gate.
    """

    host: str
    port: int
    spiffe_id: str
    own: Identity
    direct: bool = False


NOBODY = Identity(Path(), Path())
"""Of an edge without a certificate."""


@dataclass(frozen=True, slots=True)
class EdgeSnapshot:
    """The input of `config.render`.

    Attributes:
        public_url: origin under which callers reach the edge; the only Host that is answered.
        hosts: addresses to listen on.
        port: TCP port to listen on.
        issuer: whose tokens count.
        jwks: public keys of the issuer.
        servers: every registered server.
        hub_socket: where everything outside `/mcp/` goes.
        more_hubs: where it goes as well, so that a hub that does not answer is left out.
        access_log: file that gets one JSON line per request.
        admin_socket: Envoy's administration; a Unix socket, never TCP.
        folder: where the rendered files lie, absolute: Envoy watches them there.
        revoked: whose tokens are void, though they verify.
        stops: surfaces, people, clients and services that are stopped.
        rules: coarse rules that are about more than servers they name; others are in the servers' access.
        limits: how much may be asked, and what servers are given to do.
        patience: how long it waits for callers and servers.
        tls: whether the port is TLS's; the certificate is a file of its own.
        expired: the grants are too old to decide with, so every call is refused.
        stops_unknown: a stop may have been missed, so calls of sensitive servers are refused.
        services: the listener for services; None for none.
        gate: what stands in front of hub and servers on another machine, and who this edge is to it; None where they
            are on this one.
        own: this edge's certificate, and whose count, where replicas are behind ports.
    """

    public_url: str
    hosts: tuple[str, ...]
    port: int
    issuer: str
    jwks: Jwks
    servers: tuple[EdgeServer, ...]
    hub_socket: Path
    access_log: Path
    admin_socket: Path
    folder: Path
    revoked: Revoked
    stops: Stops
    rules: tuple[CoarseRule, ...]
    limits: Limits
    patience: Patience = PATIENCE
    tls: bool = False
    expired: bool = False
    stops_unknown: bool = False
    more_hubs: tuple[Path, ...] = ()
    services: ServicesDoor | None = None
    gate: Gate | None = None
    own: Identity = NOBODY

    @property
    def host_names(self) -> tuple[str, ...]:
        """The values of Host that are answered: with the port, and without it.

        Envoy compares them exactly, so a name that an attacker points at this address (DNS rebinding) finds nothing.
        """
        return self._at(self.public_port)

    @property
    def public_port(self) -> int:
        """The port that callers use."""
        parts = urlsplit(self.public_url)
        return parts.port or {"http": 80, "https": 443}[parts.scheme]

    @property
    def service_host_names(self) -> tuple[str, ...]:
        """The values of Host that are answered on the port for services."""
        return self._at(self.services.public_port or self.services.port) if self.services else ()

    def _at(self, port: int) -> tuple[str, str]:
        parts = urlsplit(self.public_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        return host, f"{host}:{port}"
