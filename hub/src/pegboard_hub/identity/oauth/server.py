"""The parts that an authorization server is put together from."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.identity.clients.service import Clients
from pegboard_hub.identity.connections.devices import Devices
from pegboard_hub.identity.connections.service import Connections
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.keys import Keys
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """Everything that the routes under `/oauth/` need.

    Attributes:
        demo: the demo directory, where that is the login; None with any other.
        registers: whether clients may register themselves.
        documents: whether client id metadata documents are accepted.
    """

    public_url: str
    cookie: Cookie
    keys: Keys
    issuer: TokenIssuer
    clients: Clients
    sessions: Sessions
    connections: Connections
    devices: Devices
    revocations: Revocations
    demo: DemoSignIn | None
    registers: bool = True
    documents: bool = True
