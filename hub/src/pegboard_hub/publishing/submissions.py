"""Submissions as the tables have them: reading them, and the one row that begins one."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import and_, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import (
    UNDER_WAY,
    Artifact,
    Event,
    Finding,
    Provenance,
    State,
    Trouble,
)
from pegboard.core.release import Declaration
from pegboard_hub.publishing.model import submission_events, submissions
from pegboard_hub.publishing.orders import CLAIM_S
from pegboard_hub.registry.model import Access
from pegboard_hub.storage.database import batches

ActorKind = Literal["person", "service", "operator"]

MOST_LISTED: Final = 100
"""Submissions that are listed at once."""

MOST_EVENTS: Final = 500
"""Events that are read at once."""

LONG: Final = ("artifact", "declaration", "packages", "findings")
"""Columns that may be megabytes each, and are nothing to who lists submissions."""

STANDING: Final = (*sorted(UNDER_WAY), State.IN_REVIEW, State.LIVE)
"""States in which submitting the same again answers with what is there."""


class Approval(NamedTuple):
    """The access that a release was approved for.

    Attributes:
        adds: what was not granted then, and is from its switch on.
        covers: all of it. Whoever else got in since comes to a release that nobody looked at for them.
    """

    adds: Access
    covers: Access


@dataclass(frozen=True, slots=True)
class Submission:
    """One submission. Times are milliseconds since the epoch.

    Attributes:
        source: digest of what was submitted.
        step: what it is at, or waits for.
        release: digest of the release; None before it is built.
        sbom: digest of the CycloneDX document.
        signature: of `SignedRelease`.
        sandboxed: whether its tools were read in a sandbox; None before.
        findings: of the hub's own check.
        access: what it was approved for; None: nobody said.
        attempt: how often it was given to a builder.
        packages: `packages` and `advisories`, as its builder told.
    """

    id: str
    server: str
    source: str
    state: State
    step: str
    release: str | None
    artifact: Artifact | None
    declaration: Declaration | None
    sbom: str | None
    signature: str | None
    sandboxed: bool | None
    findings: tuple[Finding, ...]
    trouble: Trouble | None
    provenance: Provenance
    actor: str
    actor_kind: ActorKind
    attempt: int
    builder: str | None
    heard_at_ms: int | None
    retry_at_ms: int | None
    packages: Mapping[str, Any] | None
    access: Approval | None
    created_at_ms: int
    updated_at_ms: int


async def begin(
    connection: AsyncConnection,
    server: str,
    source: str,
    provenance: Provenance,
    actor: str,
    actor_kind: ActorKind,
    now_ms: int,
) -> str:
    """Begin a submission, with its first event; gives its id."""
    id_ = secrets.token_hex(8)
    step = "waiting for a builder"
    newest = await connection.scalar(
        select(func.max(submissions.c.created_at_ms)).where(submissions.c.server == server)
    )
    # Of two of one server it is always known which came later, whatever the clock does.
    at_ms = max(now_ms, (newest or 0) + 1)
    await connection.execute(
        insert(submissions).values(
            id=id_,
            server=server,
            source=source,
            state=State.SUBMITTED,
            step=step,
            findings=[],
            provenance=provenance.model_dump(mode="json"),
            actor=actor,
            actor_kind=actor_kind,
            attempt=0,
            created_at_ms=at_ms,
            updated_at_ms=at_ms,
        )
    )
    await connection.execute(
        insert(submission_events).values(
            submission=id_,
            at_ms=now_ms,
            state=State.SUBMITTED,
            step=step,
            what=provenance.message,
            who=actor,
        )
    )
    return id_


async def find(connection: AsyncConnection, submission: str) -> Submission | None:
    """The submission of an id."""
    row = (await connection.execute(select(submissions).where(submissions.c.id == submission))).first()
    return _submission(row) if row else None


async def standing(connection: AsyncConnection, server: str, source: str) -> Submission | None:
    """The newest submission of the same source that is on its way, waits for people, or is live."""
    query = (
        select(submissions)
        .where(submissions.c.server == server, submissions.c.source == source, submissions.c.state.in_([*STANDING]))
        .order_by(submissions.c.created_at_ms.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return _submission(row) if row else None


async def listed(
    connection: AsyncConnection,
    server: str | None = None,
    states: Collection[State] = (),
    *,
    release: str | None = None,
    before: tuple[int, str] | None = None,
    oldest_first: bool = False,
    limit: int = MOST_LISTED,
    whole: bool = True,
) -> list[Submission]:
    """Submissions, newest first.

    Args:
        connection: inside a transaction.
        server: only of this one.
        states: only in one of these; none: in any.
        release: only of this release.
        before: only after this place in the order, as `created_at_ms` and `id`.
        oldest_first: in the other order; `before` does not go with it.
        limit: most of them.
        whole: with what is long of each (`LONG`); else without.
    """
    created = submissions.c.created_at_ms
    order = (created, submissions.c.id) if oldest_first else (created.desc(), submissions.c.id.desc())
    columns = [each for each in submissions.c if whole or each.name not in LONG]
    query = select(*columns).order_by(*order).limit(limit)
    if server is not None:
        query = query.where(submissions.c.server == server)
    if states:
        query = query.where(submissions.c.state.in_([*states]))
    if release is not None:
        query = query.where(submissions.c.release == release)
    if before is not None:
        at_ms, id_ = before
        query = query.where(or_(created < at_ms, and_(created == at_ms, submissions.c.id < id_)))
    return [_submission(row) for row in await connection.execute(query)]


async def any_to_build(connection: AsyncConnection) -> bool:
    """Whether any is to be built, or is being built."""
    return bool(await connection.scalar(select(exists().where(submissions.c.state == State.SUBMITTED))))


async def newer(connection: AsyncConnection, than: Submission, states: Collection[State]) -> str | None:
    """A submission of the same server that came later, and is in one of these states."""
    query = (
        select(submissions.c.id)
        .where(
            submissions.c.server == than.server,
            submissions.c.created_at_ms > than.created_at_ms,
            submissions.c.state.in_([*states]),
        )
        .limit(1)
    )
    found = await connection.scalar(query)
    return str(found) if found is not None else None


async def events(
    connection: AsyncConnection, submission: str, after: int = 0, limit: int = MOST_EVENTS
) -> list[Event]:
    """What happened to a submission after the event of that number, oldest first."""
    query = (
        select(submission_events)
        .where(submission_events.c.submission == submission, submission_events.c.seq > after)
        .order_by(submission_events.c.seq)
        .limit(limit)
    )
    return [
        Event(seq=row.seq, at_ms=row.at_ms, state=State(row.state), step=row.step, what=row.what, who=row.who)
        for row in await connection.execute(query)
    ]


async def found(connection: AsyncConnection, ids: Collection[str]) -> list[Submission]:
    """The submissions of some ids, as far as there are any."""
    return [
        _submission(row)
        for batch in batches(sorted(ids))
        for row in await connection.execute(select(submissions).where(submissions.c.id.in_(batch)))
    ]


async def signatures(connection: AsyncConnection, after: str, limit: int = 200) -> list[tuple[str, str]]:
    """Ids of those that are signed, each with its signature, in order of id, after one of them."""
    columns = submissions.c
    signed = select(columns.id, columns.signature).where(columns.signature.is_not(None), columns.id > after)
    return [(id_, text) for id_, text in await connection.execute(signed.order_by(columns.id).limit(limit))]


async def sign(connection: AsyncConnection, submission: str, before: str, signature: str) -> None:
    """Put another signature in the place of one, which tells the same."""
    same = and_(submissions.c.id == submission, submissions.c.signature == before)
    await connection.execute(update(submissions).where(same).values(signature=signature))


class Queue(NamedTuple):
    """What waits for a builder. `since_ms`: the oldest that was given to none; None: there is none."""

    waiting: int
    building: int
    since_ms: int | None


async def queue(connection: AsyncConnection, now_ms: int) -> Queue:
    """How many submissions wait for a builder, and how many one works on."""
    is_free = or_(submissions.c.builder.is_(None), submissions.c.heard_at_ms < now_ms - int(CLAIM_S * 1000))
    due = or_(submissions.c.retry_at_ms.is_(None), submissions.c.retry_at_ms <= now_ms)
    submitted = submissions.c.state == State.SUBMITTED
    free = select(func.count(), func.min(submissions.c.updated_at_ms)).where(submitted, is_free, due)
    waiting, since_ms = (await connection.execute(free)).one()
    every = await connection.scalar(select(func.count()).select_from(submissions).where(submitted))
    return Queue(int(waiting), int(every or 0) - int(waiting), since_ms)


def told(approval: Approval | None) -> dict[str, dict[str, list[str]]] | None:
    """What a release was approved for, as the table has it."""
    if approval is None:
        return None
    return {
        part: {name: list(values) for name, values in access._asdict().items()}
        for part, access in approval._asdict().items()
    }


def _approval(told: Mapping[str, Mapping[str, Any]]) -> Approval:
    return Approval(
        *(Access(*(tuple(told[part].get(name, ())) for name in Access._fields)) for part in Approval._fields)
    )


def _submission(row: Any) -> Submission:
    said: Mapping[str, Any] = {**dict.fromkeys(LONG), **row._mapping}
    return Submission(
        **{
            **said,
            "state": State(said["state"]),
            "artifact": Artifact.model_validate(said["artifact"]) if said["artifact"] else None,
            "declaration": Declaration.model_validate(said["declaration"]) if said["declaration"] else None,
            "findings": tuple(Finding.model_validate(each) for each in said["findings"] or ()),
            "trouble": Trouble.model_validate(said["trouble"]) if said["trouble"] else None,
            "provenance": Provenance.model_validate(said["provenance"]),
            "access": _approval(said["access"]) if said["access"] else None,
        }
    )
