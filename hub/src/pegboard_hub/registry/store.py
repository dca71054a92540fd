"""The registry's tables: writing a server and its releases, and reading them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, RowMapping, Table, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import Requirement
from pegboard.core.bundle import Endpoint
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.release import ToolDeclaration
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release, Required
from pegboard_hub.registry.tables import (
    approval_requirements,
    bundles,
    grants,
    imports,
    policies,
    releases,
    servers,
    stops,
    tools,
)
from pegboard_hub.storage.database import batches, insert_and_tell_new, insert_new

Known = Mapping[tuple[str, str], Release]
"""Releases that are in memory, by server and digest."""

KINDS = {"group": "groups", "surface": "surfaces", "channel": "channels", "service": "services"}
"""Kinds of grants, as rows name them and as `Access` does."""

FIRST = "1.0.{}"
"""How releases are numbered: the last figure counts up with each digest."""


async def insert_server(connection: AsyncConnection, server: RegisteredServer) -> None:
    """Write a server that was not there, without access, releases and stops."""
    await connection.execute(insert(servers).values(**_row(server), created_at_ms=server.created_at_ms))


async def write_server(connection: AsyncConnection, before: RegisteredServer, after: RegisteredServer) -> None:
    """Write what differs of a server; its releases are there already."""
    name = str(after.name)
    await connection.execute(update(servers).where(servers.c.name == name).values(**_row(after)))
    if (before.requested, before.granted) != (after.requested, after.granted):
        await _write_access(connection, name, after)
    if (before.stopped, before.stopped_tools) != (after.stopped, after.stopped_tools):
        await _write_stops(connection, name, after)
    if before.approvals != after.approvals:
        await _write_approvals(connection, name, after)


async def stamp_server(connection: AsyncConnection, server: RegisteredServer) -> None:
    """Write which change a server was last changed by."""
    await connection.execute(
        update(servers)
        .where(servers.c.name == str(server.name))
        .values(
            version=server.version,
            seq=server.seq,
            updated_at_ms=server.updated_at_ms,
            first_live_at_ms=server.first_live_at_ms,
        )
    )


async def place_server(connection: AsyncConnection, server: RegisteredServer) -> None:
    """Write where a server's replicas answer, which nobody decided and no history tells."""
    told = [each.model_dump(mode="json") for each in server.endpoints]
    await connection.execute(update(servers).where(servers.c.name == str(server.name)).values(endpoints=told))


async def placed(connection: AsyncConnection) -> dict[str, tuple[Endpoint, ...]]:
    """Where the replicas of each submitted server answer, by its name."""
    query = select(servers.c.name, servers.c.endpoints).where(servers.c.submitted)
    return {row.name: _endpoints(row) for row in await connection.execute(query)}


def _endpoints(row: Any) -> tuple[Endpoint, ...]:
    return tuple(Endpoint.model_validate(each) for each in row.endpoints)


def _row(server: RegisteredServer) -> dict[str, Any]:
    """What changes of a server by its history; where its replicas answer is not of it."""
    return {
        "name": str(server.name),
        "source": server.source,
        "reason": server.reason,
        "title": server.title,
        "description": server.description,
        "owner": server.owner,
        "support_channel": server.support_channel,
        "links": dict(server.links),
        "sensitivity": server.sensitivity,
        "gallery": server.gallery,
        "uses_models": server.uses_models,
        "lifecycle": server.lifecycle,
        "lifecycle_why": server.lifecycle_why,
        "takes_any": server.takes_any,
        "release": server.release.digest if server.release else None,
        "waiting": server.waiting.digest if server.waiting else None,
        "submitted": server.submitted,
        "ends_at_ms": server.ends_at_ms,
        "successor": server.successor,
    }


async def _write_access(connection: AsyncConnection, name: str, server: RegisteredServer) -> None:
    await connection.execute(delete(grants).where(grants.c.server == name))
    rows = []
    for kind, field in KINDS.items():
        requested, granted = getattr(server.requested, field), getattr(server.granted, field)
        rows += [
            {"server": name, "kind": kind, "value": v, "requested": v in requested, "granted": v in granted}
            for v in sorted({*requested, *granted})
        ]
    if rows:
        await connection.execute(insert(grants), rows)


async def _write_stops(connection: AsyncConnection, name: str, server: RegisteredServer) -> None:
    await connection.execute(delete(stops).where(stops.c.server == name))
    wanted = {**({"": server.stopped} if server.stopped else {}), **server.stopped_tools}
    if wanted:
        await connection.execute(
            insert(stops), [{"server": name, "tool": tool, "why": why} for tool, why in wanted.items()]
        )


async def _write_approvals(connection: AsyncConnection, name: str, server: RegisteredServer) -> None:
    await connection.execute(delete(approval_requirements).where(approval_requirements.c.server == name))
    rows = [
        {
            "server": name,
            "tool": tool,
            "approver": each.requirement.by,
            "own": each.requirement.own,
            "expires_s": each.requirement.expires_s,
            "why": each.requirement.why,
            "actor": each.actor,
            "actor_kind": each.actor_kind,
            "role": each.role,
            "at_ms": each.at_ms,
        }
        for tool, each in server.approvals.items()
    ]
    if rows:
        await connection.execute(insert(approval_requirements), rows)


async def add_release(connection: AsyncConnection, server: str, release: Release, now_ms: int) -> None:
    """Pin a release: one that is known is never written again."""
    count = await connection.scalar(select(func.count()).where(releases.c.server == server))
    row = {
        "server": server,
        "digest": release.digest,
        "manifest": release.manifest.model_dump(mode="json"),
        "semver": FIRST.format(count),
        "seen_at_ms": now_ms,
        "can_ask": release.can_ask,
        "instructions": release.instructions,
    }
    if not await insert_and_tell_new(connection, releases, [row]):
        return
    key = {"server": server, "release": release.digest}
    await insert_new(
        connection, policies, [key | {"name": name, "text": text} for name, text in release.policies.items()]
    )
    columns = tools.columns.keys()
    unsaid = dict.fromkeys(name for name in ToolDeclaration.model_fields if name in columns)
    declared = [
        unsaid
        | {name: said for name, said in tool.model_dump(mode="json").items() if name in columns}
        | key
        | {"position": position}
        for position, tool in enumerate(release.tools)
    ]
    await insert_new(connection, tools, declared)


async def is_approved(connection: AsyncConnection, server: str, digest: str) -> bool:
    """Whether a release was approved at some time."""
    at_ms = await connection.scalar(select(releases.c.approved_at_ms).where(_is(server, digest)))
    return at_ms is not None


async def last_approved(connection: AsyncConnection, server: str, most: int = 1) -> list[str]:
    """Digests of the releases that were approved last, the newest first."""
    digests = await connection.scalars(
        select(releases.c.digest)
        .where(releases.c.server == server, releases.c.approved_at_ms.is_not(None))
        .order_by(releases.c.approved_at_ms.desc(), releases.c.seen_at_ms.desc(), releases.c.semver.desc())
        .limit(most)
    )
    return list(digests)


async def approve_release(connection: AsyncConnection, server: str, digest: str, now_ms: int) -> None:
    """Take note that a release may be deployed."""
    first = and_(_is(server, digest), releases.c.approved_at_ms.is_(None))
    await connection.execute(update(releases).where(first).values(approved_at_ms=now_ms))


async def mark_release(connection: AsyncConnection, server: str, digest: str, now_ms: int) -> None:
    """Take note that a release is what is called from now on."""
    first = and_(_is(server, digest), releases.c.deployed_at_ms.is_(None))
    await connection.execute(update(releases).where(first).values(deployed_at_ms=now_ms))


async def semver(connection: AsyncConnection, server: str, digest: str) -> str:
    """The version that a release's digest maps to."""
    return str(await connection.scalar(select(releases.c.semver).where(_is(server, digest))) or "")


def _is(server: str, digest: str) -> Any:
    return and_(releases.c.server == server, releases.c.digest == digest)


async def imported(connection: AsyncConnection) -> dict[str, dict[str, Any]]:
    """What was last taken over of each entry of the grants file."""
    return {row.server: row.entry for row in await connection.execute(select(imports))}


async def save_import(connection: AsyncConnection, server: str, entry: Mapping[str, Any], now_ms: int) -> None:
    """Remember what was taken over."""
    await connection.execute(delete(imports).where(imports.c.server == server))
    await connection.execute(insert(imports).values(server=server, entry=dict(entry), at_ms=now_ms))


async def changed_since(connection: AsyncConnection, seq: int) -> list[str]:
    """Names of the servers that changed after an entry of the history."""
    return list(await connection.scalars(select(servers.c.name).where(servers.c.seq > seq)))


async def load(
    connection: AsyncConnection, known: Known, names: Collection[str] | None = None
) -> list[RegisteredServer]:
    """Servers as the tables say, in order of name.

    Args:
        connection: inside a transaction.
        known: releases that are already in memory; others are read.
        names: those to read; None for all.
    """
    if names is None:
        return await _load(connection, known, None)
    found = [server for batch in batches(sorted(names)) for server in await _load(connection, known, batch)]
    return sorted(found, key=lambda server: str(server.name))


async def _load(connection: AsyncConnection, known: Known, names: Collection[str] | None) -> list[RegisteredServer]:
    access = await _load_access(connection, names)
    stopped: dict[str, dict[str, str]] = defaultdict(dict)
    for row in await connection.execute(_only(select(stops), stops.c.server, names)):
        stopped[row.server][row.tool] = row.why
    required = await _load_approvals(connection, names)
    query = _only(select(servers, releases.c.semver), servers.c.name, names)
    joined = query.outerjoin_from(
        servers, releases, and_(releases.c.server == servers.c.name, releases.c.digest == servers.c.release)
    ).order_by(servers.c.name)
    rows = (await connection.execute(joined)).all()
    pinned = {(row.name, digest) for row in rows for digest in (row.release, row.waiting) if digest is not None}
    known = {**known, **await load_releases(connection, pinned - known.keys())}
    return [
        RegisteredServer(
            name=ServerName.parse(row.name),
            source=row.source,
            granted=access.get((row.name, "granted"), Access()),
            requested=access.get((row.name, "requested"), Access()),
            reason=row.reason,
            release=known.get((row.name, row.release)),
            stopped=stopped[row.name].pop("", ""),
            stopped_tools=stopped[row.name],
            approvals=required.get(row.name, {}),
            lifecycle=Lifecycle(row.lifecycle),
            lifecycle_why=row.lifecycle_why,
            waiting=known.get((row.name, row.waiting)),
            takes_any=row.takes_any,
            title=row.title,
            description=row.description,
            owner=row.owner,
            support_channel=row.support_channel,
            links=row.links,
            sensitivity=row.sensitivity,
            gallery=row.gallery,
            uses_models=row.uses_models,
            semver=row.semver or "",
            version=row.version,
            seq=row.seq,
            created_at_ms=row.created_at_ms,
            updated_at_ms=row.updated_at_ms,
            first_live_at_ms=row.first_live_at_ms,
            submitted=row.submitted,
            ends_at_ms=row.ends_at_ms,
            successor=row.successor,
            endpoints=_endpoints(row),
        )
        for row in rows
    ]


def _only(query: Any, column: Any, names: Collection[str] | None) -> Any:
    return query if names is None else query.where(column.in_(names))


async def _load_approvals(
    connection: AsyncConnection, names: Collection[str] | None
) -> dict[str, dict[str, Required]]:
    """What is required of tools, by server and tool."""
    found: dict[str, dict[str, Required]] = defaultdict(dict)
    query = _only(select(approval_requirements), approval_requirements.c.server, names)
    for row in await connection.execute(query.order_by(approval_requirements.c.tool)):
        requirement = Requirement(
            by=row.approver, own=row.own, expires_s=row.expires_s, source="registry", why=row.why
        )
        found[row.server][row.tool] = Required(requirement, row.actor, row.actor_kind, row.role, row.at_ms)
    return found


async def _load_access(connection: AsyncConnection, names: Collection[str] | None) -> dict[tuple[str, str], Access]:
    """What is requested and granted, by server and side."""
    values: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: {field: [] for field in KINDS.values()})
    for row in await connection.execute(_only(select(grants), grants.c.server, names).order_by(grants.c.value)):
        for side, given in (("requested", row.requested), ("granted", row.granted)):
            if given:
                values[row.server, side][KINDS[row.kind]].append(row.value)
    return {key: Access(**{field: tuple(found) for field, found in each.items()}) for key, each in values.items()}


async def load_release(connection: AsyncConnection, server: str, digest: str) -> Release:
    """A release that is pinned here.

    Raises:
        KeyError: it is not.
    """
    return (await load_releases(connection, {(server, digest)}))[server, digest]


async def load_releases(
    connection: AsyncConnection, wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Release]:
    """Releases that are pinned here, by server and digest: three queries for many of them."""
    found: dict[tuple[str, str], Release] = {}
    of: dict[str, list[str]] = defaultdict(list)
    for server, digest in wanted:
        of[server].append(digest)
    for names in batches(sorted(of)):
        digests = [digest for name in names for digest in of[name]]
        texts: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for row in await connection.execute(_among(policies, policies.c.release, names, digests)):
            texts[row.server, row.release][row.name] = row.text
        declared: dict[tuple[str, str], list[ToolDeclaration]] = defaultdict(list)
        for row in await connection.execute(_among(tools, tools.c.release, names, digests)):
            declared[row.server, row.release].append(_tool(row._mapping))
        for row in await connection.execute(_among(releases, releases.c.digest, names, digests)):
            key = (row.server, row.digest)
            manifest = Manifest.model_validate(row.manifest)
            found[key] = Release(
                row.digest,
                manifest,
                tuple(declared[key]),
                texts[key],
                tuple(row.unrecorded),
                row.can_ask,
                row.instructions,
            )
    return {key: found[key] for key in wanted}


def _among(table: Table, digest: Column[Any], names: Sequence[str], digests: Sequence[str]) -> Any:
    """The rows of some releases, in their order."""
    order = (table.c.position,) if table is tools else ()
    return select(table).where(table.c.server.in_(names), digest.in_(digests)).order_by(*order)


def _tool(row: RowMapping) -> ToolDeclaration:
    return ToolDeclaration(**{name: row[name] for name in ToolDeclaration.model_fields if name in row})


async def bundle_versions(connection: AsyncConnection, consumers: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Version and content digest of the newest bundle of each of these, where there is one."""
    found: dict[str, tuple[int, str]] = {}
    for batch in batches(consumers):
        rows = await connection.execute(select(bundles).where(bundles.c.consumer.in_(batch)))
        found |= {row.consumer: (row.version, row.content) for row in rows}
    return found


async def save_bundle_versions(connection: AsyncConnection, versions: Iterable[tuple[str, int, str]]) -> None:
    """Remember new versions, as (consumer, version, content digest)."""
    rows = [{"consumer": consumer, "version": version, "content": content} for consumer, version, content in versions]
    await connection.execute(
        delete(bundles).where(bundles.c.consumer == bindparam("key")), [{"key": row["consumer"]} for row in rows]
    )
    await insert_new(connection, bundles, rows)
