"""What the edge is told: everything Envoy's configuration depends on, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pegboard.core.access import ServerAccess
from pegboard.core.jose import Jwks
from pegboard.core.revoked import NOTHING, Revoked

MEMORY = 1 << 15
"""How many servers' rendered parts are kept: of thousands one changes at a time, and that one alone is rendered."""


@dataclass(frozen=True, slots=True)
class EdgeServer:
    """One server as the edge knows it: what was granted, and the socket it answers on."""

    access: ServerAccess
    socket: Path


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
        expired: the grants are too old to decide with, so every call is refused.
        stops_unknown: a stop may have been missed, so calls of sensitive servers are refused.
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
    revoked: Revoked = NOTHING
    expired: bool = False
    stops_unknown: bool = False
    more_hubs: tuple[Path, ...] = ()

    @property
    def host_names(self) -> tuple[str, ...]:
        """The values of Host that are answered: with the port, and without it.

        Envoy compares them exactly, so a name that an attacker points at this address (DNS rebinding) finds nothing.
        """
        parts = urlsplit(self.public_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return host, f"{host}:{port}"
