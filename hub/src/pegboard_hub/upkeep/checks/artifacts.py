"""Whether what deployments are made of is there, and what it is said to be."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from pegboard_hub.storage.errors import DatabaseUnreadable
from pegboard_hub.storage.schema import open_to_read
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, warning, well

CHECK_S: Final = 30.0
"""Seconds that reading them may take."""

MOST_NAMED: Final = 10

_NEEDED: Final = """
    SELECT DISTINCT s.server, u.digest
    FROM deployments d
    JOIN submissions s ON s.id IN (d.live, d.candidate, d.previous)
    JOIN artifact_uses u ON u.submission = s.id
    ORDER BY s.server, u.digest
"""

_MEND: Final = (
    "what runs goes on, and cannot be started anew: submit the server again, or restore a backup (pegboard restore)"
)


def artifacts(facts: Facts) -> Iterator[Finding]:
    """Read what each release needs that is live, on its way, or to be gone back to, and see whether it is that.

    In a PostgreSQL the bytes are not read: it keeps sums of its own, and runtimes verify each digest.
    """
    if facts.server or facts.database_url or not facts.home.database.exists():
        return
    try:
        with open_to_read(facts.home.database) as connection:
            yield from _looked_at(connection)
    except (DatabaseUnreadable, sqlite3.OperationalError):
        return  # `schema` and `database` say so


def _looked_at(connection: sqlite3.Connection) -> Iterator[Finding]:
    deadline = time.monotonic() + CHECK_S
    good: dict[str, bool | None] = {}
    spoilt: dict[str, str] = {}
    needed = list(connection.execute(_NEEDED))
    for server, digest in needed:
        if time.monotonic() > deadline:
            all_ = len({digest for _, digest in needed})
            yield warning(
                f"{len(good):,} of {all_:,} artifacts were read within {CHECK_S:.0f} s",
                "the others were not looked at; runtimes verify each before it is started",
            )
            break
        if digest not in good:
            good[digest] = _is_good(connection, digest)
        if not good[digest]:
            word = "is not there" if good[digest] is None else "is not what it was"
            spoilt.setdefault(server, f"{server}: the artifact {digest[:12]} {word}")
    for words in list(spoilt.values())[:MOST_NAMED]:
        yield must_mend(words, _MEND)
    if len(spoilt) > MOST_NAMED:
        yield must_mend(f"{len(spoilt) - MOST_NAMED} more servers have such artifacts", _MEND)
    if not spoilt:
        yield well(f"{plural(len(good), 'artifact')} of what is deployed is there and whole")


def _is_good(connection: sqlite3.Connection, digest: str) -> bool | None:
    """Whether an artifact is what its digest says; None: it is not there."""
    if connection.execute("SELECT 1 FROM artifacts WHERE digest = ?", (digest,)).fetchone() is None:
        return None
    hashed = hashlib.sha256()
    parts = "SELECT content FROM artifact_parts WHERE digest = ? ORDER BY part"
    for (part,) in connection.execute(parts, (digest,)):
        hashed.update(part)
    return hashed.hexdigest() == digest
