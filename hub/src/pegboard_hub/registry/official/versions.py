"""Versions of a server: each release that could once be called has one, for good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.tables import history, releases


@dataclass(frozen=True, slots=True)
class ReleaseVersion:
    """One release as a version.

    Attributes:
        semver: its number (semver.org 2.0.0), for good; the registry gives it.
        published_at_ms: when it could first be called.
        superseded_at_ms: when the next one could be called first, after which it is not the latest; None: the newest.
    """

    semver: str
    digest: str
    published_at_ms: int
    superseded_at_ms: int | None


async def versions(connection: AsyncConnection, servers: Iterable[str]) -> Mapping[str, list[ReleaseVersion]]:
    """The versions of these servers, oldest first; a server that has none is left out.

    One that waits for its reviews or was turned down is no version, and neither is one whose author held it back.
    """
    rows = await connection.execute(
        select(releases.c.server, releases.c.digest, releases.c.semver, releases.c.deployed_at_ms)
        .where(
            releases.c.server.in_(list(servers)),
            releases.c.deployed_at_ms.is_not(None),
            releases.c.manifest["gallery"].as_boolean().is_(True),
        )
        .order_by(releases.c.server, releases.c.deployed_at_ms, releases.c.seen_at_ms, releases.c.digest)
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.server].append(row)
    return {server: _versions(of_one) for server, of_one in found.items()}


async def servers_with(connection: AsyncConnection, semver: str) -> frozenset[str]:
    """The servers that may have this version."""
    rows = await connection.execute(
        select(releases.c.server).where(releases.c.semver == semver, releases.c.deployed_at_ms.is_not(None))
    )
    return frozenset(row.server for row in rows)


async def status_changes(connection: AsyncConnection, servers: Iterable[str]) -> Mapping[str, int]:
    """When the lifecycle of these servers changed last, in milliseconds since the epoch."""
    rows = await connection.execute(
        select(history.c.server, func.max(history.c.at_ms).label("at_ms"))
        # The name of the field as JSON writes a key: within a value its quotes would be escaped.
        .where(history.c.server.in_(list(servers)), cast(history.c.fields, Text).like('%"lifecycle":%'))
        .group_by(history.c.server)
    )
    return {row.server: row.at_ms for row in rows}


async def manifests(
    connection: AsyncConnection, keys: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The manifests of releases, by server and digest, as they were pinned."""
    wanted = list(keys)
    if not wanted:
        return {}
    rows = await connection.execute(
        select(releases.c.server, releases.c.digest, releases.c.manifest).where(
            # Not pairs: SQLite would read the whole table for them. What is too much shares a digest with another.
            releases.c.server.in_({server for server, _ in wanted}),
            releases.c.digest.in_({digest for _, digest in wanted}),
        )
    )
    return {(row.server, row.digest): row.manifest for row in rows}


def _versions(rows: list[Any]) -> list[ReleaseVersion]:
    ends = [*(row.deployed_at_ms for row in rows[1:]), None]
    return [
        ReleaseVersion(row.semver, row.digest, row.deployed_at_ms, end) for row, end in zip(rows, ends, strict=True)
    ]
