"""A server that asks is answered: its question found or made, held open while people decide, and claimed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from pegboard.core.approval import Answer, Ask, State, Told
from pegboard.core.caller import Caller
from pegboard.core.stops import Stops
from pegboard_hub.approvals import asking, store
from pegboard_hub.approvals.admitting import Admitting
from pegboard_hub.approvals.asking import Question, Standing
from pegboard_hub.approvals.clock import SteadyClock
from pegboard_hub.approvals.model import Request
from pegboard_hub.approvals.ports import Announcer
from pegboard_hub.approvals.rights import Owned, may_decide, who_decides
from pegboard_hub.approvals.waiting import Waiting
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.storage.database import Database

MOST_HELD: Final = 500
MOST_HELD_OF_SERVER: Final = 100
"""Questions that are held open at a time, of all servers and of one; more are answered at once."""

StillThere = Callable[[], Awaitable[bool]]
"""Whether the server still waits for the answer."""


class Answering:
    """Answers servers.

    Args:
        database: has the tables.
        admitting: says who asks, and what must be met.
        public_url: the edge's origin.
        stops: which callers are stopped.
        announcer: tells people.
        clock: says the time.
        owned: whose servers are.
        waiting: who waits for which request.
    """

    def __init__(
        self,
        database: Database,
        admitting: Admitting,
        public_url: str,
        stops: Callable[[], Stops],
        announcer: Announcer,
        clock: SteadyClock,
        owned: Owned,
        waiting: Waiting,
    ) -> None:
        self._database = database
        self._admitting = admitting
        self._public_url = public_url
        self._stops = stops
        self._announcer = announcer
        self._clock = clock
        self._owned = owned
        self._waiting = waiting
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """How many questions are held open now."""
        return self._held.total()

    async def ask(self, channel: Channel, ask: Ask, still_there: StillThere) -> Answer:
        """As `Approvals.ask`."""
        asking.check(ask)
        caller = self._admitting.caller(channel, ask)
        ask = self._admitting.required(channel, ask)
        # A server may send megabytes, and nobody else waits for them to be read.
        question = Question(
            channel,
            caller,
            ask,
            await asyncio.to_thread(asking.bound, channel, caller, ask),
            lambda: self._stops().people,
        )
        standing = await self._take(question, still_there)
        if standing.waits and ask.wait_s and not ask.answered and standing.is_about(ask.about):
            standing = await self._wait(question, standing, still_there)
        return self._answer(question, standing)

    async def _take(self, question: Question, still_there: StillThere) -> Standing:
        now = self._clock.now_ms()
        async with self._database.read() as db:
            standing = await asking.look(db, question, now)
        if standing is not None:
            return standing
        # A server that has died meanwhile may have been told to be over already: what it claims now, nobody ends.
        claims = await still_there()
        now = self._clock.now_ms()
        async with self._database.write(flushed=True) as db:
            standing = await asking.take(db, question, now, claims=claims)
            new = [request for request in standing.requests if request.id in {each.id for each in standing.made}]
            if waiting := [request for request in new if request.state is State.REQUESTED]:
                await self._announcer.announce(db, "requested", waiting)
        self._waiting.wake(standing.moved)
        return standing

    async def _wait(self, question: Question, standing: Standing, still_there: StillThere) -> Standing:
        """Wait for people, for as long as the server asked; gives how it stands then."""
        server = question.channel.server
        if self.held >= MOST_HELD or self._held[server] >= MOST_HELD_OF_SERVER:
            return standing
        self._held[server] += 1
        try:
            return await self._wait_for_people(question, standing, still_there)
        finally:
            self._held[server] -= 1
            if not self._held[server]:
                del self._held[server]

    async def _wait_for_people(self, question: Question, standing: Standing, still_there: StillThere) -> Standing:
        ids = [request.id for request in standing.requests]
        loop = asyncio.get_running_loop()
        until = loop.time() + question.ask.wait_s
        while standing.waits and not self._waiting.over:
            with self._waiting.on(ids) as woken:
                standing = await self._look_again(ids)
                if not standing.waits:
                    break
                try:
                    async with asyncio.timeout_at(until):
                        await woken.wait()
                except TimeoutError:
                    return standing
        # The caller may have been stopped while people made up their minds, or have given up.
        self._admitting.caller(question.channel, question.ask)
        if (
            standing.waits
            or self._admitting.required(question.channel, question.ask) != question.ask
            or not await still_there()
        ):
            return standing
        now = self._clock.now_ms()
        async with self._database.write(flushed=True) as db:
            standing = await asking.go_on(db, question, ids, now)
        self._waiting.wake(standing.moved)
        return standing

    async def _look_again(self, ids: Sequence[str]) -> Standing:
        async with self._database.read() as db:
            found = await store.by_ids(db, ids)
        return Standing([found[id_] for id_ in ids])

    def _answer(self, question: Question, standing: Standing) -> Answer:
        by_binding = {request.binding: request for request in standing.requests}
        waiting = [request for request in standing.requests if request.state is State.REQUESTED] or standing.requests
        if not waiting:  # a no to what never was
            return Answer(
                actions=(_NEVER_WAS,) * len(question.actions),
                claimed=False,
                page=f"{self._public_url}/approvals",
                asks="",
                yours=False,
                expires_at_ms=self._clock.now_ms(),
            )
        caller = question.caller
        return Answer(
            actions=tuple(_told(by_binding.get(binding)) for binding in question.bindings),
            claimed=standing.claimed,
            page=f"{self._public_url}/approvals/{waiting[0].id}",
            asks=who_decides(waiting[0], self._owned.owner(waiting[0].server), caller.sub),
            yours=any(self._may_decide(caller, request) for request in waiting),
            expires_at_ms=min(request.expires_at_ms for request in waiting),
        )

    def _may_decide(self, caller: Caller, request: Request) -> bool:
        return may_decide(caller.sub, caller.groups, self._owned.owner(request.server), request)


_NEVER_WAS: Final = Told(id="", state=State.WITHDRAWN, reason=asking.DECLINED)


def _told(request: Request | None) -> Told:
    if request is None:
        return _NEVER_WAS
    return Told(id=request.id, state=request.state, reason=request.why, decided_by=request.decided_by_name)
