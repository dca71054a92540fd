"""A trial: load on an instance, something done to it, and afterwards the ledger held to the callers' book."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

from pegboard_hub.common.home import Home
from tests.system.instance import Instance
from tests.system.survival.audit import Audit, Row, audit, digest, rows
from tests.system.survival.kills import SERVERS, Kill, kill, live_again, process
from tests.system.survival.load import PATIENCE_S, RENEW_AFTER_S, Book, Entry, Fate, Load

RATE = 8.0
"""Calls per second of each of the four callers."""

SETTLED_S = 60.0
"""The ledger must agree within this time after the last call."""


@dataclass
class Trial:
    """An instance under load, and what was killed of it so far."""

    instance: Instance
    load: Load
    kills: list[Kill] = field(default_factory=list)

    async def kill(self, *names: str) -> None:
        """`kill -9` of these processes at once; returns when all are live again and every server answers."""
        home = self.instance.home
        starts = {name: process(home, name)["restarts"] for name in names}
        killed = [kill(home, name) for name in names]
        self.kills += killed
        for each in killed:
            await live_again(home, each, starts[each.name])
        await self.every_server_answers(time.monotonic())

    async def every_server_answers(self, since: float) -> None:
        """Wait until each server answers a call that began since then."""
        await asyncio.gather(*(self.load.answered(server, since) for server in SERVERS))

    def since(self, moment: float, server: str | None = None) -> list[Entry]:
        """The calls, of one server or of all, that began since then."""
        return [each for each in self.load.book.entries if each.began >= moment and server in (None, each.server)]


@asynccontextmanager
async def under_load(instance: Instance, renew_after_s: float = RENEW_AFTER_S) -> AsyncIterator[Trial]:
    """Load while the block runs. Then every acknowledged call is in the ledger once, and nothing else is."""
    others = rows(instance.home)
    trial = Trial(instance, Load(instance.public_url, RATE, renew_after_s))
    async with trial.load.running() as book:
        await trial.every_server_answers(0)
        yield trial
    found = await settled(instance.home, book, others, trial.kills)
    told = f"{trial.kills}\n{book.summary()}"
    assert found.missing == [], told
    assert found.twice == [], told
    assert found.never_sent == [], told
    acknowledged = {digest(instance.home, each) for each in book.entries if each.fate is Fate.ACKNOWLEDGED}
    assert [row for row in found.not_ok if row.digest in acknowledged] == [], told
    assert [row for row in found.unknown if not explained(row, trial.kills)] == [], told
    await home_page_agrees(instance)


async def settled(home: Home, book: Book, others: list[Row], kills: Sequence[Kill] = ()) -> Audit:
    """The audit once every call's end has arrived that must, or when that takes too long; without `others`' rows."""
    deadline = time.monotonic() + SETTLED_S
    before = {row.digest for row in others}
    while True:
        found = audit(home, book, [row for row in rows(home) if row.digest not in before])
        waiting = found.missing or [row for row in found.unknown if not explained(row, kills)]
        if not waiting or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)


def explained(row: Row, kills: Sequence[Kill]) -> bool:
    """Whether its own server was killed while the call with this row may have been under way."""
    return any(each.name == row.server and 0 <= each.at * 1000 - row.at_ms <= PATIENCE_S * 1000 for each in kills)


async def home_page_agrees(instance: Instance) -> None:
    """The home page counts what the rows say: the calls that ended well. Ends of lost calls may still arrive."""
    deadline = time.monotonic() + SETTLED_S
    while (shown := await _shown(instance)) != (counted := sum(row.status == "ok" for row in rows(instance.home))):
        assert time.monotonic() < deadline, f"the home page says {shown} calls, and there are {counted}"
        await asyncio.sleep(0.2)


async def _shown(instance: Instance) -> int:
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
        page = (await http.get(instance.public_url)).text
    shown = re.search(r"<dt>Calls</dt><dd>([^<]*)</dd>", page)
    assert shown is not None
    return int(re.sub(r"\D", "", shown[1]))
