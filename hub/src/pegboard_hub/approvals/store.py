"""The tables of approvals: finding requests, making them, and moving them on.

Lists of them are in `listing`, what time does to them in `due`, and what is counted in `counting`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import NEXT, OPEN, Preview, Requirement, State
from pegboard_hub.approvals.model import Door, Event, Request, approval_events, approval_requests
from pegboard_hub.ledger.model import calls, outcomes
from pegboard_hub.registry.tables import servers
from pegboard_hub.storage.database import batches

_t = approval_requests.c

_ID = re.compile("[0-9a-f]{32}")
"""What an id looks like. Others come from addresses and may hold what a database does not take."""


@dataclass(frozen=True, slots=True)
class Step:
    """Who moves a request on, when, why and from which door; the same for all requests of one act."""

    now_ms: int
    door: Door
    who: str = ""
    name: str = ""
    why: str = ""


async def add(db: AsyncConnection, request: Request, request_id: str, step: Step) -> None:
    """Keep a new request, with the first entry of its history."""
    row = {
        "id": request.id,
        "batch": request.batch,
        "kind": request.kind,
        "state": request.state,
        "binding": request.binding,
        "held": request.binding,
        "person": request.person,
        "person_name": request.person_name,
        "server": request.server,
        "release": request.release,
        "tool": request.tool,
        "policy": request.policy,
        "policy_version": request.policy_version,
        "arguments": _json(request.arguments),
        "arguments_digest": request.arguments_digest,
        "preview": request.preview.model_dump_json() if request.preview else "",
        "requirement": request.requirement.model_dump_json(),
        "approver": request.approver,
        "own": request.own,
        "shown_digest": request.shown_digest,
        "shown_at_ms": step.now_ms,
        "surface": request.surface,
        "client": request.client,
        "act": request.act,
        "request_id": request_id,
        "requested_at_ms": request.requested_at_ms,
        "expires_at_ms": request.expires_at_ms,
        "remind_at_ms": request.expires_at_ms - (request.expires_at_ms - request.requested_at_ms) // 4,
        "decided_by": "",
        "decided_by_name": "",
        "why": "",
        "call_id": "",
        "process": "",
    }
    await db.execute(insert(approval_requests).values(row))
    await _note(db, [(request.id, request.shown_digest)], None, request.state, step)


async def move(
    db: AsyncConnection, requests: Sequence[Request], before: State, after: State, step: Step, **values: Any
) -> None:
    """Take requests from one state to another, with an entry of the history each.

    The rows are changed only where they are still as they were: of two that race, one finds nothing to change.

    Raises:
        RuntimeError: one is not in that state any more, which no caller lets happen; nothing was changed then.
    """
    if after not in NEXT[before]:
        raise RuntimeError(f"nothing goes from {before} to {after}")
    if not requests:
        return
    changed = 0
    for ids in batches([request.id for request in requests]):
        query = update(approval_requests).where(_t.id.in_(ids), _t.state == before).values(state=after, **values)
        changed += (await db.execute(query)).rowcount
    if changed != len(requests):
        raise RuntimeError(f"{len(requests) - changed} requests are not {before} any more")
    await _note(db, [(request.id, request.shown_digest) for request in requests], before, after, step)


async def show_anew(db: AsyncConnection, request: Request, preview: Preview | None, shown: str, step: Step) -> None:
    """Replace what an open request shows beside its arguments."""
    values = {
        "preview": preview.model_dump_json() if preview else "",
        "shown_digest": shown,
        "shown_at_ms": step.now_ms,
    }
    await db.execute(update(approval_requests).where(_t.id == request.id).values(values))
    await _note(db, [(request.id, shown)], request.state, request.state, step)


async def let_go(db: AsyncConnection, ids: Sequence[str]) -> None:
    """Let another request have the binding of these."""
    await db.execute(update(approval_requests).where(_t.id.in_(ids)).values(held=None))


async def held(db: AsyncConnection, bindings: Sequence[str]) -> dict[str, Request]:
    """The request that has each binding now."""
    return {
        row["held"]: request_of(row)
        for part in batches(bindings)
        for row in (await db.execute(select(approval_requests).where(_t.held.in_(part)))).mappings()
    }


async def newest(db: AsyncConnection, bindings: Sequence[str]) -> dict[str, Request]:
    """The newest request of each binding, however it stands."""
    query = select(approval_requests).where(_t.binding.in_(bindings)).order_by(_t.requested_at_ms, _t.id)
    return {row["binding"]: request_of(row) for row in (await db.execute(query)).mappings()}


async def newest_turned_down(db: AsyncConnection, bindings: Sequence[str]) -> dict[str, Request]:
    """The newest request of each binding that ended before any call claimed it."""
    turned_down = (_t.binding.in_(bindings), _t.state.in_((State.REJECTED, State.WITHDRAWN, State.EXPIRED)))
    query = select(approval_requests).where(*turned_down).order_by(_t.requested_at_ms, _t.id)
    return {row["binding"]: request_of(row) for row in (await db.execute(query)).mappings()}


async def of_call(db: AsyncConnection, server: str, call_id: str) -> dict[str, Request]:
    """What a call has claimed, by binding."""
    query = select(approval_requests).where(_t.server == server, _t.call_id == call_id)
    return {row["binding"]: request_of(row) for row in (await db.execute(query)).mappings()}


async def by_ids(db: AsyncConnection, ids: Sequence[str]) -> dict[str, Request]:
    """Requests by their id; one that is not there is left out."""
    return {
        row["id"]: request_of(row)
        for part in batches([id_ for id_ in ids if _ID.fullmatch(id_)])
        for row in (await db.execute(select(approval_requests).where(_t.id.in_(part)))).mappings()
    }


async def find(db: AsyncConnection, id_: str) -> Request | None:
    """A request with its history."""
    if not _ID.fullmatch(id_):
        return None
    row = (await db.execute(select(approval_requests).where(_t.id == id_))).mappings().one_or_none()
    if row is None:
        return None
    noted = select(approval_events).where(approval_events.c.request == id_).order_by(approval_events.c.seq)
    return request_of(row, tuple(_event(each) for each in (await db.execute(noted)).mappings()))


async def of_batch(db: AsyncConnection, batch: str, limit: int) -> list[Request]:
    """The requests of a batch, in the order in which they were asked for."""
    query = select(approval_requests).where(_t.batch == batch).order_by(_t.requested_at_ms, _t.id).limit(limit)
    return [request_of(row) for row in (await db.execute(query)).mappings()]


async def recent_batch(db: AsyncConnection, person: str, server: str, since_ms: int) -> str:
    """The batch of what somebody asked for last on a server, if it waits and was asked for since then; else empty."""
    query = (
        select(_t.batch)
        .where(_t.person == person, _t.server == server, _t.requested_at_ms >= since_ms, _t.state == State.REQUESTED)
        .order_by(_t.requested_at_ms.desc())
        .limit(1)
    )
    return str(await db.scalar(query) or "")


async def count_open(db: AsyncConnection, person: str) -> dict[str, int]:
    """How many open requests somebody has, by server."""
    query = select(_t.server, func.count()).where(_t.person == person, _t.state.in_(OPEN)).group_by(_t.server)
    return {row[0]: row[1] for row in await db.execute(query)}


async def count_since(db: AsyncConnection, person: str, since_ms: int) -> dict[str, int]:
    """How many requests somebody has made since then, by server."""
    query = select(_t.server, func.count()).where(_t.person == person, _t.requested_at_ms >= since_ms)
    return {row[0]: row[1] for row in await db.execute(query.group_by(_t.server))}


async def claimed_by(db: AsyncConnection, server: str, processes: Sequence[str]) -> list[Request]:
    """What processes of a server have claimed and whose end nobody told."""
    query = select(approval_requests).where(_t.state == State.CLAIMED, _t.server == server, _t.process.in_(processes))
    return [request_of(row) for row in (await db.execute(query)).mappings()]


async def running(db: AsyncConnection, server: str, call_ids: Sequence[str]) -> list[Request]:
    """What these calls of a server have claimed and whose end is not known."""
    states = (State.CLAIMED, State.UNKNOWN)
    return [
        request_of(row)
        for part in batches(call_ids)
        for row in (
            await db.execute(
                select(approval_requests).where(
                    _t.server == server, _t.call_id.in_(part), _t.state.in_(states), _t.call_id != ""
                )
            )
        ).mappings()
    ]


async def is_told_of(db: AsyncConnection, server: str, call_id: str) -> bool:
    """Whether a server has already told how a call ended, or that it was refused."""
    refused = select(calls.c.id).where(calls.c.server == server, calls.c.kind == "denial", calls.c.id == call_id)
    ended = select(outcomes.c.id).where(outcomes.c.server == server, outcomes.c.id == call_id)
    return bool(await db.scalar(select(or_(refused.exists(), ended.exists()))))


async def owner_of(db: AsyncConnection, names: Collection[str]) -> dict[str, str]:
    """The team that owns each server, as the registry says in this very transaction."""
    query = select(servers.c.name, servers.c.owner).where(servers.c.name.in_(names))
    return {row[0]: row[1] for row in await db.execute(query)}


async def newest_event(db: AsyncConnection) -> int:
    """The number of the newest entry of the history; 0 while there is none."""
    return int(await db.scalar(select(func.max(approval_events.c.seq))) or 0)


async def moved_since(db: AsyncConnection, seq: int, limit: int) -> tuple[int, set[str]]:
    """The requests of which something was noted after that entry, and the newest entry looked at."""
    query = select(approval_events.c.seq, approval_events.c.request).where(approval_events.c.seq > seq)
    rows = (await db.execute(query.order_by(approval_events.c.seq).limit(limit))).all()
    return (rows[-1][0] if rows else seq), {row[1] for row in rows}


async def _note(
    db: AsyncConnection, requests: Iterable[tuple[str, str]], before: State | None, after: State, step: Step
) -> None:
    rows = [
        {
            "request": id_,
            "at_ms": step.now_ms,
            "before": before or "",
            "after": after,
            "who": step.who,
            "who_name": step.name,
            "why": step.why,
            "door": step.door,
            "shown": shown,
        }
        for id_, shown in requests
    ]
    await db.execute(insert(approval_events), rows)


def request_of(row: RowMapping, events: tuple[Event, ...] = ()) -> Request:
    """A request, of its row."""
    return Request(
        id=row["id"],
        batch=row["batch"],
        kind=row["kind"],
        state=State(row["state"]),
        binding=row["binding"],
        person=row["person"],
        person_name=row["person_name"],
        server=row["server"],
        release=row["release"],
        tool=row["tool"],
        policy=row["policy"],
        policy_version=row["policy_version"],
        arguments=json.loads(row["arguments"]) if row["arguments"] else None,
        arguments_digest=row["arguments_digest"],
        preview=Preview.model_validate_json(row["preview"]) if row["preview"] else None,
        requirement=Requirement.model_validate_json(row["requirement"]),
        surface=row["surface"],
        client=row["client"],
        act=row["act"],
        requested_at_ms=row["requested_at_ms"],
        expires_at_ms=row["expires_at_ms"],
        shown_digest=row["shown_digest"],
        shown_at_ms=row["shown_at_ms"],
        decided_at_ms=row["decided_at_ms"],
        decided_by=row["decided_by"],
        decided_by_name=row["decided_by_name"],
        why=row["why"],
        claimed_at_ms=row["claimed_at_ms"],
        call_id=row["call_id"],
        ended_at_ms=row["ended_at_ms"],
        reminded_at_ms=row["reminded_at_ms"],
        events=events,
    )


def _event(row: RowMapping) -> Event:
    before = State(row["before"]) if row["before"] else None
    told = (row["who"], row["who_name"], row["why"], row["door"], row["shown"])
    return Event(row["seq"], row["at_ms"], before, State(row["after"]), *told)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
