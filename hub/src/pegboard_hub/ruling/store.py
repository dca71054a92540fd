"""The table of versions of coarse rules."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.coarse import rules_as_json, rules_from_json
from pegboard_hub.registry.history import Actor
from pegboard_hub.ruling.model import NOTHING_KEPT, Kept, Version, rule_versions

_MADE = [each for each in rule_versions.c if each.name not in ("text", "rules", "since")]


async def newest(db: AsyncConnection) -> int:
    """The number of the version in force; 0 while there is none."""
    return int(await db.scalar(select(func.max(rule_versions.c.version))) or 0)


async def find(db: AsyncConnection, version: int) -> Kept | None:
    """One version; None where there is none of that number.

    Raises:
        ConfigurationError: its rules are of a newer Pegboard.
    """
    if version == 0:
        return NOTHING_KEPT
    row = (await db.execute(select(rule_versions).where(rule_versions.c.version == version))).one_or_none()
    if row is None:
        return None
    return Kept(rules_from_json(row.rules, row.version), _version(row), row.text, row.since)


async def append(db: AsyncConnection, kept: Kept) -> None:
    """Keep a new version, in the transaction that found its number."""
    made = kept.made
    assert made is not None  # noqa: S101 - version 0 is never kept
    row = {
        "version": made.version,
        "at_ms": made.at_ms,
        "action": made.action,
        "reverts_to": made.reverts_to,
        "why": made.why,
        "actor": made.by.sub,
        "actor_kind": made.by.kind,
        "text": kept.text,
        "rules": rules_as_json(kept.rules.rules),
        "since": dict(kept.since),
    }
    await db.execute(insert(rule_versions).values(row))


async def history(db: AsyncConnection, limit: int) -> list[Version]:
    """Every version, newest first."""
    query = select(*_MADE).order_by(rule_versions.c.version.desc()).limit(limit)
    return [_version(row) for row in await db.execute(query)]


def _version(row: Any) -> Version:
    return Version(row.version, row.at_ms, row.action, row.reverts_to, row.why, Actor(row.actor, row.actor_kind))
