"""Calls of both protocol eras at a steady rate, and a book of what became of each, kept by the caller alone."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

import httpx2

from pegboard_hub.demo.wire import Reply, Wire
from pegboard_hub.edge.delivery import NOT_REFUSED

RENEW_AFTER_S = 60.0
"""A caller asks for a new token this long after it got the last one; while it gets none it uses the old one on."""

PATIENCE_S = 10.0
"""A call that has no answer after so long is given up."""


MAY_HAVE_RUN = frozenset({*NOT_REFUSED, "ledger_unavailable"})
"""Answers that say honestly that nobody knows whether the call ran."""


class Fate(StrEnum):
    """What a caller knows of its call. LOST: no whole answer came, so it may have run or not."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Entry:
    """One call in the book. Times are of the monotonic clock; `why` says how it was refused or lost."""

    server: str
    arguments: dict[str, Any]
    began: float
    ended: float
    fate: Fate
    request_id: str = ""
    why: str = ""
    person: str = "ana"


@dataclass
class Book:
    """Every call that was sent."""

    entries: list[Entry] = field(default_factory=list)

    def of(self, server: str, fate: Fate | None = None) -> list[Entry]:
        """The calls of one server, of one fate where one is given."""
        return [each for each in self.entries if each.server == server and fate in (None, each.fate)]

    def summary(self) -> Counter[str]:
        """How many calls had each fate, and why."""
        return Counter(f"{each.fate} {each.why}".strip() for each in self.entries)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls what: one demo person's client, in one era, of one server."""

    server: str
    legacy: bool
    person: str = "ana"

    def request(self, number: int) -> tuple[str, dict[str, Any]]:
        """Tool and arguments of the call with this number; no two calls have equal arguments."""
        if self.server == "prod/presto":
            return "run_query", {"sql": f"SELECT {number} AS number"}
        return "echo", {"text": f"call {number}"}

    def is_answer(self, reply: Reply, number: int) -> bool:
        """Whether this is the whole and right answer to that call."""
        return not reply.result.get("isError") and str(number) in reply.text


CALLERS = tuple(Caller(server, legacy) for server in ("prod/presto", "dev/scratch") for legacy in (False, True))


class Load:
    """Callers that go on whatever happens. Each has one call under way at most.

    Args:
        public_url: the edge.
        rate: calls per second that each caller begins, at most.
        renew_after_s: how long a caller uses a token before it asks for another, in seconds.
    """

    def __init__(self, public_url: str, rate: float, renew_after_s: float = RENEW_AFTER_S) -> None:
        self._renew_after_s = renew_after_s
        self.book = Book()
        self._url = public_url
        self._pause = 1 / rate
        self._numbers = count(secrets.randbelow(10**12))  # no load repeats another's calls
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self, callers: tuple[Caller, ...] = CALLERS) -> AsyncIterator[Book]:
        """Call until the block ends, and let the calls that are under way end."""
        tasks = [asyncio.create_task(self._call_on(caller)) for caller in callers]
        try:
            yield self.book
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks)

    async def answered(self, server: str, since: float, limit: float = 120.0) -> Entry:
        """Wait for an acknowledged call that began after `since`.

        Raises:
            TimeoutError: none came within `limit` seconds.
        """
        async with asyncio.timeout(limit):
            while True:
                for entry in reversed(self.book.entries):
                    if entry.server == server and entry.fate is Fate.ACKNOWLEDGED and entry.began >= since:
                        return entry
                await asyncio.sleep(0.02)

    async def _call_on(self, caller: Caller) -> None:
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
            client = _Client(Wire(http, self._url), caller, self._renew_after_s)
            while not self._stopping.is_set():
                began = time.monotonic()
                if await client.ready():
                    self.book.entries.append(await client.call(next(self._numbers)))
                rest = max(0.0, self._pause - (time.monotonic() - began))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), rest)


class _Client:
    """One MCP client: it renews its token in time, and opens another session when the server lost the last."""

    def __init__(self, wire: Wire, caller: Caller, renew_after_s: float) -> None:
        self._renew_after_s = renew_after_s
        self._wire = wire
        self._caller = caller
        self._token = ""
        self._renew_at = 0.0
        self._session = ""

    async def ready(self) -> bool:
        """Have a token and, in the legacy era, a session; false when there is none to be had just now."""
        try:
            if time.monotonic() >= self._renew_at:
                self._token = await self._wire.token(self._caller.person, self._caller.server)
                self._renew_at = time.monotonic() + self._renew_after_s
        except httpx2.HTTPError:
            if not self._token:
                return False
        if self._caller.legacy and not self._session:
            try:
                opened = await self._wire.initialize(self._token, self._caller.server)
            except httpx2.HTTPError:
                return False
            self._session = opened.headers.get("mcp-session-id", "")
            return bool(self._session)
        return True

    async def call(self, number: int) -> Entry:
        """Make one call and write down what became of it."""
        tool, arguments = self._caller.request(number)
        began = time.monotonic()

        def entry(fate: Fate, request_id: str = "", why: str = "") -> Entry:
            ended = time.monotonic()
            return Entry(self._caller.server, arguments, began, ended, fate, request_id, why, self._caller.person)

        try:
            reply = await self._send(tool, arguments)
        except httpx2.HTTPError as error:
            self._session = ""
            return entry(Fate.LOST, why=type(error).__name__)
        if reply.status == httpx2.codes.OK and self._caller.is_answer(reply, number):
            return entry(Fate.ACKNOWLEDGED, reply.request_id)
        self._session = ""
        if reply.refusal is not None and reply.refusal["reason"] not in MAY_HAVE_RUN:
            return entry(Fate.REFUSED, reply.request_id, f"{reply.status} {reply.refusal['reason']}")
        if reply.status == httpx2.codes.NOT_FOUND and self._caller.legacy:
            return entry(Fate.REFUSED, reply.request_id, "404 session")
        why = reply.refusal["reason"] if reply.refusal else str(reply.message)[:200]
        return entry(Fate.LOST, reply.request_id, f"{reply.status} {why}")

    async def _send(self, tool: str, arguments: dict[str, Any]) -> Reply:
        if not self._caller.legacy:
            return await self._wire.call(self._token, tool, arguments, self._caller.server)
        params = {"name": tool, "arguments": arguments}
        return await self._wire.legacy(self._token, "tools/call", params, self._caller.server, self._session)
