"""The tables of approvals: finding requests, making them, and moving them on."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    func,
    insert,
    literal,
    or_,
    select,
    union,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import NEXT, OPEN, Preview, Requirement, State
from pegboard_hub.approvals.clock import SKEW_MS
from pegboard_hub.approvals.model import (
    Door,
    Event,
    Page,
    Place,
    Request,
    Which,
    approval_events,
    approval_requests,
)
from pegboard_hub.ledger.model import calls, outcomes
from pegboard_hub.registry.model import servers
from pegboard_hub.storage.database import batches

_t = approval_requests.c

MOST_PARTS = 40
"""Keys of somebody's requests that are looked for one by one; more than groups and servers that most people have."""

_ID = re.compile("[0-9a-f]{32}")
"""What an id looks like. Others come from addresses and may hold what a database does not take."""


class Step:
    """Who moves a request on, when, why and from which door; the same for all requests of one act."""

    def __init__(self, now_ms: int, door: Door, who: str = "", name: str = "", why: str = "") -> None:
        self.now_ms = now_ms
        self.door = door
        self.who = who
        self.name = name
        self.why = why


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


async def note_reminded(db: AsyncConnection, ids: Sequence[str], now_ms: int) -> None:
    """Remember that it was announced that these will expire."""
    await db.execute(update(approval_requests).where(_t.id.in_(ids)).values(reminded_at_ms=now_ms))


async def forget_contents(db: AsyncConnection, before_ms: int, limit: int) -> int:
    """Drop arguments and previews of requests that are over since before that time; gives of how many."""
    over = _t.state.not_in([*OPEN, State.CLAIMED])
    old = select(_t.id).where(_t.requested_at_ms < before_ms, over, _t.arguments != "").limit(limit)
    ids = list(await db.scalars(old))
    if ids:
        await db.execute(update(approval_requests).where(_t.id.in_(ids)).values(arguments="", preview=""))
    return len(ids)


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


async def count_by_state(db: AsyncConnection, states: Collection[State]) -> dict[State, int]:
    """How many requests are in each of these states."""
    query = select(_t.state, func.count()).where(_t.state.in_(states)).group_by(_t.state)
    return {State(row[0]): row[1] for row in await db.execute(query)}


async def oldest_waiting(db: AsyncConnection, now_ms: int) -> int | None:
    """Since when the one has waited that waits longest, in milliseconds since the epoch; None: nothing waits."""
    query = select(func.min(_t.requested_at_ms)).where(_t.state == State.REQUESTED, _t.expires_at_ms > now_ms)
    found = await db.scalar(query)
    return int(found) if found is not None else None


async def inbox(
    db: AsyncConnection, sub: str, keys: Sequence[str], now_ms: int, limit: int, after: Place | None
) -> Page:
    """What waits for somebody's yes, the first to expire first.

    Each key is looked for by itself, in the order of the index, so that neither an inbox of very many nor one of few
    among very many has all of them looked through. Of a team that owns hundreds of servers the rest is sorted.
    """
    parts = []
    for condition in (*(_t.approver == key for key in keys[:MOST_PARTS]), _among(keys[MOST_PARTS:])):
        if condition is None:
            continue
        part = select(_t.id, _t.expires_at_ms).where(_waits_for(sub, condition, now_ms))
        if after is not None:
            later = _t.expires_at_ms > after.at_ms
            part = part.where(or_(later, and_(_t.expires_at_ms == after.at_ms, _t.id > after.id)))
        parts.append(part.order_by(_t.expires_at_ms, _t.id).limit(limit + 1))
    every = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return await _page(db, select(every).order_by(every.c.expires_at_ms, every.c.id).limit(limit + 1), limit)


async def count_waiting(db: AsyncConnection, sub: str, keys: Sequence[str], now_ms: int, most: int) -> int:
    """How many wait for somebody's yes; it stops counting at `most`."""
    some = select(_t.id).where(_waits_for(sub, _t.approver.in_(keys), now_ms)).limit(most).subquery()
    return int(await db.scalar(select(func.count()).select_from(some)) or 0)


async def listed(
    db: AsyncConnection, among: Sequence[ColumnElement[bool]], which: Which, limit: int, after: Place | None
) -> Page:
    """Requests that any of `among` lets be seen and that fit, newest first.

    Each is looked for by itself, in the order of an index of its own, so that whoever may see few of very many does
    not have all of them looked through.
    """
    parts = [_newest_first(condition, which, limit, after) for condition in among]
    if len(parts) == 1:
        return await _page(db, parts[0], limit)
    both = union(*(select(part.subquery()) for part in parts)).subquery()
    first = select(both).order_by(both.c.requested_at_ms.desc(), both.c.id.desc()).limit(limit + 1)
    return await _page(db, first, limit)


def of_person(sub: str) -> ColumnElement[bool]:
    """What somebody asked for."""
    return _t.person == sub


def of_approvers(keys: Sequence[str]) -> list[ColumnElement[bool]]:
    """What is for somebody to decide, in parts that have an order in an index each."""
    rest = _among(keys[MOST_PARTS:])
    return [*(_t.approver == key for key in keys[:MOST_PARTS]), *([] if rest is None else [rest])]


def all_of_them() -> ColumnElement[bool]:
    """Every request."""
    return literal(value=True)


async def anything_due(db: AsyncConnection, now_ms: int, runs_for_ms: int) -> bool:
    """Whether time has done anything to any request that is to be written down."""
    questions = (
        and_(_t.state.in_(OPEN), _t.expires_at_ms <= now_ms),
        # Hardly any is, and all may be open: found by its time, and not by a state that an index has too.
        and_(_t.state.concat("").in_(OPEN), _t.requested_at_ms > now_ms + SKEW_MS),
        _expires_soon(now_ms),
        and_(_t.state == State.CLAIMED, _t.claimed_at_ms < now_ms - runs_for_ms),
        _claimed_in_the_future(now_ms),
    )
    return bool(await db.scalar(select(or_(*(select(_t.id).where(each).exists() for each in questions)))))


async def due(db: AsyncConnection, state: State, now_ms: int, limit: int) -> list[Request]:
    """Requests of a state whose time is over, or of which nobody can tell: they were made later than now."""
    found: dict[str, Request] = {}
    for over in (_t.expires_at_ms <= now_ms, _t.requested_at_ms > now_ms + SKEW_MS):
        query = select(approval_requests).where(_t.state == state, over).order_by(_t.expires_at_ms)
        found |= {request.id: request for request in await _some(db, query, limit)}
    return list(found.values())[:limit]


async def approved_by(db: AsyncConnection, people: Collection[str], limit: int) -> list[Request]:
    """Requests that one of these people approved and no call has claimed."""
    query = select(approval_requests).where(_t.state == State.APPROVED, _t.decided_by.in_(people))
    return await _some(db, query.order_by(_t.expires_at_ms), limit)


async def expiring(db: AsyncConnection, now_ms: int, limit: int) -> list[Request]:
    """Requests that wait, of whose time three quarters are gone, and that were not announced to expire."""
    query = select(approval_requests).where(_expires_soon(now_ms)).order_by(_t.remind_at_ms)
    return await _some(db, query, limit)


async def claimed_before(db: AsyncConnection, before_ms: int, limit: int) -> list[Request]:
    """What was claimed before that time and whose end nobody told."""
    query = select(approval_requests).where(_t.state == State.CLAIMED, _t.claimed_at_ms < before_ms)
    return await _some(db, query, limit)


async def date_claims_anew(db: AsyncConnection, now_ms: int) -> None:
    """Let what was claimed later than now have been claimed now: a clock was set back, and its time must end, too."""
    await db.execute(update(approval_requests).where(_claimed_in_the_future(now_ms)).values(claimed_at_ms=now_ms))


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


async def newest_event_at(db: AsyncConnection) -> int:
    """When the newest entry of the history was written, in milliseconds since the epoch; 0 while there is none."""
    newest_first = select(approval_events.c.at_ms).order_by(approval_events.c.seq.desc())
    return int(await db.scalar(newest_first.limit(1)) or 0)


async def count_moved(db: AsyncConnection, after: int, until: int) -> dict[State, int]:
    """How many requests came into each state with the entries after the one, up to the other."""
    event = approval_events.c
    counted = (event.seq > after, event.seq <= until, event.before != event.after)
    query = select(event.after, func.count()).where(*counted).group_by(event.after)
    return {State(row[0]): row[1] for row in await db.execute(query)}


async def count_unknown(db: AsyncConnection, since_ms: int) -> int:
    """How many requests have an unknown end that came since that time."""
    query = select(func.count()).where(_t.state == State.UNKNOWN, _t.ended_at_ms >= since_ms)
    return int(await db.scalar(query) or 0)


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


async def _some(db: AsyncConnection, query: Select[Any], limit: int) -> list[Request]:
    return [request_of(row) for row in (await db.execute(query.limit(limit))).mappings()]


async def _page(db: AsyncConnection, chosen: Select[Any], limit: int) -> Page:
    """The requests that were chosen, by id and time, one more than a page has. Rows are long: few are read."""
    places = [Place(row[1], row[0]) for row in await db.execute(chosen)]
    found = await by_ids(db, [place.id for place in places[:limit]])
    after = places[limit - 1] if len(places) > limit else None
    return Page([found[place.id] for place in places[:limit]], after)


def _newest_first(condition: ColumnElement[bool], which: Which, limit: int, after: Place | None) -> Select[Any]:
    query = select(_t.id, _t.requested_at_ms).where(condition)
    for column, value in ((_t.server, which.server), (_t.person, which.person), (_t.state, which.state)):
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        earlier = _t.requested_at_ms < after.at_ms
        query = query.where(or_(earlier, and_(_t.requested_at_ms == after.at_ms, _t.id < after.id)))
    return query.order_by(_t.requested_at_ms.desc(), _t.id.desc()).limit(limit + 1)


def _waits_for(sub: str, approver: ColumnElement[bool], now_ms: int) -> ColumnElement[bool]:
    theirs = or_(_t.own, _t.person != sub)
    return and_(_t.state == State.REQUESTED, approver, _t.expires_at_ms > now_ms, theirs)


def _claimed_in_the_future(now_ms: int) -> ColumnElement[bool]:
    return and_(_t.state == State.CLAIMED, _t.claimed_at_ms > now_ms + SKEW_MS)


def _among(keys: Sequence[str]) -> ColumnElement[bool] | None:
    return _t.approver.in_(keys) if keys else None


def _expires_soon(now_ms: int) -> ColumnElement[bool]:
    return and_(_t.state == State.REQUESTED, _t.remind_at_ms <= now_ms, _t.reminded_at_ms.is_(None))


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
