"""Asking a process whether it works: over its Unix socket, or by what it leaves."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from pegboard.core.readiness import READY_PATH, SMOKE
from pegboard_hub.common.no_tls import NO_TLS

PROBE_TIMEOUT_S = 2.0

MOST_BYTES = 64 * 1024
"""Bytes of an answer: it is an author's code that gives it."""

MOST_CALLS = 1_000_000
MOST_SMOKE = 64

TOUCHED_S = 15.0
"""Seconds for which a file that a process touches every few seconds says that it works."""


async def calls_under_way(socket: Path) -> int:
    """How many calls a server answers right now.

    None where nobody is there or nothing is said of it: there is nothing to wait for then. One where no answer comes
    in time: calls are what keeps a server that busy.
    """
    transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=NO_TLS)
    async with httpx2.AsyncClient(transport=transport, timeout=PROBE_TIMEOUT_S) as client:
        try:
            return _count((await _said(client, "/healthz/calls"))["calls"])
        except (httpx2.TimeoutException, TimeoutError):
            return 1
        except _NO_ANSWER:
            return 0


class Use(NamedTuple):
    """How much a server is used.

    Attributes:
        calls: under way now.
        served: since its start.
        open: streams and legacy sessions.
    """

    calls: int
    served: int
    open: int


class Doors:
    """What a replica says of itself, asked by its supervisor. Each question has a connection of its own."""

    def __init__(self, socket: Path) -> None:
        transport = httpx2.AsyncHTTPTransport(
            uds=str(socket), verify=NO_TLS, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        self._client = httpx2.AsyncClient(transport=transport, timeout=PROBE_TIMEOUT_S)

    async def use(self) -> Use | None:
        """How much it is used; None where it does not say."""
        try:
            said = await _said(self._client, "/healthz/calls")
            calls, opened = _count(said["calls"]), _count(said["streams"]) + _count(said["sessions"])
            return Use(calls, int(said["served"]), opened)
        except _NO_ANSWER:
            return None

    async def smoke(self) -> tuple[str, dict[str, str]]:
        """What readiness says, and how its smoke calls went, by tool; empty where it does not say."""
        try:
            said = await _said(self._client, READY_PATH)
            calls = list((said.get(SMOKE) or {}).items())[:MOST_SMOKE]
            return str(said["status"]), {str(tool)[:64]: str(word)[:300] for tool, word in calls}
        except _NO_ANSWER:
            return "", {}

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()


_NO_ANSWER = (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError)
"""What asking raises, and reading what no answer is; `TimeoutError` is an OSError."""


async def _said(client: httpx2.AsyncClient, path: str, statuses: set[int] | None = None) -> Any:
    """What a process says, of which no more is read than it may say, and no longer.

    Args:
        client: of its socket.
        path: what is asked.
        statuses: which the answer may have; None: any.

    Raises:
        httpx2.HTTPError: it does not answer.
        TimeoutError: not in time.
        ValueError: it says too much, or something else.
    """
    content = b""
    async with (
        asyncio.timeout(PROBE_TIMEOUT_S),
        client.stream("GET", f"http://localhost{path}", headers={"accept-encoding": "identity"}) as answer,
    ):
        if statuses is not None and answer.status_code not in statuses:
            raise ValueError("it answers with another status")
        async for part in answer.aiter_raw():
            content += part
            if len(content) > MOST_BYTES:
                raise ValueError("it says too much")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it says something else") from error


def _count(said: Any) -> int:
    return min(max(int(said), 0), MOST_CALLS)


def answers_ok(socket: Path, path: str = "/healthz") -> Callable[[], Awaitable[bool]]:
    """A question that is true when GET `path` on `socket` is answered with 200 and `{"status": "ok"}`.

    Each asks on a connection of its own: one that was kept would answer on when the socket that callers need is gone.
    """
    transport = httpx2.AsyncHTTPTransport(
        uds=str(socket), verify=NO_TLS, limits=httpx2.Limits(max_keepalive_connections=0)
    )
    client = httpx2.AsyncClient(transport=transport, timeout=PROBE_TIMEOUT_S)

    async def ask() -> bool:
        try:
            return bool(await _said(client, path, {httpx2.codes.OK}) == {"status": "ok"})
        except _NO_ANSWER:
            return False

    return ask


def touched_lately(path: Path) -> Callable[[], Awaitable[bool]]:
    """A question that is true while `path` was touched within the last seconds."""

    async def ask() -> bool:
        return _age(path) < TOUCHED_S

    return ask


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def listens_at(socket: Path) -> Callable[[], Awaitable[bool]]:
    """A question that is true when something takes connections at `socket`."""

    async def ask() -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(str(socket))
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    return ask
