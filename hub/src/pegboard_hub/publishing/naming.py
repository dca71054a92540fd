"""Naming publishers: owners let a service, as their CI, submit releases of a server, and end it again."""

from __future__ import annotations

from collections.abc import Callable

from pegboard_hub.publishing import publishers, rights
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.publishers import Publisher
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database


class Naming:
    """Which services may submit, as owners say."""

    def __init__(self, database: Database, registry: Registry, roles: Callable[[], Roles]) -> None:
        """Prepare.

        Args:
            database: of publishers.
            registry: knows whose a server is.
            roles: who operates, as the operator's files say now.
        """
        self._database = database
        self._registry = registry
        self._roles = roles

    async def publishers(self, server: str) -> list[Publisher]:
        """The services that may submit releases of a server."""
        async with self._database.read() as connection:
            return await publishers.of(connection, server)

    async def may_submit(self, service: str, server: str | None = None) -> bool:
        """Whether a service may submit releases of a server, or of any."""
        async with self._database.read() as connection:
            return await publishers.may_submit(connection, service, server)

    async def name_publisher(self, who: Submitter, server: str, service: str, why: str) -> bool:
        """Let a service submit releases of a server; False where it may already.

        Raises:
            PublishingRefused: the server is not theirs, or has as many as it can have.
            UnknownServer: there is none.
        """
        async with self._registry.changing() as changing:
            found = changing.server(server)
            if not rights.owns(self._roles(), who, found):
                raise rights.not_yours(found, known=True)
            if await publishers.count(changing.connection, server) >= publishers.MOST:
                message = f"{server} has {publishers.MOST} publishers, which is the most."
                raise PublishingRefused("too_many", message, "Take one away first.")
            new = await publishers.add(changing.connection, server, service, why, who.sub, changing.now_ms)
            if new:
                await changing.note(server, who.actor, "name publisher", why, {"publisher": (None, service)})
        return new

    async def take_publisher(self, who: Submitter, server: str, service: str, why: str) -> bool:
        """Let a service submit releases of a server no more; False where it might not anyway.

        Raises:
            PublishingRefused: the server is not theirs.
            UnknownServer: there is none.
        """
        async with self._registry.changing() as changing:
            found = changing.server(server)
            if not rights.owns(self._roles(), who, found):
                raise rights.not_yours(found, known=True)
            gone = await publishers.remove(changing.connection, server, service)
            if gone:
                await changing.note(server, who.actor, "take publisher away", why, {"publisher": (service, None)})
        return gone
