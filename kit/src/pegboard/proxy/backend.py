"""What a proxy stands before: calls go to it once, within its bounds, and are told how they ended.

A call that was sent is never sent again: whether it took effect is not known when its answer does not come, and the
caller is told so. While the backend is being started, calls wait for it, and fail when it does not come.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx2
import mcp_types
from mcp.client.client import ConnectMode
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequiredResult
from pydantic import ValidationError

from pegboard.core.manifest import Manifest
from pegboard.core.pins import Difference, Pins
from pegboard.core.proxied import Proxy
from pegboard.proxy import stdio, web
from pegboard.proxy.connection import UNANSWERED, BackendAway, Connection, Link, Why
from pegboard.proxy.listing import listed
from pegboard.proxy.starting import Launch
from pegboard.proxy.words import said

logger = logging.getLogger(__name__)

PING_S: Final = 5.0
"""After a call that was not answered, within which the backend must answer anything at all."""

_UNKNOWN: Final = "It may or may not have taken effect, and was not tried again."


class Backend:
    """A server that somebody else wrote, and how much is asked of it at once."""

    def __init__(self, manifest: Manifest, pins: Pins | None, launch: Launch, mode: ConnectMode = "auto") -> None:
        """Prepare.

        Args:
            manifest: of the project; it has a `[proxy]`.
            pins: what its tools were; None where that is being asked.
            launch: where it is.
            mode: the protocol's era; by asking, unless given.
        """
        assert manifest.proxy is not None  # noqa: S101 - callers look at it first
        self._proxy: Proxy = manifest.proxy
        self._connection = Connection(manifest, manifest.proxy, pins, launch, mode)
        self._at_once = anyio.CapacityLimiter(self._proxy.concurrency)
        self._shares: dict[str, anyio.CapacityLimiter] = {}

    @property
    def difference(self) -> Difference:
        """How its tools differ from the pins, as of the last look."""
        return self._connection.difference

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        """Keep the connection while the block runs.

        Raises:
            ConfigurationError: a backend that is started here, or is only looked at, is not there.
        """
        async with self._connection.kept():
            yield self

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
                link = await self._connection.link()
                waiting.deadline = math.inf
                left = max(0.1, deadline - anyio.current_time())
                return await self._sent(link, name, arguments, progress, meta, left)
        if not self._connection.there:
            raise self._connection.away()
        raise BackendAway(
            f"{name} was not run: the server behind it has {self._proxy.concurrency} calls under way, and no room "
            f"came free within {self._proxy.timeout_s:g} s. Call again later."
        )

    async def as_pins(self) -> Pins:
        """What it says of itself and of its tools now.

        Raises:
            BackendAway: it is not there.
            MCPError: it does not list them.
        """
        session = (await self._connection.link()).session
        info = session.server_info
        return Pins(
            backend=f"{info.name} {info.version}" if info is not None else "",
            instructions=session.instructions,
            tools=tuple(sorted(await listed(session), key=lambda tool: tool.name)),
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

    async def _sent(
        self,
        link: Link,
        name: str,
        arguments: dict[str, Any],
        progress: ProgressFnT | None,
        meta: dict[str, Any] | None,
        timeout_s: float,
    ) -> CallToolResult:
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
            raise await self._failed(link, name, error) from error
        except (httpx2.HTTPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            link.end(Why("the connection broke", type(error).__name__))
            raise BackendAway(f"The connection to the server behind {name} broke. {_UNKNOWN}") from error
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

    async def _failed(self, link: Link, name: str, error: MCPError) -> ToolError:
        """What a caller is told of a call that was answered with an error, or not at all."""
        match error.code:
            case web.NOT_SENT:
                return BackendAway(f"{name} was not run: the server behind it does not answer. Call again later.")
            case web.NO_SESSION:
                link.end(Why("it does not know the session any more"))
                return BackendAway(f"{name} was not run: the server behind it was started anew. Call again.")
            case web.BROKEN:
                return BackendAway(f"The answer of {name} broke off. {_UNKNOWN}")
            case stdio.TOO_LARGE:
                return ToolError(
                    f"The answer of {name} is larger than {self._proxy.result_kb} KiB, the most that is passed on. "
                    "The call has run: ask for less."
                )
            case mcp_types.CONNECTION_CLOSED:
                link.end(Why("the connection closed"))
                return BackendAway(f"The server behind {name} ended while it ran this call. {_UNKNOWN}")
            case mcp_types.REQUEST_TIMEOUT:
                await _doubt(link)
                return BackendAway(
                    f"The server behind {name} did not answer within {self._proxy.timeout_s:g} s. {_UNKNOWN}"
                )
        return ToolError(f"The server behind {name} answered with an error. Its own words: {said(error.message)}")


async def _doubt(link: Link) -> None:
    """After a call that nobody answered: does the backend answer at all?"""
    try:
        with anyio.fail_after(PING_S):
            await listed(link.session)
    except UNANSWERED:
        link.end(Why(f"it answers nothing within {PING_S:g} s"))
