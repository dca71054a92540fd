"""Many payments at once, as agents make and people decide on them, and a book of what everybody was told."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from pegboard.core.approval import State
from tests.system.survival.till import PASSING, Said, Till, until

TRIES = 40
"""How often one payment is tried, before its agent gives up."""

AGAIN = PASSING | {"approval_claimed"}
"""What is worth another try a little later."""


@dataclass
class Book:
    """What people and agents were told.

    Attributes:
        decided: requests of which somebody was told that they are decided, and how.
        withdrawn: requests that whose they are took back.
        paid: what agents were told is paid: the edge's id of the call, and the references.
        told: how often agents were told what.
    """

    decided: dict[str, State] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    paid: dict[str, tuple[str, ...]] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)


class Orders:
    """Payments that are made until each has an end.

    Args:
        seed: of everything that is left to chance here.
    """

    def __init__(self, till: Till, seed: int) -> None:
        self.book = Book()
        self._till = till
        self._seed = seed

    async def make(self, count: int, at_once: int) -> None:
        """Make so many payments, at most `at_once` at a time."""
        places = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with places:
                await self._order(number, random.Random(f"{self._seed}/{number}"))  # noqa: S311

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number))

    async def _order(self, number: int, chance: random.Random) -> None:
        refs = [f"{self._seed}-{number}-{place}" for place in range(chance.choice((1, 1, 1, 3)))]
        seconds = chance.choice((0, 0, 0.2, 0.6))
        for _ in range(TRIES):
            calls = [self._call(refs, seconds) for _ in range(chance.choice((1, 1, 2)))]
            for told in await asyncio.gather(*calls):
                self.book.told[told.code] += 1
                if told.code == "":
                    return
                if told.code == "approval_pending":
                    await self._decide(told, chance)
                elif told.code not in AGAIN:
                    return
            await asyncio.sleep(chance.uniform(0.05, 0.3))

    async def _call(self, refs: list[str], seconds: float) -> Said:
        if len(refs) == 1:
            told = await self._till.send("pay", {"ref": refs[0], "seconds": seconds})
        else:
            told = await self._till.send("pay_all", {"refs": refs, "seconds": seconds})
        if told.code == "":
            self.book.paid[told.request_id] = tuple(refs)
        return told

    async def _decide(self, told: Said, chance: random.Random) -> None:
        for id in told.ids:
            if (chosen := chance.random()) < 0.8:
                await self._say(id, "Approve", State.APPROVED)
            elif chosen < 0.9:
                await self._say(id, "Reject", State.REJECTED)
            elif await self._till.withdraws(id):
                self.book.withdrawn.add(id)

    async def _say(self, id: str, button: str, state: State) -> None:
        if await self._till.decide(id, button) == 303:
            assert self.book.decided.setdefault(id, state) is state, "nothing is decided twice"


def hold(till: Till, book: Book) -> None:
    """Hold what everybody was told against what is: nothing that was acknowledged is lost."""
    events = {(row[0], row[1]) for row in till.rows('SELECT request, "after" FROM approval_events')}
    for id, state in book.decided.items():
        assert (id, state) in events, f"{id} was decided, and is not {state}"
    for id in book.withdrawn:
        assert till.state(id) is State.WITHDRAWN
    ran = {(line[2], line[1]) for line in till.log if line[0] == "through"}
    calls = "SELECT request_id, approval FROM calls WHERE kind = 'intent' AND server = 'prod/till'"
    approved = {row[0]: json.loads(row[1]) if isinstance(row[1], str) else row[1] for row in till.rows(calls)}
    for request_id, refs in book.paid.items():
        assert any((request_id, ref) in ran for ref in refs), f"{refs} were not paid"
        assert {till.state(id) for id in approved[request_id]} == {State.DONE}


async def end_all(till: Till) -> None:
    """Let whose they are end all that is open, once nothing runs any more: nothing is left that nobody can end."""
    running = "SELECT id FROM approval_requests WHERE state = 'claimed'"
    await until(lambda: not till.rows(running), lambda: f"{till.rows(running)} run on")
    for row in till.rows("SELECT id FROM approval_requests WHERE state IN ('requested', 'approved')"):
        assert await till.withdraws(row[0]), f"{row[0]} cannot be taken back"
