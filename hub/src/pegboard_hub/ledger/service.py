"""The ledger: taking in records exactly once, and telling what was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import String

from pegboard.core.names import ServerName
from pegboard.core.record import CODE_LENGTH, ID_LENGTH, Denial, Intent, Outcome, Receipt, Who
from pegboard_hub.ledger import store
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.ledger.model import Call, Figures
from pegboard_hub.ledger.model import calls as calls_table
from pegboard_hub.ledger.reading import Unreadable, read_records
from pegboard_hub.storage.database import Database

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


class Ledger:
    """Intake and questions.

    Args:
        database: the hub's.
        is_registered: whether a name is a server of the registry.
        clock: seconds since the epoch.
    """

    def __init__(
        self, database: Database, is_registered: Callable[[str], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._is_registered = is_registered
        self._clock = clock

    async def take_records(self, channel: Channel, delivered: Sequence[Any]) -> Receipt:
        """Take one server's records in one transaction; those already here are left as they are.

        Records that cannot be read are kept apart. They hold up no other, and the server need not send them again.
        """
        records, unreadable = read_records(delivered)
        calls, outcomes, nameless = [], [], []
        for record in records:
            match record:
                case Intent():
                    calls.append(_intent_row(channel, record))
                case Outcome():
                    outcomes.append(_outcome_row(channel, record))
                case Denial(who=None):
                    nameless.append((record.id, record.code, record.at_ms, channel.server))
                case Denial(who=Who() as who):
                    calls.append(_denial_row(channel, record, who))
        async with self._database.write() as connection:
            await store.add_calls(connection, calls)
            await store.add_outcomes(connection, outcomes)
            await store.count_refusals(connection, "server", channel.server, nameless, self._now_ms())
            new = await store.keep_rejected(connection, channel.server, unreadable, self._now_ms())
        _log_unreadable(channel.server, new)
        return Receipt(accepted=len(records), rejected=tuple(record.rejection for record in unreadable[:MOST_TOLD]))

    async def take_edge_refusals(self, refusals: Sequence[EdgeRefusal]) -> int:
        """Take refusals of the edge in one transaction, each once by its request id."""
        rows = [_edge_row(refusal, refusal.who) for refusal in refusals if refusal.who is not None]
        nameless = [
            # A path may name anything: only registered names may make rows of their own.
            (r.request_id, r.code, r.at_ms, r.server if self._is_registered(r.server) else "")
            for r in refusals
            if r.who is None
        ]
        async with self._database.write() as connection:
            await store.add_calls(connection, rows)
            await store.count_refusals(connection, "edge", "", nameless, self._now_ms())
        return len(refusals)

    async def forget_counted(self) -> None:
        """Drop what exactly-once counting no longer needs."""
        async with self._database.write() as connection:
            await store.forget_counted(connection, self._now_ms() - COUNTED_FOR_MS)

    async def calls(
        self,
        *,
        sub: str,
        owned: Collection[str] = (),
        server: str | None = None,
        limit: int,
        is_live: Callable[[str], bool],
    ) -> list[Call]:
        """The newest calls of one person or service, and all on the servers that this reader owns.

        Args:
            sub: whose calls.
            owned: servers whose every call may be read, with the reasons of refusals.
            server: only calls on this one.
            limit: at most so many.
            is_live: whether a server's process is running, so that a call of it may be.
        """
        async with self._database.read() as connection:
            rows = await store.calls_of(connection, sub=sub, owned=owned, server=server, limit=limit)
        now_ms = self._now_ms()
        return [_call(row, row["server"] in owned, now_ms, is_live) for row in rows]

    async def figures(self) -> tuple[Figures, dict[str, Figures]]:
        """What was done in all, and with each server."""
        async with self._database.read() as connection:
            return await store.figures(connection)

    async def problems(self) -> tuple[str, ...]:
        """What could not be taken in lately, a line for each server, for the operator."""
        async with self._database.read() as connection:
            counts = await store.count_rejected(connection, self._now_ms() - PROBLEM_FOR_MS)
        return tuple(
            f"{server}: {_unread(count)} could not be read; see the hub's log." for server, count in counts.items()
        )

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


def _row(server: str, kind: str, who: Who, **values: Any) -> dict[str, Any]:
    """A row of `calls`; every column has a value, so that rows of all kinds go into one statement."""
    blank = dict.fromkeys(_TEXTS, "")
    return {**blank, "server": server, "kind": kind, "arguments_bytes": 0, **who.model_dump(), **values}


def _intent_row(channel: Channel, record: Intent) -> dict[str, Any]:
    values = record.model_dump(exclude={"kind", "who", "release"})
    return _row(channel.server, "intent", record.who, release=channel.release, **values)


def _denial_row(channel: Channel, record: Denial, who: Who) -> dict[str, Any]:
    values = record.model_dump(exclude={"kind", "who", "release"})
    return _row(channel.server, "denial", who, release=channel.release, **values)


def _edge_row(refusal: EdgeRefusal, who: Who) -> dict[str, Any]:
    try:
        server = str(ServerName.parse(refusal.server))
    except ValueError:
        server = ""
    return _row(
        server,
        "edge",
        who,
        id=refusal.request_id,
        at_ms=refusal.at_ms,
        tool=refusal.tool or "",
        method=refusal.method or "",
        code=refusal.code,
        reason=refusal.reason,
        detail=f"HTTP {refusal.status}",
        request_id=refusal.request_id,
    )


def _outcome_row(channel: Channel, record: Outcome) -> dict[str, Any]:
    return {"server": channel.server, **record.model_dump(exclude={"kind"})}


def _call(row: dict[str, Any], owner: bool, now_ms: int, is_live: Callable[[str], bool]) -> Call:
    denied = row["kind"] != "intent"
    # Why a tool is unavailable, hidden or absent, is the owner's to know: the caller reads here what the answer said.
    veiled = not owner and row["code"] == "tool_unavailable"
    return Call(
        **{name: row[name] for name in ("id", "at_ms", "server", "release", "tool", "sub", "surface", "channel")},
        **{name: row[name] for name in ("client_id", "code", "request_id", "trace_id")},
        decision="denied" if denied else "allowed",
        layer="edge" if row["kind"] == "edge" else "server",
        reason=row["code"] if veiled else row["reason"],
        detail=row["detail"] if owner else "",
        policy="" if veiled else row["policy"],
        policy_version="" if veiled else row["policy_version"],
        status="denied" if denied else row["status"] or _unfinished(row, now_ms, is_live),
        duration_ms=row["duration_ms"],
        minutes_saved=row["minutes_saved"] or 0,
    )


def _unfinished(row: dict[str, Any], now_ms: int, is_live: Callable[[str], bool]) -> str:
    young = now_ms - row["at_ms"] < RUNNING_FOR_MS
    return "running" if young and is_live(row["server"]) else "unknown"
