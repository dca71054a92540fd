"""The history: who changed what, when and why. It only grows; the database refuses anything else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.tables import history

ActorKind = Literal["person", "operator", "file", "system", "service"]

Fields = Mapping[str, tuple[Any, Any]]
"""Each field that changed, with what it was and what it is since."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something.

    Attributes:
        sub: a person's id; `grants file`, or `pegboard`, for the other kinds.
        kind: `operator`: somebody at the machine's own command; `service`: one that may submit releases.
    """

    sub: str
    kind: ActorKind = "person"


REGISTER = "register"
"""A server's first entry, by what it is called."""

STOP, RESUME = "stop", "resume"
"""What owners, operators and security do with the switch, by what it is called."""

REQUIRE, LIFT = "require approval", "lift approval"
"""The same with an approval that a tool needs whatever its code says."""

GRANTS_FILE = Actor("grants file", "file")
PEGBOARD = Actor("pegboard", "system")


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `at_ms` is in milliseconds since the epoch."""

    seq: int
    at_ms: int
    server: str
    version: int
    actor: str
    actor_kind: ActorKind
    action: str
    why: str
    fields: Fields


async def append(
    connection: AsyncConnection,
    server: str,
    version: int,
    actor: Actor,
    action: str,
    why: str,
    fields: Fields,
    now_ms: int,
) -> int:
    """Write one entry inside the transaction of what it tells; gives its number."""
    row = {
        "at_ms": now_ms,
        "server": server,
        "version": version,
        "actor": actor.sub,
        "actor_kind": actor.kind,
        "action": action,
        "why": why,
        "fields": {name: list(pair) for name, pair in fields.items()},
    }
    result = await connection.execute(insert(history).values(row).returning(history.c.seq))
    return int(result.scalar_one())


async def entries(
    connection: AsyncConnection,
    server: str | None = None,
    actor: str | None = None,
    before_seq: int | None = None,
    limit: int = 50,
    among: Collection[str] | None = None,
    actions: Collection[str] | None = None,
) -> list[Entry]:
    """Entries, newest first.

    Args:
        connection: inside a transaction.
        server: only of this one.
        actor: only by this one.
        before_seq: only older than this one.
        limit: most of them.
        among: only of these servers.
        actions: only these.
    """
    query = select(history).order_by(history.c.seq.desc()).limit(limit)
    if server is not None:
        query = query.where(history.c.server == server)
    if actor is not None:
        query = query.where(history.c.actor == actor)
    if among is not None:
        query = query.where(history.c.server.in_(sorted(among)))
    if actions is not None:
        query = query.where(history.c.action.in_(sorted(actions)))
    if before_seq is not None:
        query = query.where(history.c.seq < before_seq)
    return [_entry(row) for row in await connection.execute(query)]


async def entry(connection: AsyncConnection, seq: int) -> Entry | None:
    """The entry of that number, if there is one."""
    row = (await connection.execute(select(history).where(history.c.seq == seq))).one_or_none()
    return _entry(row) if row else None


async def since(connection: AsyncConnection, server: str, version: int) -> list[Entry]:
    """What changed of a server after its `version`, oldest first."""
    query = select(history).where(history.c.server == server, history.c.version > version).order_by(history.c.seq)
    return [_entry(row) for row in await connection.execute(query)]


async def registered_by_a_person(connection: AsyncConnection, server: str) -> bool:
    """Whether a person registered a server, and thereby described it; else the grants file named it first."""
    of_people = and_(history.c.action == REGISTER, history.c.actor_kind == "person")
    query = select(history.c.seq).where(history.c.server == server, of_people).limit(1)
    return await connection.scalar(query) is not None


async def granted_with(connection: AsyncConnection, server: RegisteredServer) -> dict[str, Access]:
    """What was granted when each release of a server was called last, by digest; it undoes entry after entry."""
    access = {f"granted_{kind}": values for kind, values in server.granted._asdict().items()}
    release = server.release.digest if server.release else None
    found: dict[str, Access] = {}
    query = select(history.c.fields).where(history.c.server == str(server.name)).order_by(history.c.seq.desc())
    for fields in [*await connection.scalars(query), {}]:
        if release is not None:
            found.setdefault(release, Access(*map(tuple, access.values())))
        access |= {name: before for name, (before, _) in fields.items() if name in access}
        release = fields.get("release", (release,))[0]
    return found


async def newest_seq(connection: AsyncConnection) -> int:
    """The newest entry's number; 0 while there is none."""
    return int(await connection.scalar(select(func.max(history.c.seq))) or 0)


def _entry(row: Any) -> Entry:
    said = dict(row._mapping)
    said["fields"] = {name: (before, after) for name, (before, after) in said["fields"].items()}
    return Entry(**said)
