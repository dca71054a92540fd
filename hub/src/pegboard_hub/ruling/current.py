"""The coarse rules in force, as this hub knows them: what bundles carry, and what explain asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pegboard.core.coarse import RuleSet
from pegboard_hub.ruling import store
from pegboard_hub.ruling.model import NOTHING_KEPT, Kept
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

FOLLOW_S = 0.25
"""How often a hub looks for what others changed, in seconds: a rule is to hold everywhere within two."""


class CoarseRules:
    """The newest version of the rules.

    Attributes:
        kept: it, with its text and who made it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[], None]] = []
        # Of two that look, the one that looked first must not have the last word.
        self._one_at_a_time = asyncio.Lock()
        self.kept: Kept = NOTHING_KEPT

    @property
    def current(self) -> RuleSet:
        """The rules in force."""
        return self.kept.rules

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` told whenever another version is in force."""
        self._listeners.append(listener)

    async def reload(self) -> None:
        """Take over the newest version, and tell the listeners of a change.

        Raises:
            ConfigurationError: it cannot be read, so the last one stays in force. A hub that has none does not
                start: without its rules it would open what they close.
        """
        async with self._one_at_a_time:
            async with self._database.read() as db:
                newest = await store.newest(db)
                if newest == self.kept.version:
                    return
                found = await store.find(db, newest)
            assert found is not None  # noqa: S101 - rows are never removed
            self.kept = found
            for listener in self._listeners:
                listener()

    async def follow(self) -> None:
        """Take over what other hubs change, until cancelled."""
        while True:
            try:
                await self.reload()
            except Exception:
                log.exception("coarse rules could not be looked up, and are tried again")
            await asyncio.sleep(FOLLOW_S)
