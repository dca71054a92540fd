"""The ledger: taking in records exactly once, and telling what was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.names import ServerName
from pegboard.core.record import CODE_LENGTH, ID_LENGTH, Denial, Intent, Outcome, Receipt, Who
from pegboard.core.trace import trace_id
from pegboard_hub.ledger import search as searching
from pegboard_hub.ledger import store, usage
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.ledger.model import ALL, Call, Figures, Kind, Life
from pegboard_hub.ledger.model import calls as calls_table
from pegboard_hub.ledger.model import outcomes as outcomes_table
from pegboard_hub.ledger.questions import Found, Place, Reader, Search, Unfinished
from pegboard_hub.ledger.reading import Unreadable, read_records
from pegboard_hub.ledger.store import row_key
from pegboard_hub.ledger.telling import call_of, life_of
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import INTAKE_LAG, RECORDS, UNKNOWN_CALLS

log = logging.getLogger(__name__)

RUNNING_FOR_MS = 10 * 60 * 1000
"""How long a call without an outcome may still be running; afterwards its outcome is unknown."""

COUNTED_FOR_MS = 24 * store.HOUR_MS
"""How long a counted refusal is remembered. Deliveries are repeated within seconds of the hub's return."""

MOST_TOLD = 20
"""How many unreadable records of one delivery are named, in the answer and in the log; the others are a number."""

PROBLEM_FOR_MS = 7 * 24 * store.HOUR_MS
"""How long an unreadable record stays among the problems; the record itself is kept."""

_TEXTS = [column.name for column in calls_table.columns if isinstance(column.type, String) and not column.nullable]
"""Columns that are empty where a kind of row has nothing to say."""


MOST_INDEXED = 512
"""Characters that are kept of a text which calls are searched by: an index of PostgreSQL takes 2,704 bytes, and one
long name must not hold up a delivery. Real names are far shorter."""

_INDEXED = ("sub", "tool", "request_id", "trace_id")

SAME_ID = 20
"""How many calls with one id are told of; only a server that breaks the rules writes a second."""

NOTHING = store.Beside()

Row = dict[str, Any]

Settle = Callable[[AsyncConnection, Iterable[Row], Iterable[Row]], Awaitable[None]]


class EdgeRefusal(BaseModel):
    """A request the edge refused, from its access log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str = Field(min_length=1, max_length=ID_LENGTH)
    at_ms: int
    server: str = Field(default="", description="as the path named it; may be anything")
    status: int
    code: str = Field(max_length=CODE_LENGTH)
    reason: str = ""
    who: Who | None = None
    tool: str | None = None
    method: str | None = None
    traceparent: str = Field(default="", description="as the caller sent it; may be anything")


@dataclass(frozen=True, slots=True)
class CallPage:
    """Calls, newest first, and where the next page begins; None when nothing is further back."""

    calls: list[Call]
    after: Place | None


class Ledger:
    """Intake and questions.

    Args:
        database: the hub's.
        is_registered: whether a name is a server of the registry.
        clock: seconds since the epoch.
        meter: counts what is taken in.
        settle: is told of the outcomes and denials of each delivery, in its transaction.
    """

    def __init__(
        self,
        database: Database,
        is_registered: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
        meter: HubMeter | None = None,
        settle: Settle | None = None,
    ) -> None:
        self._database = database
        self._settle = settle
        self._is_registered = is_registered
        self._clock = clock
        self._prices = usage.Prices()
        self._meter = meter or HubMeter()

    async def take_records(self, channel: Channel, delivered: Sequence[Any]) -> Receipt:
        """Take one server's records in one transaction; those already here are left as they are.

        Records that cannot be read are kept apart. They hold up no other, and the server need not send them again.
        """
        records, unreadable = read_records(delivered)
        now_ms = self._now_ms()
        rows = _Rows(channel, (_no_later(record, now_ms) for record in records), now_ms)
        async with self._database.write() as connection:
            intents = await store.add_new(connection, calls_table, rows.intents)
            denials = await store.add_new(connection, calls_table, rows.denials)
            ended = await store.add_new(connection, outcomes_table, rows.outcomes)
            await usage.count_records(connection, self._prices, channel.server, intents, ended, denials)
            await store.count_refusals(connection, "server", channel.server, rows.nameless, now_ms)
            new = await store.keep_rejected(connection, channel.server, unreadable, now_ms)
            if self._settle is not None:
                # Also of records that were here before: it changes nothing twice.
                await self._settle(connection, rows.outcomes, rows.denials)
        _log_unreadable(channel.server, new)
        self._meter_intake("servers", [(record.kind, record.at_ms) for record in records])
        if unreadable:
            self._meter.count(RECORDS, "unreadable", by=len(unreadable))
        return Receipt(accepted=len(records), rejected=tuple(record.rejection for record in unreadable[:MOST_TOLD]))

    async def take_edge_refusals(self, refusals: Sequence[EdgeRefusal], edge: str = "") -> int:
        """Take refusals of an edge in one transaction, each once by its request id.

        Args:
            refusals: what it tells.
            edge: which of the joined edges tells it; empty for the instance's own.
        """
        now_ms = self._now_ms()
        rows = [_edge_row(refusal, refusal.who, now_ms, edge) for refusal in refusals if refusal.who is not None]
        nameless = [
            # A path may name anything: only registered names may make rows of their own.
            (r.request_id, r.code, r.at_ms, r.server if self._is_registered(r.server) else "")
            for r in refusals
            if r.who is None
        ]
        registered = {row["server"] for row in rows if self._is_registered(row["server"])}
        async with self._database.write() as connection:
            new = await store.add_new(connection, calls_table, rows)
            await usage.count_edge_refusals(connection, new.values(), registered)
            await store.count_refusals(connection, "edge", "", nameless, now_ms)
        self._meter_intake("edge", [("edge", refusal.at_ms) for refusal in refusals])
        return len(refusals)

    def _meter_intake(self, source: str, taken: Iterable[tuple[str, int]]) -> None:
        """Count what is in the ledger now, and how long after it happened."""
        now_ms = self._now_ms()
        for kind, at_ms in taken:
            self._meter.count(RECORDS, kind)
            self._meter.observe(INTAKE_LAG, (now_ms - at_ms) / 1000, source)

    async def tidy(self) -> None:
        """Drop what exactly-once counting no longer needs, and price what came before its release was known."""
        async with self._database.write() as connection:
            await store.forget_counted(connection, self._now_ms() - COUNTED_FOR_MS)
        await self.count_unpriced()
        async with self._database.read() as connection:
            unknown = await store.count_without_outcome(connection, self._now_ms() - RUNNING_FOR_MS)
        self._meter.set(UNKNOWN_CALLS, unknown)

    async def count_unpriced(self) -> None:
        """Count those servers again that delivered before the registry knew their release, where it does now."""
        async with self._database.read() as connection:
            if not await usage.any_unpriced(connection):
                return
        async with self._database.write() as connection:
            servers = await usage.count_again_what_was_unpriced(connection, self._prices)
        if servers:
            log.info("calls that came before their release was known are counted again", extra={"servers": servers})

    async def find(
        self, reader: Reader, search: Search, live_since_ms: Mapping[str, int], limit: int, after: Place | None = None
    ) -> CallPage:
        """Calls that a reader may see and that fit, newest first.

        Args:
            reader: who asks.
            search: what for.
            live_since_ms: when each live server's process came up, so that a call of it may be running.
            limit: at most so many.
            after: where the page before ended.
        """
        unfinished = self._unfinished(live_since_ms)
        async with self._database.read() as connection:
            page = await searching.find(connection, reader, search, unfinished, after, limit)
            beside = await store.beside(connection, page.rows)
        found = [call_of(row, *beside.get(row_key(row), NOTHING), reader, unfinished) for row in page.rows]
        return CallPage(found, page.after)

    async def count(self, reader: Reader, search: Search, live_since_ms: Mapping[str, int]) -> Found:
        """How much a search finds."""
        async with self._database.read() as connection:
            return await searching.count(connection, reader, search, self._unfinished(live_since_ms))

    async def lives(
        self, reader: Reader, id_: str, server: str | None, live_since_ms: Mapping[str, int]
    ) -> list[Life]:
        """The calls of that id that a reader may see. Ids are unique to a server, so mostly there is one at most."""
        unfinished = self._unfinished(live_since_ms)
        async with self._database.read() as connection:
            page = await searching.find(connection, reader, Search(id=id_, server=server), unfinished, None, SAME_ID)
            beside = await store.beside(connection, page.rows)
        return [life_of(row, *beside.get(row_key(row), NOTHING), reader, unfinished) for row in page.rows]

    async def figures(self) -> tuple[Figures, dict[str, Figures]]:
        """What was done in all, and with each server."""
        async with self._database.read() as connection:
            return await usage.figures(connection)

    async def total(self) -> Figures:
        """What was done in all."""
        async with self._database.read() as connection:
            return (await usage.figures_of(connection, [ALL])).get(ALL, Figures())

    async def figures_of(self, servers: Collection[str]) -> dict[str, Figures]:
        """What was done with some servers, as many as a page shows."""
        async with self._database.read() as connection:
            return await usage.figures_of(connection, servers)

    async def usage_of(self, server: str, since_ms: int) -> tuple[dict[int, int], dict[str, Figures]]:
        """Calls of a server by day, and what was done with its tools, since a day in milliseconds since the epoch."""
        async with self._database.read() as connection:
            days = await usage.calls_by_day(connection, server, since_ms)
            return days, await usage.tool_figures(connection, server, since_ms)

    async def totals(self) -> list[tuple[str, str, int]]:
        """Server, status and count of all calls."""
        async with self._database.read() as connection:
            return await usage.totals(connection)

    async def problems(self) -> tuple[str, ...]:
        """What could not be taken in lately, a line for each server, for the operator."""
        async with self._database.read() as connection:
            counts = await store.count_rejected(connection, self._now_ms() - PROBLEM_FOR_MS)
        return tuple(
            f"{server}: {_unread(count)} could not be read; see the hub's log." for server, count in counts.items()
        )

    def _unfinished(self, live_since_ms: Mapping[str, int]) -> Unfinished:
        return Unfinished(self._now_ms() - RUNNING_FOR_MS, live_since_ms)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _log_unreadable(server: str, unreadable: Sequence[Unreadable]) -> None:
    for record in unreadable[:MOST_TOLD]:
        log.error("a record cannot be read", extra={"server": server, **record.rejection.model_dump()})
    if (more := len(unreadable) - MOST_TOLD) > 0:
        log.error("more records of the same delivery cannot be read", extra={"server": server, "count": more})


def _unread(count: int) -> str:
    if count >= store.REJECTED_KEPT:
        return f"{count:,} records or more"
    return f"{count} records" if count > 1 else "1 record"


class _Rows:
    """A delivery as rows of the ledger's tables, by what each tells of."""

    def __init__(self, channel: Channel, records: Iterable[Intent | Outcome | Denial], now_ms: int) -> None:
        self.intents: list[Row] = []
        self.denials: list[Row] = []
        self.outcomes: list[Row] = []
        self.nameless: list[store.Refused] = []
        for record in records:
            match record:
                case Intent():
                    self.intents.append(_intent_row(channel, record, now_ms))
                case Outcome():
                    self.outcomes.append(_outcome_row(channel, record, now_ms))
                case Denial(who=None):
                    self.nameless.append((record.id, record.code, record.at_ms, channel.server))
                case Denial(who=Who() as who):
                    self.denials.append(_denial_row(channel, record, who, now_ms))
        self._note_statuses()

    def _note_statuses(self) -> None:
        """Most calls come with their outcome: those need no second writing."""
        ended: dict[str, str] = {}
        for outcome in self.outcomes:
            ended.setdefault(outcome["id"], outcome["status"])
        for intent in self.intents:
            intent["status"] = ended.get(intent["id"], "")


def _no_later(record: Intent | Outcome | Denial, now_ms: int) -> Intent | Outcome | Denial:
    """The record, written now at the latest: one of a year to come would stand above all others until then."""
    return record if record.at_ms <= now_ms else record.model_copy(update={"at_ms": now_ms})


def _row(server: str, kind: Kind, who: Who, now_ms: int, **values: Any) -> Row:
    """A row of `calls`; every column has a value, so that rows of all kinds go into one statement."""
    blank = dict.fromkeys(_TEXTS, "")
    fixed = {"server": server, "kind": kind, "arguments_bytes": 0, "steps_ms": None, "received_at_ms": now_ms}
    approval = list(values.pop("approval", ())) or None
    row = {**blank, **fixed, **who.model_dump(), **values, "approval": approval}
    return row | {name: row[name][:MOST_INDEXED] for name in _INDEXED}


def _intent_row(channel: Channel, record: Intent, now_ms: int) -> Row:
    values = record.model_dump(exclude={"kind", "who", "release"})
    return _row(channel.server, "intent", record.who, now_ms, release=channel.release, **values)


def _denial_row(channel: Channel, record: Denial, who: Who, now_ms: int) -> Row:
    values = record.model_dump(exclude={"kind", "who", "release"})
    return _row(channel.server, "denial", who, now_ms, release=channel.release, **values)


def _edge_row(refusal: EdgeRefusal, who: Who, now_ms: int, edge: str) -> Row:
    try:
        server = str(ServerName.parse(refusal.server))
    except ValueError:
        server = ""
    return _row(
        server,
        "edge",
        who,
        now_ms,
        id=refusal.request_id,
        at_ms=refusal.at_ms,
        tool=refusal.tool or "",
        method=refusal.method or "",
        code=refusal.code,
        reason=refusal.reason,
        detail=f"HTTP {refusal.status}" + (f", told by the edge {edge}" if edge else ""),
        request_id=refusal.request_id,
        trace_id=trace_id(refusal.traceparent, refusal.request_id),
    )


def _outcome_row(channel: Channel, record: Outcome, now_ms: int) -> Row:
    return {"server": channel.server, "received_at_ms": now_ms, **record.model_dump(exclude={"kind"})}
