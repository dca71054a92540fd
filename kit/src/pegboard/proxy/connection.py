"""The connection to the backend: one, kept, made anew when it breaks, and its tools held to the pins."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
import httpx2
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.client import ConnectMode
from mcp.client.session import ClientSession, IncomingMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import Implementation, ToolListChangedNotification
from pydantic import ValidationError

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.pins import Difference, Pins, compare
from pegboard.core.proxied import PORT, Proxy, trusting
from pegboard.core.text import plain
from pegboard.proxy import stdio, web
from pegboard.proxy.listing import TooLong, listed
from pegboard.proxy.starting import Launch, port_for, process_of
from pegboard.proxy.words import told

logger = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""How often the backend's list is held against the pins, beside whenever it says that it changed."""

SOONEST_LOOK_S: Final = 2.0
"""Between two looks, however often it says so."""

AGAIN_S: Final = (0.2, 1.0, 5.0, 15.0)
"""Before it is started again, after each failure in a row."""

STEADY_S: Final = 60.0
"""A connection that held so long was good: the next failure is the first again."""

MOMENT_S: Final = 0.2
"""After a connection broke, within which its process may turn out to have ended: that says more."""

UNANSWERED: Final = (MCPError, TimeoutError, ValidationError, httpx2.HTTPError, OSError, TooLong)
"""What comes in the place of a list of tools."""


class BackendAway(ToolError):
    """The backend cannot be spoken to. The message is for callers."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why there is no connection.

    Attributes:
        told: to callers, in our words alone: what a backend says must not pass for Pegboard's.
        logged: more of it, for the log and for its owner; the backend's own words may be in it.
    """

    told: str
    logged: str = ""

    def __str__(self) -> str:
        return self.logged or self.told


@dataclass(slots=True)
class Link:
    """One connection, while it lasts."""

    session: ClientSession
    ended: anyio.Event = field(default_factory=anyio.Event)
    why: Why | None = None

    def end(self, why: Why) -> None:
        """Have it made anew."""
        self.why = self.why or why
        self.ended.set()


class Connection:
    """Keeps the link to a backend, and knows how its tools differ from the pins.

    Attributes:
        difference: as of the last look.
        why: there is no link, where there is none.
    """

    def __init__(
        self, manifest: Manifest, proxy: Proxy, pins: Pins | None, launch: Launch, mode: ConnectMode
    ) -> None:
        """Prepare.

        Args:
            manifest: of the project.
            proxy: what that says of the backend.
            pins: what its tools were; None where that is being asked.
            launch: what it is started and reached with.
            mode: the protocol's era.
        """
        self.difference = Difference({}, (), ())
        self.why = Why("it has not been started")
        self._manifest = manifest
        self._proxy = proxy
        self._pins = pins
        self._launch = launch
        self._mode: ConnectMode = mode
        self._link: Link | None = None
        self._up = anyio.Event()
        self._was_up = False
        self._looked = 0.0
        self._look_again = anyio.Event()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the link while the block runs.

        Raises:
            ConfigurationError: a backend that is started here, or is only looked at, is not there.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep)
            with anyio.move_on_after(self._proxy.start_s):
                await self._up.wait()
            if self._link is None and (self._proxy.command or self._pins is None):
                tasks.cancel_scope.cancel()
            else:
                if self._link is None:
                    logger.error("the remote server does not answer, and its tools fail: %s", self.why)
                try:
                    yield
                finally:
                    tasks.cancel_scope.cancel()
                return
        if self._proxy.command:
            raise ConfigurationError("[proxy] command", [f"the backend did not come up: {self.why}"])
        raise ConfigurationError("[proxy] url", [f"the remote server does not answer: {self.why}"])

    @property
    def there(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    async def link(self) -> Link:
        """The link, once there is one.

        Raises:
            BackendAway: there is none within the time that a start may take.
        """
        if self._link is not None and self._link.ended.is_set():
            self._down()
        if self._link is None:
            with anyio.move_on_after(self._proxy.start_s):
                while self._link is None:
                    await self._up.wait()
        if self._link is None:
            raise self.away()
        return self._link

    def away(self) -> BackendAway:
        """What callers are told while there is no link."""
        return BackendAway(
            f"The call was not run: the server behind this tool is not there ({self.why.told}). It is started again "
            "by itself; call again later."
        )

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = anyio.current_time()
            try:
                await self._once()
            except ConfigurationError as error:
                self.why = Why("it cannot be started", "; ".join(error.problems))
                if not self._was_up:  # it will not come up by trying again
                    self._up.set()
                    return
            except Exception as error:
                self.why = _why(error)
            self._down()
            failures = 1 if anyio.current_time() - began > STEADY_S else failures + 1
            wait_s = AGAIN_S[min(failures, len(AGAIN_S)) - 1]
            logger.error("the backend is away (%s); it is started again in %g s", self.why, wait_s)
            await anyio.sleep(wait_s)

    def _down(self) -> None:
        self._link = None
        if self._up.is_set():
            self._up = anyio.Event()

    async def _once(self) -> None:
        """One connection from its beginning to its end.

        Raises:
            TimeoutError: it did not come about in time.
        """
        # Its deadline is lifted once the connection is there: what was opened within a scope must end within it.
        with anyio.CancelScope(deadline=anyio.current_time() + self._proxy.start_s) as starting:
            port = port_for(self._proxy)
            if not self._proxy.command:
                await self._connected(None, port, starting)
            else:
                async with process_of(self._manifest, self._proxy, self._launch, port) as process:
                    await self._connected(process, port, starting)
        if starting.cancelled_caught:
            raise TimeoutError

    async def _connected(self, process: stdio.BackendProcess | None, port: str, starting: anyio.CancelScope) -> None:
        """Speak to the backend; over HTTP to a process that was just started, as soon as it listens."""
        while True:
            try:
                async with self._transport(process, port) as pair, self._client(pair) as client:
                    link = Link(client.session)
                    await self._look(link)
                    starting.deadline = math.inf
                    await self._lasts(link, process)
                    return
            except Exception as error:  # of the connection, whatever its kind: the task groups beneath wrap it
                if process is not None and process.ended:
                    raise _NotUp(_ended(process)) from error
                if starting.deadline == math.inf or process is None or not self._proxy.url:
                    raise _NotUp(_why(error)) from error
            await anyio.sleep(0.1)

    @asynccontextmanager
    async def _transport(self, process: stdio.BackendProcess | None, port: str) -> AsyncIterator[TransportStreams]:
        proxy = self._proxy
        largest = proxy.result_kb * 1024 + stdio.OVERHEAD
        if not proxy.url:
            assert process is not None  # noqa: S101 - one of both is said
            async with stdio.streams(process, stdio.Bounds(largest)) as pair:
                yield pair
            return
        headers = {name: self._launch.secrets.get(variable, "") for name, variable in proxy.headers.items()}
        verify = trusting(proxy.ca) if proxy.ca else None
        async with web.streams(proxy.url.replace(PORT, port), headers, proxy.timeout_s, largest, verify) as pair:
            yield pair

    def _client(self, pair: TransportStreams) -> Client:
        return Client(
            _Opened(pair),
            mode=self._mode,
            cache=None,
            client_info=Implementation(name="pegboard-proxy", version="1"),
            message_handler=self._heard,
        )

    async def _lasts(self, link: Link, process: stdio.BackendProcess | None) -> None:
        """The time in which calls go through."""
        self._link, self._was_up = link, True
        self._up.set()
        logger.info("the backend is there: %s", _named(link.session))
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._look_now_and_then, link)
            if process is not None:
                beside.start_soon(_watch, process, link)
                if self._proxy.url:
                    beside.start_soon(stdio.discarded, process)
            await link.ended.wait()
            self.why = link.why or self.why
            self._down()
            beside.cancel_scope.cancel()
        if process is not None:
            with anyio.move_on_after(MOMENT_S):
                await process.over()
                self.why = _ended(process)

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._look_again.set()

    async def _look_now_and_then(self, link: Link) -> None:
        while True:
            with anyio.move_on_after(LOOK_S):
                await self._look_again.wait()
            await anyio.sleep(max(0.0, self._looked + SOONEST_LOOK_S - anyio.current_time()))
            self._look_again = anyio.Event()
            try:
                with anyio.fail_after(self._proxy.timeout_s):
                    await self._look(link)
            except UNANSWERED as error:
                what = "its tools cannot be listed"
                link.end(Why(what, f"{what}: {told(error)}"))
                return

    async def _look(self, link: Link) -> None:
        self._looked = anyio.current_time()
        found = await listed(link.session)
        if self._pins is None:
            return
        before, self.difference = self.difference, compare(self._pins, found)
        if self.difference != before:
            _report(self.difference)


class _Opened:
    """A transport that is open already: the SDK's client takes it over, and whoever opened it closes it."""

    def __init__(self, pair: TransportStreams) -> None:
        self._pair = pair

    async def __aenter__(self) -> TransportStreams:
        return self._pair

    async def __aexit__(self, *_: object) -> None:
        return None


class _NotUp(Exception):
    """No connection came about, or one broke."""

    def __init__(self, why: Why) -> None:
        self.why = why
        super().__init__(str(why))


def _why(error: BaseException) -> Why:
    if isinstance(error, _NotUp):
        return error.why
    words = told(error)
    return Why(words if isinstance(error, TimeoutError) else "it cannot be spoken to", words)


def _ended(process: stdio.BackendProcess) -> Why:
    return Why(f"it {process.ended}", f"it {process.ended}{process.saying}")


async def _watch(process: stdio.BackendProcess, link: Link) -> None:
    await process.over()
    link.end(_ended(process))


def _named(session: ClientSession) -> str:
    info = session.server_info
    return plain(f"{info.name} {info.version}"[:100]) if info is not None else "it does not say what it is"


def _report(difference: Difference) -> None:
    """Tell the owner, in the server's log, how the backend's tools differ from the pins."""
    for name, why in sorted(difference.blocked.items()):
        logger.error("tool %s is blocked: it %s; look at it with `pegboard snapshot` and release anew", name, why)
    if difference.new:
        names = ", ".join(ascii(name[:64]) for name in difference.new)
        logger.warning("the backend offers tools that are not pinned and stay hidden: %s", names)
    if not difference:
        logger.info("the backend's tools are as they were pinned")
