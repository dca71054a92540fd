"""The ledger: taking in records exactly once, and telling what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import String

from pegboard.core.names import ServerName
from pegboard.core.record import Denial, Intent, Outcome, Who
from pegboard_hub.ledger import store
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.ledger.errors import DeliveryMalformed
from pegboard_hub.ledger.model import CODE_LENGTH, ID_LENGTH, Call, Figures
from pegboard_hub.ledger.model import calls as calls_table
from pegboard_hub.storage.database import Database

RUNNING_FOR_MS = 10 * 60 * 1000
"""How long a call without an outcome may still be running; afterwards its outcome is unknown."""

COUNTED_FOR_MS = 24 * store.HOUR_MS
"""How long a counted refusal is remembered. Deliveries are repeated within seconds of the hub's return."""


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

    async def take_records(self, channel: Channel, records: Sequence[Intent | Outcome | Denial]) -> int:
        """Take one server's records in one transaction; those already here are left as they are.

        Returns:
            How many records of the delivery are now in the ledger: all of them.

        Raises:
            DeliveryMalformed: an id or code is too long, or a figure is not finite or is negative.
        """
        calls, outcomes, nameless = [], [], []
        for record in records:
            _check_lengths(record)
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
        return len(records)

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

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _check_lengths(record: Intent | Outcome | Denial) -> None:
    if not 0 < len(record.id) <= ID_LENGTH:
        raise DeliveryMalformed(f"a record's id must have 1 to {ID_LENGTH} characters")
    if isinstance(record, Denial) and len(record.code) > CODE_LENGTH:
        raise DeliveryMalformed(f"denial {record.id}: code may have {CODE_LENGTH} characters")


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
    figures = (record.minutes_saved, record.duration_ms, *record.steps_ms.values())
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
        # One NaN would turn every sum it is part of into NaN.
        raise DeliveryMalformed(f"outcome {record.id}: minutes and milliseconds must be finite and not negative")
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
