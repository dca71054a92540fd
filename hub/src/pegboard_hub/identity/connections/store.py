"""Connections, codes and refresh tokens in the database."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, exists, false, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.names import EXCHANGE_PATH
from pegboard_hub.identity.connections.model import (
    Connection,
    authorization_codes,
    connections,
    refresh_tokens,
)
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.storage.database import batches


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code that was presented, with the connection that it was made for."""

    connection: Connection
    redirect_uri: str
    redirect_uri_given: bool
    code_challenge: str
    expires_at_ms: int
    used_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh token that was presented, with its connection and what the next one begins with."""

    digest: str
    connection: Connection
    expires_at_ms: int
    used_at_ms: int | None
    family: str = field(default="", repr=False)


async def insert(db: AsyncConnection, connection: Connection) -> None:
    """Keep a new connection."""
    await db.execute(connections.insert().values(asdict(connection)))


async def note_ours(db: AsyncConnection, connection: Connection) -> bool:
    """Note that a token of our own pages comes of a session, once for all of them; False where it has ended.

    It has no refresh token, so it is in no list of what is connected; it is what tells that the session had tokens.
    """
    own = (connections.c.sid == connection.sid, connections.c.client_id == connection.client_id)
    known = await db.execute(update(connections).where(*own).values(seen_at_ms=connection.seen_at_ms))
    open_yet = select(sessions.c.sid).where(sessions.c.sid == connection.sid, sessions.c.ended_at_ms.is_(None))
    if await db.scalar(open_yet) is None:
        return False
    if not known.rowcount:
        await insert(db, connection)
    return True


async def insert_code(db: AsyncConnection, digest: str, code: Code) -> None:
    """Keep a new code."""
    await db.execute(
        authorization_codes.insert().values(
            digest=digest,
            connection=code.connection.connection,
            redirect_uri=code.redirect_uri,
            redirect_uri_given=code.redirect_uri_given,
            code_challenge=code.code_challenge,
            expires_at_ms=code.expires_at_ms,
        )
    )


async def take_code(db: AsyncConnection, digest: str, now_ms: int) -> Code | None:
    """The code of that digest, used from now on; `used_at_ms` tells whether it was before."""
    columns = (authorization_codes.c[name] for name in _CODE)
    row = (await db.execute(_with_connection(authorization_codes, *columns, digest=digest))).one_or_none()
    if row is None:
        return None
    code = Code(_connection(row), *(getattr(row, name) for name in _CODE))
    # Whether this use is the first, the update alone can say: a database may let two transactions read side by side.
    first = await db.execute(
        update(authorization_codes)
        .where(authorization_codes.c.digest == digest, authorization_codes.c.used_at_ms.is_(None))
        .values(used_at_ms=now_ms)
    )
    return code if first.rowcount else replace(code, used_at_ms=code.used_at_ms or now_ms)


async def find_refresh(db: AsyncConnection, digest: str) -> Refresh | None:
    """The refresh token of that digest."""
    columns = (refresh_tokens.c.digest, refresh_tokens.c.expires_at_ms, refresh_tokens.c.used_at_ms)
    row = (await db.execute(_with_connection(refresh_tokens, *columns, digest=digest))).one_or_none()
    return Refresh(row.digest, _connection(row), row.expires_at_ms, row.used_at_ms) if row else None


async def of_family(db: AsyncConnection, family_digest: str) -> Connection | None:
    """The connection whose refresh tokens begin with what has this digest."""
    row = (await db.execute(select(connections).where(connections.c.family_digest == family_digest))).one_or_none()
    return Connection(**row._mapping) if row else None


async def use_refresh(db: AsyncConnection, digest: str, now_ms: int) -> bool:
    """Use a refresh token up; False when it was used before."""
    done = await db.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.digest == digest, refresh_tokens.c.used_at_ms.is_(None))
        .values(used_at_ms=now_ms)
    )
    return bool(done.rowcount)


async def insert_refresh(db: AsyncConnection, **row: Any) -> None:
    """Keep a new refresh token."""
    await db.execute(refresh_tokens.insert().values(row))


async def find(db: AsyncConnection, where: ColumnElement[bool]) -> list[Connection]:
    """Connections that have not ended, the newest first."""
    chosen = select(connections).where(where, connections.c.ended_at_ms.is_(None))
    rows = await db.execute(chosen.order_by(connections.c.opened_at_ms.desc()))
    return [Connection(**row._mapping) for row in rows]


async def connection_of_token(db: AsyncConnection, jti: str) -> str | None:
    """The connection whose access token this is the `jti` of."""
    found: str | None = await db.scalar(select(refresh_tokens.c.connection).where(refresh_tokens.c.jti == jti))
    return found


async def seen(db: AsyncConnection, connection: str, now_ms: int, family_digest: str | None = None) -> bool:
    """Note that a connection was used, and the first time how its refresh tokens begin; False where it has ended."""
    noted = {"seen_at_ms": now_ms} | ({"family_digest": family_digest} if family_digest else {})
    done = await db.execute(
        update(connections)
        .where(connections.c.connection == connection, connections.c.ended_at_ms.is_(None))
        .values(noted)
    )
    return bool(done.rowcount)


async def end(db: AsyncConnection, ended: list[str], why: str, now_ms: int) -> None:
    """Note that connections have ended."""
    for some in batches(ended):
        await db.execute(
            update(connections)
            .where(connections.c.connection.in_(some), connections.c.ended_at_ms.is_(None))
            .values(ended_at_ms=now_ms, ended_why=why)
        )


async def recent_tokens(db: AsyncConnection, of: list[str], since_ms: int) -> list[str]:
    """The `jti` of each access token that connections got since a time."""
    found: list[str] = []
    for some in batches(of):
        chosen = refresh_tokens.c.connection.in_(some), refresh_tokens.c.issued_at_ms >= since_ms
        found += (await db.execute(select(refresh_tokens.c.jti).where(*chosen))).scalars()
    return found


def got_a_token() -> ColumnElement[bool]:
    """Of connections: whether the client ever came for a token."""
    return exists().where(refresh_tokens.c.connection == connections.c.connection)


def in_use() -> ColumnElement[bool]:
    """Of connections: whether the client ever came for a token, or exchanges the word of its person for one."""
    return or_(got_a_token(), connections.c.resource.endswith(EXCHANGE_PATH, autoescape=True))


async def forget_expired(db: AsyncConnection, before_ms: int, used_before_ms: int, most: int) -> int:
    """Delete codes and refresh tokens that expired before a time, and the connections of sessions that did.

    Args:
        db: in a transaction.
        before_ms: the time.
        used_before_ms: since when a refresh token has to have been used up; others that are go too.
        most: of each, so that nobody else who writes waits long.

    Returns:
        The largest number deleted.
    """
    deleted = 0
    used_up = refresh_tokens.c.used_at_ms < used_before_ms
    for table, over in ((authorization_codes, false()), (refresh_tokens, used_up)):
        chosen = select(table.c.digest).where(or_(table.c.expires_at_ms < before_ms, over)).limit(most)
        deleted = max(deleted, (await db.execute(delete(table).where(table.c.digest.in_(chosen)))).rowcount)
    code = exists().where(authorization_codes.c.connection == connections.c.connection)
    of_expired = select(connections.c.connection).join(sessions).where(sessions.c.expires_at_ms < before_ms)
    left = of_expired.where(~got_a_token(), ~code).limit(most)
    return max(deleted, (await db.execute(delete(connections).where(connections.c.connection.in_(left)))).rowcount)


_CODE = ("redirect_uri", "redirect_uri_given", "code_challenge", "expires_at_ms", "used_at_ms")
_FIELDS = tuple(connections.c.keys())


def _with_connection(table: Any, *columns: Any, digest: str) -> Select[Any]:
    named = [connections.c[name].label(f"of_{name}") for name in _FIELDS]
    return select(*columns, *named).join(connections).where(table.c.digest == digest)


def _connection(row: Row[Any]) -> Connection:
    return Connection(**{name: getattr(row, f"of_{name}") for name in _FIELDS})
