"""What is void before its time: sign-ins that ended, tokens that were revoked, clients that were blocked.

Edge, servers and API refuse a token that came of one. An entry is kept until the last such token has expired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

from sqlalchemy import and_, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.revoked import Revoked
from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S
from pegboard_hub.identity.connections.model import revocations
from pegboard_hub.storage.database import Database, insert_new

log = logging.getLogger(__name__)

Kind = Literal["session", "token", "client"]

KEPT_MS = (MAX_LIFETIME_S + 2 * CLOCK_SKEW_S) * 1000
"""How long an entry is of use: the longest life of a token that was signed at this moment, and the skew."""

FOLLOW_S = 0.5
"""How often a hub looks for what others revoked, in seconds."""


class Revocations:
    """The list, as it is in force.

    Attributes:
        current: what is revoked now.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self.current = Revoked()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` told whenever something was added, or a client is let in again.

        What else leaves has no effect any more: nobody hurries.
        """
        self._listeners.append(listener)

    async def add(self, connection: AsyncConnection, kind: Kind, values: Iterable[str]) -> None:
        """Revoke within the transaction of what is the reason; `reload` afterwards puts it in force.

        What is revoked already counts from now: a client may have been let in again meanwhile, and have newer tokens.
        """
        until = int(self._clock() * 1000) + KEPT_MS
        rows = [{"kind": kind, "value": value, "until_ms": until} for value in values]
        known = and_(revocations.c.kind == kind, revocations.c.value == bindparam("known"))
        if rows:
            await connection.execute(delete(revocations).where(known), [{"known": row["value"]} for row in rows])
            await insert_new(connection, revocations, rows)

    async def follow(self) -> None:
        """Take over what other hubs add to the list and take off it, until cancelled."""
        known = None
        while True:
            try:
                async with self._database.read() as connection:
                    found = (await connection.execute(_STATE)).one()
                if found != known:
                    await self.reload()
                    known = found
            except Exception:
                log.exception("what is revoked could not be looked up, and is tried again")
            await asyncio.sleep(FOLLOW_S)

    async def reload(self) -> None:
        """Take over what the table says, and tell the listeners of what cannot wait."""
        now = int(self._clock() * 1000)
        async with self._database.read() as connection:
            rows = (await connection.execute(select(revocations).where(revocations.c.until_ms > now))).all()
        by_kind = {kind: frozenset(row.value for row in rows if row.kind == kind) for kind in _KINDS}
        found = Revoked(by_kind["session"], by_kind["token"], by_kind["client"])
        before, self.current = self.current, found
        # A client that was blocked gets tokens again at once, and whoever does not know refuses them.
        if found.adds_to(before) or before.clients - found.clients:
            for listener in self._listeners:
                listener()

    async def tidy(self) -> None:
        """Forget what has expired anyway."""
        async with self._database.write() as connection:
            await connection.execute(delete(revocations).where(revocations.c.until_ms <= int(self._clock() * 1000)))
        await self.reload()


_STATE = select(func.count(), func.sum(revocations.c.until_ms), func.max(revocations.c.until_ms))
"""What differs when the list does: an entry that is new ends later than those before."""

_KINDS: tuple[Kind, ...] = ("session", "token", "client")
