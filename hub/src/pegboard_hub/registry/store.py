"""The registry's tables: bringing them in line with the sources, and reading them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import and_, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.grants import Grant, GrantsFile
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.release import ToolDeclaration
from pegboard_hub.registry.model import (
    GRANT_KINDS,
    Access,
    RegisteredServer,
    Release,
    bundles,
    grants,
    policies,
    releases,
    servers,
    stops,
    tools,
)
from pegboard_hub.storage.database import insert_and_tell_new, insert_new

_GrantKey = tuple[str, str, str]
_Grants = dict[_GrantKey, tuple[bool, bool]]


async def sync(
    connection: AsyncConnection,
    file: GrantsFile,
    deployed: Mapping[str, Release | None],
    now_ms: int,
) -> None:
    """Make the tables say what the grants file and the deployed releases say. Doing it again changes nothing.

    Args:
        connection: inside a write transaction.
        file: the operator's grants.
        deployed: the release of each server of the file; None when there is none.
        now_ms: milliseconds since the epoch.
    """
    await _sync_servers(connection, file, deployed)
    await _add_releases(connection, deployed, now_ms)
    await _sync_grants(connection, file, deployed)
    await _sync_stops(connection, file)


async def _sync_servers(
    connection: AsyncConnection, file: GrantsFile, deployed: Mapping[str, Release | None]
) -> None:
    existing = {row.name: row for row in await connection.execute(select(servers))}
    wanted = {name: _server_row(name, grant, deployed.get(name)) for name, grant in file.servers.items()}
    await insert_new(connection, servers, [row for name, row in wanted.items() if name not in existing])
    changed = [row for name, row in wanted.items() if name in existing and existing[name]._mapping != row]
    if changed:
        statement = (
            update(servers)
            .where(servers.c.name == bindparam("key"))
            .values({column: bindparam(f"new_{column}") for column in changed[0] if column != "name"})
        )
        await connection.execute(
            statement, [{"key": row["name"]} | {f"new_{column}": row[column] for column in row} for row in changed]
        )
    gone = [name for name, row in existing.items() if row.registered and name not in wanted]
    for name in gone:
        await connection.execute(update(servers).where(servers.c.name == name).values(registered=False))


def _server_row(name: str, grant: Grant, release: Release | None) -> dict[str, Any]:
    return {
        "name": name,
        "source": grant.source,
        "registered": True,
        "reason": grant.reason,
        "release": release.digest if release else None,
    }


async def _add_releases(connection: AsyncConnection, deployed: Mapping[str, Release | None], now_ms: int) -> None:
    """Releases are pinned: one that is known is never written again."""
    rows = [
        {
            "server": name,
            "digest": release.digest,
            "manifest": release.manifest.model_dump(mode="json"),
            "seen_at_ms": now_ms,
        }
        for name, release in deployed.items()
        if release is not None
    ]
    new = {(server, digest) for server, digest in await insert_and_tell_new(connection, releases, rows)}
    added = [(name, release) for name, release in deployed.items() if release and (name, release.digest) in new]
    texts = [
        {"server": server, "release": release.digest, "name": name, "text": text}
        for server, release in added
        for name, text in release.policies.items()
    ]
    declared = [
        {"server": server, "release": release.digest, "position": position, **_columns(tool)}
        for server, release in added
        for position, tool in enumerate(release.tools)
    ]
    await insert_new(connection, policies, texts)
    await insert_new(connection, tools, declared)


def _columns(tool: ToolDeclaration) -> dict[str, Any]:
    return {name: value for name, value in tool.model_dump(mode="json").items() if name in tools.c}


async def _sync_grants(connection: AsyncConnection, file: GrantsFile, deployed: Mapping[str, Release | None]) -> None:
    """Write only the differences: one changed grant among 10,000 servers is one row."""
    existing: _Grants = {
        (row.server, row.kind, row.value): (row.requested, row.granted)
        for row in await connection.execute(select(grants))
    }
    wanted = _wanted_grants(file, deployed)
    for server, kind, value in [key for key in existing if wanted.get(key) != existing[key]]:
        await connection.execute(
            delete(grants).where(
                and_(grants.c.server == server, grants.c.kind == kind, grants.c.value == value),
            )
        )
    rows = [
        {"server": key[0], "kind": key[1], "value": key[2], "requested": requested, "granted": granted}
        for key, (requested, granted) in wanted.items()
        if existing.get(key) != (requested, granted)
    ]
    await insert_new(connection, grants, rows)


def _wanted_grants(file: GrantsFile, deployed: Mapping[str, Release | None]) -> _Grants:
    wanted: _Grants = {}
    for name, grant in file.servers.items():
        release = deployed.get(name)
        asked = release.manifest.requests if release else None
        pairs = {
            "group": (asked.business_groups if asked else (), grant.groups),
            "surface": (asked.surfaces if asked else (), grant.surfaces),
            "channel": (asked.channels if asked else (), grant.channels),
            "service": (asked.services if asked else (), grant.services),
        }
        for kind, (requested, granted) in pairs.items():
            for value in {*requested, *granted}:
                wanted[name, kind, value] = (value in requested, value in granted)
    return wanted


async def _sync_stops(connection: AsyncConnection, file: GrantsFile) -> None:
    existing = await _load_stops(connection)
    wanted = {
        (name, tool): why
        for name, grant in file.servers.items()
        for tool, why in {**({"": grant.stopped} if grant.stopped else {}), **grant.stopped_tools}.items()
    }
    for server, tool in [key for key in existing if wanted.get(key) != existing[key]]:
        await connection.execute(delete(stops).where(and_(stops.c.server == server, stops.c.tool == tool)))
    new = {key: why for key, why in wanted.items() if existing.get(key) != why}
    await insert_new(connection, stops, [{"server": s, "tool": tool, "why": why} for (s, tool), why in new.items()])


async def _load_stops(connection: AsyncConnection) -> dict[tuple[str, str], str]:
    return {(row.server, row.tool): row.why for row in await connection.execute(select(stops))}


async def load(connection: AsyncConnection, known: Mapping[tuple[str, str], Release]) -> list[RegisteredServer]:
    """Every server the registry has ever had, withdrawn ones too, in order of name.

    Args:
        connection: inside a transaction.
        known: releases that are already in memory, by server and digest; others are read.
    """
    values: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for row in await connection.execute(select(grants).order_by(grants.c.value)):
        if row.requested:
            values[row.server, row.kind, True].append(row.value)
        if row.granted:
            values[row.server, row.kind, False].append(row.value)
    stopped: dict[str, dict[str, str]] = defaultdict(dict)
    for (server, tool), why in (await _load_stops(connection)).items():
        stopped[server][tool] = why
    found = []
    for row in (await connection.execute(select(servers).order_by(servers.c.name))).all():
        release = known.get((row.name, row.release)) if row.release else None
        if row.release and release is None:
            release = await _load_release(connection, row.name, row.release)
        found.append(
            RegisteredServer(
                name=ServerName.parse(row.name),
                source=row.source,
                granted=_access(values, row.name, requested=False),
                requested=_access(values, row.name, requested=True),
                reason=row.reason,
                release=release,
                registered=row.registered,
                stopped=stopped[row.name].pop("", ""),
                stopped_tools=stopped[row.name],
            )
        )
    return found


def _access(values: Mapping[tuple[str, str, bool], list[str]], server: str, *, requested: bool) -> Access:
    return Access(*(tuple(values.get((server, kind, requested), ())) for kind in GRANT_KINDS))


async def _load_release(connection: AsyncConnection, server: str, digest: str) -> Release:
    manifest = await connection.scalar(
        select(releases.c.manifest).where(releases.c.server == server, releases.c.digest == digest)
    )
    texts = await connection.execute(
        select(policies.c.name, policies.c.text).where(policies.c.server == server, policies.c.release == digest)
    )
    declared = await connection.execute(
        select(tools).where(tools.c.server == server, tools.c.release == digest).order_by(tools.c.position)
    )
    fields = ToolDeclaration.model_fields.keys() & tools.c.keys()
    return Release(
        digest=digest,
        manifest=Manifest.model_validate(manifest),
        tools=tuple(ToolDeclaration(**{name: row._mapping[name] for name in fields}) for row in declared),
        policies={row.name: row.text for row in texts},
    )


async def bundle_versions(connection: AsyncConnection) -> dict[str, tuple[int, str]]:
    """Version and content digest of each consumer's newest bundle."""
    rows = await connection.execute(select(bundles))
    return {row.consumer: (row.version, row.content) for row in rows}


async def save_bundle_versions(connection: AsyncConnection, versions: Iterable[tuple[str, int, str]]) -> None:
    """Remember new versions, as (consumer, version, content digest)."""
    rows = [{"consumer": consumer, "version": version, "content": content} for consumer, version, content in versions]
    await connection.execute(
        delete(bundles).where(bundles.c.consumer == bindparam("key")), [{"key": row["consumer"]} for row in rows]
    )
    await insert_new(connection, bundles, rows)
