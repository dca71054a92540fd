"""Sessions in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, cast, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.connections.model import connections
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.identity.sessions.model import Session, sessions


async def insert(connection: AsyncConnection, session: Session, secret_digest: str, login: str) -> None:
    """Keep a new session, of the login with that issuer."""
    await connection.execute(sessions.insert().values(secret_digest=secret_digest, login=login, **_row(session)))


async def by_digest(connection: AsyncConnection, secret_digest: str) -> Session | None:
    """The session whose secret has this digest."""
    return await _one(connection, sessions.c.secret_digest == secret_digest)


async def by_sid(connection: AsyncConnection, sid: str) -> Session | None:
    """The session of that id."""
    return await _one(connection, sessions.c.sid == sid)


async def live(
    connection: AsyncConnection, where: ColumnElement[bool], now_ms: int, most: int | None = None
) -> list[Session]:
    """Sessions that have neither ended nor expired, the newest first; no more than `most`."""
    alive = (sessions.c.ended_at_ms.is_(None), sessions.c.expires_at_ms > now_ms)
    chosen = select(sessions).where(where, *alive).order_by(sessions.c.opened_at_ms.desc())
    rows = await connection.execute(chosen.limit(most))
    return [_session(row) for row in rows]


async def everybody(connection: AsyncConnection, now_ms: int) -> list[PersonFacts]:
    """Whoever has a live session, once each, as the login last told of them; in order of id."""
    alive = (sessions.c.ended_at_ms.is_(None), sessions.c.expires_at_ms > now_ms)
    # As text: many people have the same groups, and each such text is read once.
    columns = (sessions.c.sub, sessions.c.name, cast(sessions.c.groups, Text), sessions.c.email)
    chosen = select(*columns).where(*alive).order_by(sessions.c.sub, sessions.c.facts_at_ms)
    read: dict[str, tuple[str, ...]] = {}
    newest: dict[str, PersonFacts] = {}
    for sub, name, groups, email in await connection.execute(chosen):
        if groups not in read:
            read[groups] = tuple(json.loads(groups))
        newest[sub] = PersonFacts(sub, name, read[groups], email)
    return list(newest.values())


async def renew(connection: AsyncConnection, session: Session) -> bool:
    """Keep what the login told again; False where the session has ended meanwhile."""
    row = _row(session)
    told = {name: row[name] for name in ("name", "email", "groups", "renewal", "facts_at_ms")}
    open_yet = (sessions.c.sid == session.sid, sessions.c.ended_at_ms.is_(None))
    return bool((await connection.execute(update(sessions).where(*open_yet).values(told))).rowcount)


async def seen(connection: AsyncConnection, sid: str, now_ms: int) -> None:
    """Note that a session was used."""
    await connection.execute(update(sessions).where(sessions.c.sid == sid).values(seen_at_ms=now_ms))


async def end(connection: AsyncConnection, sids: Sequence[str], why: str, now_ms: int) -> None:
    """Note that sessions have ended; what could renew their facts is forgotten."""
    ended = {"ended_at_ms": now_ms, "ended_why": why, "renewal": ""}
    await connection.execute(update(sessions).where(sessions.c.sid.in_(sids)).values(ended))


async def with_tokens(connection: AsyncConnection, sids: Sequence[str], since_ms: int) -> list[str]:
    """Those of sessions of which a token came since a time."""
    chosen = connections.c.sid.in_(sids), connections.c.seen_at_ms >= since_ms
    return list((await connection.execute(select(connections.c.sid).where(*chosen).distinct())).scalars())


async def forget_expired(connection: AsyncConnection, before_ms: int, most: int) -> int:
    """Delete sessions that expired before a time and have no connection left, at most so many; gives how many."""
    connected = exists().where(connections.c.sid == sessions.c.sid)
    over = select(sessions.c.sid).where(sessions.c.expires_at_ms < before_ms, ~connected).limit(most)
    return (await connection.execute(delete(sessions).where(sessions.c.sid.in_(over)))).rowcount


async def _one(connection: AsyncConnection, where: ColumnElement[bool]) -> Session | None:
    row = (await connection.execute(select(sessions).where(where))).one_or_none()
    return _session(row) if row else None


def _session(row: Row[Any]) -> Session:
    values = dict(row._mapping)
    for inner in ("secret_digest", "login"):
        values.pop(inner)
    facts = PersonFacts(values.pop("sub"), values.pop("name"), tuple(values.pop("groups")), values.pop("email"))
    return Session(facts=facts, **values)


def _row(session: Session) -> dict[str, Any]:
    facts = session.facts
    return {
        "sid": session.sid,
        "sub": facts.sub,
        "name": facts.name,
        "email": facts.email,
        "groups": list(facts.groups),
        "subject": session.subject,
        "login_session": session.login_session,
        "renewal": session.renewal,
        "device": session.device,
        "opened_at_ms": session.opened_at_ms,
        "authenticated_at_ms": session.authenticated_at_ms,
        "facts_at_ms": session.facts_at_ms,
        "seen_at_ms": session.seen_at_ms,
        "expires_at_ms": session.expires_at_ms,
        "ended_at_ms": session.ended_at_ms,
        "ended_why": session.ended_why,
    }
