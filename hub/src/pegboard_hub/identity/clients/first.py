"""Clients, kept in memory."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from pegboard_hub.identity.clients.model import Client, ClientKind, Standing, software_of
from pegboard_hub.identity.clients.redirects import check_redirects, surface_of

COMMAND = Client(
    client_id="pegboard-cli",
    kind=ClientKind.FIRST_PARTY,
    software="pegboard-cli",
    name="pegboard",
    redirect_uris=("http://127.0.0.1/callback",),
    surface="cli",
    standing=Standing.APPROVED,
    any_resource=True,
)


class FirstClients:
    """To be replaced by the table of clients."""

    def __init__(self) -> None:
        self._known = {COMMAND.client_id: COMMAND}
        self._consents: set[tuple[str, str, str]] = set()

    async def get(self, client_id: str) -> Client | None:
        """The client of that id."""
        return self._known.get(client_id)

    async def register(self, metadata: Mapping[str, Any]) -> Client:
        """Register."""
        redirects = check_redirects(metadata.get("redirect_uris") or [])
        name = str(metadata.get("client_name", ""))
        client = Client(
            client_id=uuid.uuid4().hex,
            kind=ClientKind.DYNAMIC,
            software=software_of(name, redirects),
            name=name,
            redirect_uris=redirects,
            surface=surface_of(redirects),
        )
        self._known[client.client_id] = client
        return client

    async def used(self, client_id: str) -> None:
        """Nothing is noted."""

    async def consented(self, sub: str, software: str, scope: str) -> bool:
        """Whether a person said yes."""
        return (sub, software, scope) in self._consents

    async def consent(self, sub: str, software: str, scope: str) -> None:
        """A person said yes."""
        self._consents.add((sub, software, scope))

    async def withdraw(self, sub: str, software: str) -> None:
        """A person took their yes back."""
        self._consents = {given for given in self._consents if given[:2] != (sub, software)}
