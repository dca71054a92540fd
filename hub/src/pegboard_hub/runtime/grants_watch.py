"""What the hub says of the grants file, brought to the terminal of `pegboard up` when it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.status import StatusFile

DOOR = "/internal/v1/grants"
TAKEN = "/internal/v1/registry/taken"

LOOK_S = 2.0
"""How often the hub is asked, in seconds."""

TAKEN_LOOK_S = 0.1
"""How often the hub is asked whether it has taken a release over, in seconds."""

NEWS_S = 0.5
"""For how long an answer serves all who ask about one server, in seconds."""


class Reporter(Protocol):
    """Where an operator reads what happens."""

    def step(self, line: str) -> None:
        """Something happened as it should."""

    def problem(self, line: str) -> None:
        """Something needs the operator; said even when nothing else is."""


class Word(BaseModel):
    """The hub's answer at one moment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fault: str = ""
    unusable: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    closed: Mapping[str, str] = {}
    deploying: Mapping[str, str] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything that stands, worst first."""
        fault = (f"the file has a fault, so the last good one stays in force: {self.fault}",) if self.fault else ()
        return (*fault, *self.unusable, *self.notices)


class Taken(BaseModel):
    """The hub's answer about one release."""

    taken: bool


class GrantsWatch:
    """Asks the hub now and then, and reports what was not so before and what is no longer so.

    Attributes:
        word: the hub's last answer. While it does not answer, that one stands.
    """

    def __init__(self, home: Home, report: Reporter, status: StatusFile) -> None:
        self.word = Word()
        self._status = status
        self._looked = 0.0
        self._asking = asyncio.Lock()
        self._report = report
        self._operator_token = home.operator_token
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(home.internal_socket)), base_url="http://hub", timeout=5
        )

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._client.aclose()

    async def taken_over(self, server: ServerName, release: str, limit: float) -> None:
        """Wait until the hub has taken a release over, `limit` seconds at most: it may refuse to."""
        deadline = time.monotonic() + limit
        # Another process sets no event here.
        while not await self._has(server, release) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(TAKEN_LOOK_S)
        self._looked = 0.0  # what it said before does not know of it

    async def closed(self, server: ServerName) -> str:
        """Why nobody can call a server that runs, as far as the hub says; empty where people can."""
        async with self._asking:
            if time.monotonic() - self._looked > NEWS_S:
                await self.look()
                self._looked = time.monotonic()
        return self.word.closed.get(str(server), "")

    async def look(self) -> None:
        """Ask once and report the difference. That the hub does not answer is for its supervisor to say."""
        try:
            word = Word.model_validate_json(await self._ask(DOOR))
        except (httpx2.HTTPError, OSError, ValidationError):
            return
        before, self.word = self.word, word
        self._status.closed = dict(word.closed)
        self._status.deploying = dict(word.deploying)
        self._tell(before, word)

    async def _has(self, server: ServerName, release: str) -> bool:
        with suppress(httpx2.HTTPError, OSError, ValidationError):
            return Taken.model_validate_json(await self._ask(TAKEN, server=str(server), release=release)).taken
        return False

    async def _ask(self, door: str, **query: str) -> bytes:
        token = self._operator_token.read_text(encoding="utf-8").strip()
        answer = await self._client.get(door, params=query, headers={"authorization": f"Bearer {token}"})
        return answer.raise_for_status().content

    def _tell(self, before: Word, now: Word) -> None:
        if before.fault and not now.fault:
            self._report.step("grants: the file is good again and in force")
        for line in _new(now.lines, before.lines):
            (self._report.step if line in now.notices else self._report.problem)(f"grants: {line}")
        for line in _new((*before.unusable, *before.notices), now.lines):
            self._report.step(f"grants: no longer so: {line}")


def _new(lines: Iterable[str], known: Iterable[str]) -> list[str]:
    there = set(known)
    return [line for line in lines if line not in there]
