"""Keeping what runs in line with what is saved: made anew and started again, or told why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from pegboard.core.grants import Grant
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.dev.differing import differences
from pegboard_hub.dev.making import ProjectInPlace, State, state_of
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.servers import Servers

LOOK_S = 0.25
"""How often the project's files are looked at, in seconds."""

SETTLED_S = 0.1
"""For how long nothing more must be saved before it is taken up: editors write several files, or one twice."""

MOST_NAMED = 4
"""Changed files that are named; the others are counted."""

Say = Callable[[str], None]


class Reloading:
    """One project's way from a saved file to a process that runs it.

    Args:
        server: its name here.
        project: its folder.
        secrets: the folder with its secrets.
        maker: makes the release.
        servers: runs it.
        grant: writes down what is granted to a declaration, and gives it.
        say: takes a line for the author.
        reloaded: called once another declaration answers calls.
    """

    def __init__(
        self,
        server: ServerName,
        project: Path,
        secrets: Path,
        maker: ProjectInPlace,
        servers: Servers,
        grant: Callable[[Declaration], Grant],
        say: Say,
        reloaded: Callable[[Declaration], Awaitable[None]],
    ) -> None:
        self.declaration: Declaration | None = None
        self._server = server
        self._project = project
        self._secrets = secrets
        self._maker = maker
        self._servers = servers
        self._grant = grant
        self._say = say
        self._reloaded = reloaded
        self._working: asyncio.Task[None] | None = None
        self._begun: State = {}

    async def begin(self) -> None:
        """Note how its files are: what is saved from now on is taken up by `run`. Before they are read first."""
        self._begun = await self._state()

    async def run(self) -> None:
        """Follow until cancelled. No fault of the project's ends it."""
        state = self._begun
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                now = await self._state()
                if now == state:
                    continue
                while (later := await self._after(SETTLED_S)) != now:
                    now = later
                changed = sorted(name for name in {*state, *now} if state.get(name) != now.get(name))
                state = now
                await self._stop_working()
                self._working = asyncio.create_task(self._take_up(changed), name="reload")
        finally:
            await self._stop_working()

    async def _take_up(self, changed: list[str]) -> None:
        began = time.monotonic()
        more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
        self._say(f"saved: {', '.join(changed[:MOST_NAMED])}{more}")
        try:
            release = await self._maker.make(self._server, self._project, self._say)
            before, grant = self.declaration, self._grant(release.declaration)
            for row in differences(before, release.declaration):
                self._say(f"  {row}")
            await self._servers.bring_up(self._server, grant)
        except ReleaseFailed as error:
            self.told(str(error))
            return
        except Exception as error:  # whatever it is, the author saves again
            self.told(f"{type(error).__name__}: {error}")
            return
        if self._servers.has_fault(self._server):
            return  # it was said, with the end of its log
        self.declaration = release.declaration
        self._say(f"reloaded in {time.monotonic() - began:.1f} s")
        if release.declaration != before:
            await self._reloaded(release.declaration)

    def told(self, words: str) -> None:
        """Say what is wrong with the project, line by line, from its own folder on."""
        for row in words.splitlines():
            self._say(f"  {row.replace(f'{self._project}/', '')}")
        runs = "what ran before goes on" if self.declaration is not None else "nothing runs yet"
        self._say(f"it does not start as it is: {runs}. Save it again")

    async def _state(self) -> State:
        def look() -> State:
            found = state_of(self._project)
            with suppress(OSError):
                found |= {f"secrets/{name}": each for name, each in state_of(self._secrets).items()}
            return found

        return await asyncio.to_thread(look)

    async def _after(self, seconds: float) -> State:
        await asyncio.sleep(seconds)
        return await self._state()

    async def _stop_working(self) -> None:
        """A reload under way is of what was saved before: the next one begins anew."""
        if self._working is not None:
            self._working.cancel()
            with suppress(asyncio.CancelledError):
                await self._working
            self._working = None
