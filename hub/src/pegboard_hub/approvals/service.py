"""The approval service: the one door for servers, pages, API and the ledger.

| what | who | where it may come from |
|---|---|---|
| `ask`, `over` | a server, on its channel, for the caller whose token it has | the internal door |
| `decide`, `again` | a person, by `rights` | a browser's session alone; no token decides anything |
| `withdraw` | whose call it is | a page, the API, the command: it only takes away |
| `settle` | the ledger, with a server's records | its own transaction |

Whatever is acknowledged was committed before; a claim, which must never be given twice, is flushed to the disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import Answer, Ask, Requirement
from pegboard.core.revoked import Revoked
from pegboard.core.stops import Stops
from pegboard_hub.approvals import deciding, due, keeping, listing, measuring, store
from pegboard_hub.approvals.admitting import Admitting, Registered
from pegboard_hub.approvals.answering import Answering, StillThere
from pegboard_hub.approvals.clock import SteadyClock
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.measuring import Measures
from pegboard_hub.approvals.model import Decider, Door, Page, Place, Reader, Request, Verdict, Which
from pegboard_hub.approvals.ports import NOBODY_IS_TOLD, Announcer
from pegboard_hub.approvals.rights import Owned, keys_of, may_decide, sees, who_decides
from pegboard_hub.approvals.waiting import Waiting
from pegboard_hub.identity.keys import Keys
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import SECURITY, Roles
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import APPROVALS_DECIDED, APPROVALS_REFUSED

log = logging.getLogger(__name__)

KEEP_EVERY_S: Final = 1.0
"""How often it is looked for what expires, in seconds."""

MOST_WAITING: Final = 100
"""Where `waiting` stops counting."""

MOST_LISTED: Final = 200
ANY: Final = Which()


async def _always() -> bool:
    return True


def _nothing(_server: str, _tool: str, _asked: Requirement) -> None:
    return None


class Approvals:
    """Everything that is done about approvals.

    Args:
        database: has the tables.
        registry: of servers and who owns them.
        keys: that callers' tokens are verified with.
        public_url: the edge's origin.
        roles: who operates, as the operator's files say now.
        revoked: what is void before its time.
        stops: which callers are stopped.
        announcer: tells people.
        leads: whether this hub is the one that looks after what time does.
        meter: counts.
        registered: what is required of a tool here, whatever its server asks for.
        clock: says the time.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        keys: Keys,
        public_url: str,
        roles: Callable[[], Roles],
        revoked: Callable[[], Revoked],
        stops: Callable[[], Stops],
        announcer: Announcer = NOBODY_IS_TOLD,
        leads: Callable[[], bool] = lambda: True,
        meter: HubMeter | None = None,
        registered: Registered = _nothing,
        clock: SteadyClock | None = None,
    ) -> None:
        self._database = database
        self._registry = registry
        self._roles = roles
        self._stops = stops
        self._announcer = announcer
        self._leads = leads
        self._meter = meter or HubMeter()
        self._measures = Measures(database, self._meter)
        self._registered = registered
        self._clock = clock or SteadyClock()
        self._owned = Owned(lambda: registry.current)
        self._waiting = Waiting(database)
        self._answering = Answering(
            database,
            Admitting(registry, keys, public_url, revoked, stops, registered),
            public_url,
            stops,
            announcer,
            self._clock,
            self._owned,
            self._waiting,
        )
        self._forgotten_ms = 0

    @property
    def held(self) -> int:
        """How many questions are held open now."""
        return self._answering.held

    def reader(self, sub: str, groups: Iterable[str]) -> Reader:
        """Somebody who looks at requests, with what they may look at."""
        known = tuple(groups)
        return Reader(sub, known, self._roles().operate(known) or SECURITY in known)

    async def ask(self, channel: Channel, ask: Ask, still_there: StillThere = _always) -> Answer:
        """Find or make what a call needs, wait for people as long as it says, and claim what they approved.

        The same question with the same `call_id` is answered with the same claim. It claims nothing while anything
        waits, while another call has any of it, or for a call whose server does not wait for the answer any more.

        Args:
            channel: that the server speaks on: it says which server and release ask, not the server.
            ask: the question.
            still_there: whether the server still waits for the answer.

        Raises:
            ApprovalRefused: the token is no good, its caller or the server is stopped, or the question cannot be.
            StorageUnavailable: the database takes no writes; nothing was made or claimed.
        """
        try:
            return await self._answering.ask(channel, ask, still_there)
        except ApprovalRefused as error:
            self._meter.count(APPROVALS_REFUSED, error.code)
            raise

    async def over(self, channel: Channel, processes: Sequence[str]) -> None:
        """Note that processes of a server are over: how what they had claimed ended is unknown.

        Raises:
            StorageUnavailable: the database takes no writes.
        """
        now = self._clock.now_ms()
        async with self._database.write() as db:
            lost = await store.claimed_by(db, channel.server, [each for each in processes if each.isprintable()])
            moved = await keeping.lose(db, self._announcer, lost, keeping.PROCESS_OVER, "server", now)
        self._moved(moved)

    async def decide(self, by: Decider, verdicts: Sequence[Verdict], why: str = "") -> list[Request]:
        """Approve and reject in one act: all of it or nothing.

        Args:
            by: made from a browser's session, of somebody who has just proved who they are.
            verdicts: one for each request.
            why: for all of them; a rejection needs it.

        Raises:
            ApprovalRefused: one is not there for them, not theirs, their own, decided, expired or changed; or they
                are stopped.
            StorageUnavailable: the database takes no writes; nothing was decided.
        """
        why = deciding.check_verdicts(verdicts, why)
        if by.sub in self._stops().people:
            raise ApprovalRefused("stopped", "by", "You are stopped, so you decide nothing.", "Ask the operators.")
        now = self._clock.now_ms()
        async with self._database.write() as db:
            decided = await deciding.decide(db, by, verdicts, why, now)
            await self._announcer.announce(db, "decided", decided)
        self._moved(request.id for request in decided)
        for request in decided:
            self._meter.observe(APPROVALS_DECIDED, (now - request.requested_at_ms) / 1000)
            log.info("approval decided", extra={"approval": request.id, "state": request.state, "sub": by.sub})
        return decided

    async def withdraw(self, sub: str, ids: Sequence[str], why: str = "", door: Door = "page") -> list[Request]:
        """Take back requests of one's own that wait or were approved: all of them or none.

        Raises:
            ApprovalRefused: one is not theirs, or is over or running.
            StorageUnavailable: the database takes no writes; nothing was withdrawn.
        """
        why = deciding.check_why(why)
        now = self._clock.now_ms()
        async with self._database.write() as db:
            withdrawn = await deciding.withdraw(db, sub, ids[: deciding.MOST_AT_ONCE], why, door, now)
        self._moved(request.id for request in withdrawn)
        return withdrawn

    async def again(self, sub: str, id: str) -> Request:
        """Ask anew for the action of a request of one's own that came to nothing; gives one that is there already.

        Raises:
            ApprovalRefused: it is not theirs, has not ended, its server has another release, or there are too many.
            StorageUnavailable: the database takes no writes.
        """
        now = self._clock.now_ms()
        if sub in self._stops().people:
            raise ApprovalRefused("stopped", "by", "You are stopped.", "Ask the operators.")
        async with self._database.write() as db:
            release, registered = None, None
            if old := (await store.by_ids(db, [id])).get(id):
                server = self._registry.current.deployed(old.server)
                release = server.release.digest if server is not None and server.release is not None else None
                registered = self._registered(old.server, old.tool, old.requirement)
            fresh, is_new = await deciding.again(db, sub, id, release, registered, now)
            if is_new:
                await self._announcer.announce(db, "requested", [fresh])
        return fresh

    async def find(self, reader: Reader, id: str) -> Request | None:
        """A request with its history; None where it is not there for this reader."""
        async with self._database.read() as db:
            found = await store.find(db, id)
        return found if found is not None and self.sees(reader, found) else None

    async def beside(self, reader: Reader, request: Request) -> list[Request]:
        """The other requests of its batch that the reader may see, in the order in which they were asked for."""
        async with self._database.read() as db:
            batch = await store.of_batch(db, request.batch, MOST_LISTED)
        return [each for each in batch if each.id != request.id and self.sees(reader, each)]

    async def inbox(self, reader: Reader, limit: int = 50, after: Place | None = None) -> Page:
        """What waits for the reader's yes, the first to expire first."""
        async with self._database.read() as db:
            return await listing.inbox(
                db, reader.sub, self._keys_of(reader), self._clock.now_ms(), min(limit, MOST_LISTED), after
            )

    async def waiting(self, reader: Reader) -> int:
        """How many requests wait for the reader's yes; it counts no further than `MOST_WAITING`."""
        async with self._database.read() as db:
            return await listing.count_waiting(
                db, reader.sub, self._keys_of(reader), self._clock.now_ms(), MOST_WAITING
            )

    async def mine(self, reader: Reader, limit: int = 50, after: Place | None = None, which: Which = ANY) -> Page:
        """What the reader asked for, newest first."""
        return await self._listed([listing.of_person(reader.sub)], limit, after, which)

    async def history(self, reader: Reader, limit: int = 50, after: Place | None = None, which: Which = ANY) -> Page:
        """Everything that the reader may see, newest first."""
        among = [listing.of_person(reader.sub), *listing.of_approvers(self._keys_of(reader))]
        if reader.sees_all:
            among = [listing.all_of_them()]
        return await self._listed(among, limit, after, which)

    def sees(self, reader: Reader, request: Request) -> bool:
        """Whether a request is there for a reader."""
        return sees(reader, self._owned.owner(request.server), request)

    def may_decide(self, reader: Reader, request: Request) -> bool:
        """Whether it is the reader's to decide on a request, as far as is known now; deciding looks again."""
        return may_decide(reader.sub, reader.groups, self._owned.owner(request.server), request)

    def who_decides(self, request: Request, reader: str) -> str:
        """Who is to say yes, in words that follow "Waiting for" and are told to the reader, by their id."""
        return who_decides(request, self._owned.owner(request.server), reader)

    async def settle(
        self,
        connection: AsyncConnection,
        outcomes: Iterable[Mapping[str, Any]],
        denials: Iterable[Mapping[str, Any]],
    ) -> None:
        """End what calls had claimed, in the transaction in which the ledger takes their records.

        Args:
            connection: of the ledger's transaction.
            outcomes, denials: rows of one server: `server`, `id`, and of outcomes `status`.
        """
        ended, refused = list(outcomes), list(denials)
        statuses = {row["id"]: row["status"] for row in reversed(ended)}
        for server in {row["server"] for row in (*ended, *refused)}:
            denied = [row["id"] for row in refused]
            await keeping.settle(connection, server, statuses, denied, self._clock.now_ms())

    async def keep(self) -> None:
        """Expire, remind and give up what is due, until cancelled; only where this hub leads."""
        while True:
            if self._leads():
                try:
                    await self.look_after()
                except Exception:
                    log.exception("approvals that are due could not be looked after, and are tried again")
            await asyncio.sleep(KEEP_EVERY_S)

    async def look_after(self) -> None:
        """What `keep` does every second, and what a stop of a person does to the yeses that they gave.

        Raises:
            StorageUnavailable: the database takes no writes; it is done at the next look.
        """
        now, stopped = self._clock.now_ms(), self._stops().people
        async with self._database.read() as db:
            void = bool(stopped) and bool(await due.approved_by(db, stopped, 1))
            if not void and not await due.anything_due(db, now, keeping.RUNS_FOR_MS):
                return
        async with self._database.write() as db:
            moved = await keeping.expire(db, now)
            await due.date_claims_anew(db, now)
            moved += await keeping.take_back(db, stopped, now)
            await keeping.remind(db, self._announcer, now)
            silent = await due.claimed_before(db, now - keeping.RUNS_FOR_MS, keeping.AT_A_TIME)
            moved += await keeping.lose(db, self._announcer, silent, keeping.SILENT, "clock", now)
        self._moved(moved)

    async def follow(self) -> None:
        """Wake servers that wait for what other hubs decide, until cancelled."""
        await self._waiting.follow()

    def release(self) -> None:
        """Answer everybody who waits: the hub ends."""
        self._waiting.release()

    async def standing(self) -> measuring.Standing:
        """How approvals stand, for the operator."""
        return await measuring.standing(self._database, int(time.time() * 1000))

    async def tidy(self) -> None:
        """Drop the contents of what was over long ago, and bring the metrics up to date."""
        await self._measures.look(self._clock.now_ms())
        before = self._clock.now_ms() - keeping.KEPT_MS
        while ids := await self._with_contents(before):
            async with self._database.write() as db:
                await due.forget_contents(db, ids)
        # What was made before that is over, and was looked through: with the years it is much.
        self._forgotten_ms = before - keeping.OVER_BY_MS

    async def _with_contents(self, before_ms: int) -> list[str]:
        async with self._database.read() as db:
            return await due.with_contents(db, self._forgotten_ms, before_ms, keeping.AT_A_TIME)

    async def _listed(
        self, among: Sequence[ColumnElement[bool]], limit: int, after: Place | None, which: Which
    ) -> Page:
        if "\0" in f"{which.server}{which.person}{after.id if after else ''}":
            return Page([], None)  # nothing is called so, and PostgreSQL does not take it
        async with self._database.read() as db:
            return await listing.listed(db, among, which, min(limit, MOST_LISTED), after)

    def _keys_of(self, reader: Reader) -> list[str]:
        return keys_of(reader.sub, reader.groups, self._owned.by(reader.groups))

    def _moved(self, ids: Iterable[str]) -> None:
        self._waiting.wake(ids)
