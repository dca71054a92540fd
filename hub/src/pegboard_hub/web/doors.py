"""The hub's two doors as servers on Unix sockets; what is behind them is `web.app`'s."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pegboard_hub.common.requests import OF_CERTIFICATE

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often a hub looks whether the internal door is its own to open, in seconds."""

ENDS_S = 2
"""Seconds that requests under way still have at the end. Questions that are held would take longer, and a hub that
still runs after 5 s is killed (`runtime.processes`)."""


class Door(uvicorn.Server):
    """One uvicorn server beside another in the same loop; signals are handled once, for both."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=ENDS_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever serves."""
        yield


class LeadersDoor:
    """The internal door, where the hub that leads listens.

    Servers and the edge's agent know one socket. A hub that comes to lead puts its own in its place, and one that has
    lost the lead closes its door once another's is there: until then it goes on, as when the database is away.
    """

    def __init__(self, make: Callable[[], Door], path: Path, leads: Callable[[], bool]) -> None:
        self._make = make
        self._path = path
        self._leads = leads
        self._door: Door | None = None
        self._serving: asyncio.Task[None] | None = None
        self._mine: tuple[int, ...] = ()

    async def run(self) -> None:
        """Open and close as the lead changes hands, until cancelled."""
        while True:
            try:
                self.look()
                if self._door is not None and not self._is_mine() and not self._leads():
                    await self.close()
            except OSError:
                log.exception("the internal door could not be opened, and is tried again")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Open the door, if this hub leads and has not.

        Raises:
            OSError: a socket cannot be opened.
        """
        if not self._leads() or self._is_mine():
            return
        if self._door is not None:
            self._door.should_exit = True  # another hub led in between, and took the place
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        listener = _bound(fresh)
        # Whoever connects finds a listening socket at every moment.
        fresh.rename(self._path)
        self._mine = self._found()
        self._door = self._make()
        self._serving = asyncio.create_task(self._door.serve(sockets=[listener]))

    async def close(self) -> None:
        """Finish the requests that are under way, and leave no socket of ours."""
        door, serving, self._door, self._serving = self._door, self._serving, None, None
        if door is None or serving is None:
            return
        door.should_exit = True
        await serving
        if self._is_mine():
            self._path.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        return bool(self._mine) and self._found() == self._mine

    def _found(self) -> tuple[int, ...]:
        """What tells a socket from one that took its place."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_mtime_ns


class FarDoor:
    """The public door as edges on other machines reach it: services do not come that way.

    The hub believes an edge beside it that a certificate was shown. Of an edge elsewhere it believes nothing: who has
    that edge's key could name any service.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, without what it says of certificates."""
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _OF_CERTIFICATES]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


_OF_CERTIFICATES = {name.lower().encode() for name in OF_CERTIFICATE}


@contextlib.contextmanager
def listen(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket; who may reach it is decided by the folder it is in.

    One that is there already was left by a hub that was killed: the supervisor's lock keeps a home to one hub.
    """
    with _bound(path) as listener:
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
