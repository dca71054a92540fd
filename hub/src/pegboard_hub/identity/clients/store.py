"""Clients, decisions and consents in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.clients.model import ClientKind, Standing, client_decisions, clients, consents
from pegboard_hub.identity.connections.model import connections, revocations
from pegboard_hub.identity.connections.store import got_a_token, in_use
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.storage.database import insert_and_tell_new, insert_new


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client that made itself known. Times are milliseconds since the epoch."""

    client_id: str
    kind: ClientKind
    software: str
    name: str
    redirect_uris: tuple[str, ...]
    uri: str | None
    created_at_ms: int
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class Decided:
    """What the operator decided on a software, who did, when and why."""

    software: str
    standing: Standing
    surface: str | None
    by: str
    at_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Use:
    """That a person has a client connected. `seen_at_ms` is when it last got a token."""

    client_id: str
    sub: str
    name: str
    connections: int
    seen_at_ms: int


class Consent(NamedTuple):
    """Whose consent, to what: a person is one of their login, since another's may be called the same."""

    login: str
    sub: str
    software: str


async def find(db: AsyncConnection, client_id: str) -> StoredClient | None:
    """The client of that id."""
    row = (await db.execute(select(clients).where(clients.c.client_id == client_id))).one_or_none()
    return _client(row) if row else None


async def add(db: AsyncConnection, client: StoredClient) -> bool:
    """Keep a client; False where its id is known, whose row is left as it is."""
    return bool(await insert_and_tell_new(db, clients, [_row(client)]))


async def replace(db: AsyncConnection, client: StoredClient) -> None:
    """Keep what a client says now; when it was first seen and last used stays."""
    if await add(db, client):
        return
    said = {name: value for name, value in _row(client).items() if name in ("name", "redirect_uris", "uri")}
    await db.execute(update(clients).where(clients.c.client_id == client.client_id).values(said))


async def used(db: AsyncConnection, client_id: str, now_ms: int) -> None:
    """Note that somebody got a token with a client."""
    # Later than it was made known, also within one millisecond: this is what tells used from unused.
    later = case((clients.c.created_at_ms >= now_ms, clients.c.created_at_ms + 1), else_=now_ms)
    await db.execute(update(clients).where(clients.c.client_id == client_id).values(seen_at_ms=later))


async def unused(db: AsyncConnection) -> int:
    """How many clients made themselves known, were never used, and nobody decided on."""
    return await db.scalar(select(func.count()).select_from(clients).where(_NEVER_USED, ~_DECIDED_ON)) or 0


async def forget_unused(db: AsyncConnection, before_ms: int) -> int:
    """Delete clients of before a time that were neither used nor decided on; gives how many."""
    done = await db.execute(delete(clients).where(_NEVER_USED, ~_DECIDED_ON, clients.c.created_at_ms < before_ms))
    return done.rowcount


async def forget_oldest(db: AsyncConnection) -> None:
    """Delete the client that has been there longest without ever being used."""
    oldest = select(clients.c.client_id).where(_NEVER_USED, ~_DECIDED_ON).order_by(clients.c.created_at_ms).limit(1)
    await db.execute(delete(clients).where(clients.c.client_id == oldest.scalar_subquery()))


async def all_used(db: AsyncConnection) -> list[StoredClient]:
    """Clients that were used, and those whose software was decided on."""
    chosen = select(clients).where(_MADE_THEMSELVES_KNOWN, ~_NEVER_USED | _DECIDED_ON)
    return [_client(row) for row in await db.execute(chosen.order_by(clients.c.seen_at_ms.desc()))]


async def latest_unused(db: AsyncConnection, most: int) -> list[StoredClient]:
    """Clients that were never used and whose software was not decided on, the newest first."""
    chosen = select(clients).where(_NEVER_USED, ~_DECIDED_ON)
    return [_client(row) for row in await db.execute(chosen.order_by(clients.c.created_at_ms.desc()).limit(most))]


async def last_used(db: AsyncConnection) -> dict[str, int]:
    """When each client that was ever used last got a token, by its id; what it had may have ended since."""
    noted = select(clients.c.client_id, clients.c.seen_at_ms).where(clients.c.seen_at_ms > clients.c.created_at_ms)
    of_connections = select(connections.c.client_id, func.max(connections.c.seen_at_ms).label("seen_at_ms"))
    told = of_connections.where(got_a_token()).group_by(connections.c.client_id)
    found: dict[str, int] = {}
    for row in [*await db.execute(noted), *await db.execute(told)]:
        found[row.client_id] = max(row.seen_at_ms, found.get(row.client_id, 0))
    return found


async def of_software(db: AsyncConnection, software: str) -> list[StoredClient]:
    """The clients of a software, the one seen last first."""
    of_it = select(clients).where(_MADE_THEMSELVES_KNOWN, clients.c.software == software)
    chosen = of_it.order_by(clients.c.seen_at_ms.desc())
    return [_client(row) for row in await db.execute(chosen)]


async def uses(db: AsyncConnection, now_ms: int) -> list[Use]:
    """Who has what connected, from sign-ins that have not ended; without what no client came for."""
    statement = (
        select(
            connections.c.client_id,
            connections.c.sub,
            func.max(sessions.c.name),
            func.count(),
            func.max(connections.c.seen_at_ms),
        )
        .join(sessions, sessions.c.sid == connections.c.sid)
        .where(
            connections.c.ended_at_ms.is_(None),
            sessions.c.ended_at_ms.is_(None),
            sessions.c.expires_at_ms > now_ms,
            in_use(),
        )
        .group_by(connections.c.client_id, connections.c.sub)
    )
    return [Use(*row) for row in await db.execute(statement)]


async def decision(db: AsyncConnection, software: str) -> Decided | None:
    """What was decided on a software."""
    found = await db.execute(select(client_decisions).where(client_decisions.c.software == software))
    row = found.one_or_none()
    return _decided(row) if row else None


async def decisions(db: AsyncConnection) -> dict[str, Decided]:
    """Everything that was decided, by software."""
    return {row.software: _decided(row) for row in await db.execute(select(client_decisions))}


async def decide(db: AsyncConnection, decided: Decided) -> None:
    """Keep a decision in the place of the last."""
    await db.execute(delete(client_decisions).where(client_decisions.c.software == decided.software))
    row = {
        "software": decided.software,
        "standing": decided.standing,
        "surface": decided.surface,
        "decided_by": decided.by,
        "decided_at_ms": decided.at_ms,
        "why": decided.why,
    }
    await insert_new(db, client_decisions, [row])


async def connected_ids(db: AsyncConnection, software: str) -> list[str]:
    """The ids under which a software has ever connected."""
    of_software = select(clients.c.client_id).where(clients.c.software == software)
    chosen = connections.c.client_id.in_(of_software) | (connections.c.client_id == software)
    return list((await db.execute(select(connections.c.client_id).where(chosen).distinct())).scalars())


async def is_known(db: AsyncConnection, software: str) -> bool:
    """Whether any client that made itself known is of that software."""
    found = select(clients.c.client_id).where(_MADE_THEMSELVES_KNOWN, clients.c.software == software).limit(1)
    return await db.scalar(found) is not None


async def restore(db: AsyncConnection, client_ids: Iterable[str]) -> None:
    """Take clients off the list of what is revoked; what they had stays revoked token by token."""
    chosen = and_(revocations.c.kind == "client", revocations.c.value.in_(list(client_ids)))
    await db.execute(delete(revocations).where(chosen))


async def consent(db: AsyncConnection, of: Consent) -> str | None:
    """The scope that a person lets a software have; None where they were not asked."""
    scope: str | None = await db.scalar(select(consents.c.scope).where(_is(of)))
    return scope


async def give_consent(db: AsyncConnection, of: Consent, scope: str, now_ms: int) -> None:
    """Keep what a person said last."""
    await withdraw(db, of)
    await insert_new(db, consents, [{**of._asdict(), "scope": scope, "given_at_ms": now_ms}])


async def withdraw(db: AsyncConnection, of: Consent) -> None:
    """Forget a person's consent."""
    await db.execute(delete(consents).where(_is(of)))


async def withdraw_all(db: AsyncConnection, software: str) -> None:
    """Forget everybody's consent to a software."""
    await db.execute(delete(consents).where(consents.c.software == software))


_NEVER_USED = and_(
    clients.c.seen_at_ms <= clients.c.created_at_ms,
    ~exists().where(connections.c.client_id == clients.c.client_id),
)

_MADE_THEMSELVES_KNOWN = clients.c.kind.in_((ClientKind.DOCUMENT, ClientKind.DYNAMIC))

_DECIDED_ON = clients.c.software.in_(select(client_decisions.c.software))


def _is(of: Consent) -> ColumnElement[bool]:
    return and_(*(consents.c[name] == value for name, value in of._asdict().items()))


def _client(row: Row[Any]) -> StoredClient:
    values = dict(row._mapping)
    kind, uris = ClientKind(values.pop("kind")), tuple(values.pop("redirect_uris"))
    return StoredClient(kind=kind, redirect_uris=uris, **values)


def _row(client: StoredClient) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "kind": client.kind,
        "software": client.software,
        "name": client.name,
        "redirect_uris": list(client.redirect_uris),
        "uri": client.uri,
        "created_at_ms": client.created_at_ms,
        "seen_at_ms": client.seen_at_ms,
    }


def _decided(row: Row[Any]) -> Decided:
    return Decided(row.software, Standing(row.standing), row.surface, row.decided_by, row.decided_at_ms, row.why)
