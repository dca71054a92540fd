"""Locks that all hubs of a database share: who leads, and what one of them does at a time.

On SQLite there is one hub, which always leads, and a lock between hubs costs nothing. On PostgreSQL both are advisory
locks of one connection that is kept for them: they end with it, so that of a hub that dies nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.storage import postgresql as server
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often a hub that does not lead tries to, and one that leads sees whether it still does, in seconds."""

ANSWER_S = 2.0
"""How long the database may take to answer that, in seconds."""

BELIEVED_S = 4.0
"""Seconds for which a hub believes that it leads without a new answer: less than a server waits for a hub that has
fallen silent (`postgresql.SESSION`). A session that somebody ends at the server is noticed at the next look; until
then two may lead, and what leaders do must bear it: writes follow one another, and versions only go up."""

TRY_AGAIN_S = 0.05
"""How often a lock between hubs is tried while another has it, in seconds."""

PATIENCE_S = 30.0
"""How long it is tried at most, in seconds: a hub that hangs must not hold up every other."""


class Locks:
    """The locks of one hub.

    Attributes:
        leads: whether this hub leads, which it may ask before anything that one hub alone does.
    """

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._connection: AsyncConnection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._leads = False
        self._answered = 0.0

    @property
    def leads(self) -> bool:
        """Whether this hub leads now."""
        if self._database.embedded:
            return True
        return self._leads and self._monotonic() - self._answered < BELIEVED_S

    async def look(self) -> bool:
        """Lead if nobody does, or see whether this hub still does; gives whether it leads."""
        if self._database.embedded:
            return True
        led = self._leads
        asked = self._monotonic()
        try:
            async with asyncio.timeout(ANSWER_S), self._one_at_a_time:
                self._leads = await server.holds_or_takes_lead(await self._open())
            self._answered = asked
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self._leads = False
            await self._drop()
            if led:
                log.warning("this hub does not lead any more: its connection is lost (%s)", type(error).__name__)
        if self._leads and not led:
            log.info("this hub leads")
        return self._leads

    async def run(self) -> None:
        """Go on looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:  # whatever it is: a hub that stopped looking would never lead again
                self._leads = False
                log.exception("whether this hub leads could not be told, and is tried again")

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Do something that no other hub does meanwhile, after those that came first.

        Within one hub it is the caller's to see to that: a session may take its own lock again. Where the database
        is away nobody is kept waiting; what is done then will tell.
        """
        if self._database.embedded:
            yield
            return
        taken = await self._take(name)
        try:
            yield
        finally:
            if taken:
                with suppress(SQLAlchemyError, OSError):
                    async with self._one_at_a_time:
                        if self._connection is not None:
                            await server.release_named(self._connection, name)

    async def _take(self, name: str) -> bool:
        try:
            until = self._monotonic() + PATIENCE_S
            while self._monotonic() < until:
                async with self._one_at_a_time:
                    if await server.try_named(await self._open(), name):
                        return True
                await asyncio.sleep(TRY_AGAIN_S)
        except (SQLAlchemyError, OSError):
            await self._drop()  # with the lead, which the next look takes again
        return False

    async def close(self) -> None:
        """Give up the lead and every lock."""
        self._leads = False
        await self._drop()

    async def _open(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = await self._database.kept_connection()
        return self._connection

    async def _drop(self) -> None:
        """Close the connection for good: the pool must not hand one on that still has locks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                await connection.close()
