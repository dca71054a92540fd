"""The parts that an authorization server is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pegboard_hub.identity.clients.model import Client
from pegboard_hub.identity.connections.service import Connections
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.keys import Keys
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions


class ClientsBook(Protocol):
    """What the authorization server asks of the clients that are known."""

    async def get(self, client_id: str) -> Client | None:
        """The client of that id, with what was decided on it; None where there is none."""

    async def register(self, metadata: Mapping[str, Any]) -> Client:
        """Let a client make itself known (RFC 7591).

        Raises:
            RegistrationRefused: with the code of RFC 7591 §3.2.2.
        """

    async def used(self, client_id: str) -> None:
        """Note that a client got a token."""

    async def consented(self, sub: str, software: str, scope: str) -> bool:
        """Whether a person said yes to that software having that scope."""

    async def consent(self, sub: str, software: str, scope: str) -> None:
        """Keep that a person said yes."""

    async def withdraw(self, sub: str, software: str) -> None:
        """Forget that a person said yes: they are asked again."""


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
    clients: ClientsBook
    sessions: Sessions
    connections: Connections
    revocations: Revocations
    demo: DemoSignIn | None
    registers: bool = True
    documents: bool = True
