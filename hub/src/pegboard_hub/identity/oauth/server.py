"""The parts that an authorization server is put together from."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.identity.clients.service import Clients
from pegboard_hub.identity.connections.devices import Devices
from pegboard_hub.identity.connections.service import Connections
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.keys import Keys
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions
from pegboard_hub.identity.surfaces.exchange import Acting
from pegboard_hub.identity.surfaces.service import Surfaces


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """Everything that the routes under `/oauth/` need.

    Attributes:
        surfaces: that are registered to act for people.
        acting: exchanges what those come with.
        demo: the demo directory, where that is the login; None with any other.
        registers: whether clients may register themselves.
        services: how services call; None where they may not.
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
    surfaces: Surfaces
    acting: Acting
    demo: DemoSignIn | None
    registers: bool = True
    documents: bool = True
    services: ServiceSettings | None = None
