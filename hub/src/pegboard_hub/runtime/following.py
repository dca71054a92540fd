"""Keeping the servers that run in line with the grants file while it changes.

| the file says                | what happens                                                               |
|------------------------------|----------------------------------------------------------------------------|
| a server that does not run   | it is brought up                                                           |
| no more of one that runs     | it is taken down, once the edge sends it no more calls                     |
| the same of one with a fault | it is tried again: when the file is saved, or when its source or secrets change |
| a server without a source    | nothing: its releases are submitted (`runtime/machine/`)                    |
| something that is not good   | nothing: the last good file stays in force                                 |
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NamedTuple

from pegboard.core.grants import Grant
from pegboard.core.names import ServerName
from pegboard_hub.runtime.grants_file import GrantsFollower
from pegboard_hub.runtime.servers import Servers

logger = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often the grants file is looked at, in seconds."""

SOURCE_LOOK_S = 2.0
"""How often the sources of servers with a fault are looked at, in seconds."""


class _Try(NamedTuple):
    """What there was when a server was last tried: how often the file had been saved, and what else it depends on."""

    saves: int
    state: str


class Following:
    """One server is worked on by one task at a time; servers do not wait for one another."""

    def __init__(self, grants: GrantsFollower, servers: Servers) -> None:
        self._grants = grants
        self._servers = servers
        self._rising: dict[ServerName, asyncio.Task[None]] = {}
        self._ending: dict[ServerName, asyncio.Task[None]] = {}
        self._tried: dict[ServerName, _Try] = {}
        self._sources_at = 0.0

    @property
    def wanted(self) -> dict[ServerName, Grant]:
        """The servers that the last good file names with a source; those without are submitted, and not followed."""
        named = self._grants.file.servers.items()
        return {ServerName.parse(name): grant for name, grant in named if grant.source}

    async def run(self) -> None:
        """Follow until cancelled. No trouble with the file or with a server ends it."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    await self._grants.look()
                    await self._look()
                except Exception:
                    logger.exception("the servers could not be brought in line with the grants file")
        finally:
            working = [*self._rising.values(), *self._ending.values()]
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _look(self) -> None:
        wanted = self.wanted
        self._rising, self._ending = _unfinished(self._rising), _unfinished(self._ending)
        for server in self._servers.names:
            if server not in wanted:
                self._let_go(server)
        sources_too = time.monotonic() >= self._sources_at
        if sources_too:
            self._sources_at = time.monotonic() + SOURCE_LOOK_S
        for server, grant in wanted.items():
            if server not in self._rising and server not in self._ending:
                await self._see_to(server, grant, sources_too=sources_too)

    def _let_go(self, server: ServerName) -> None:
        if server in self._rising:
            self._rising[server].cancel()  # the next look takes down what there is of it by then
        elif server not in self._ending:
            self._tried.pop(server, None)
            ending = self._servers.take_down(server, lambda: server in self.wanted)
            self._ending[server] = asyncio.create_task(ending, name=f"end {server}")

    async def _see_to(self, server: ServerName, grant: Grant, *, sources_too: bool) -> None:
        """Bring a server up that was not tried yet, or whose last try failed and might go better now."""
        if server in self._servers.names:
            if not self._servers.has_fault(server):
                self._servers.compare(server, grant)
                return
            tried = self._tried.get(server)
            if tried is not None and tried.saves == self._grants.saves and not sources_too:
                return
            now = await self._now(server, grant)
            if tried is None and now.saves == 0:
                self._tried[server] = now  # it was tried at the start
                return
            if now == tried:
                return
        self._tried[server] = await self._now(server, grant)
        rising = self._servers.bring_up(server, grant)
        self._rising[server] = asyncio.create_task(rising, name=f"start {server}")

    async def _now(self, server: ServerName, grant: Grant) -> _Try:
        return _Try(self._grants.saves, await asyncio.to_thread(self._servers.state, server, grant))


def _unfinished(tasks: dict[ServerName, asyncio.Task[None]]) -> dict[ServerName, asyncio.Task[None]]:
    """The tasks that go on; what went wrong in another is logged."""
    for server, task in tasks.items():
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: %s", server, error, exc_info=error)
    return {server: task for server, task in tasks.items() if not task.done()}
