"""The ledger's own rows beside a caller's book: nothing lost, nothing twice, nothing made up.

It reads the database's tables, none of the figures that the hub counts from them.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import rfc8785

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from tests.system.survival.load import Book, Entry, Fate

_ROWS = """
SELECT calls.server, calls.arguments_digest, calls.request_id, calls.at_ms, outcomes.status
FROM calls LEFT JOIN outcomes ON outcomes.server = calls.server AND outcomes.id = calls.id
WHERE calls.kind = 'intent'
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An allowed call as the ledger has it; no status while there is no outcome."""

    server: str
    digest: str
    request_id: str
    at_ms: int
    status: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    """What does not agree. Empty everywhere but in `unknown`, which a kill must explain."""

    missing: list[Entry]
    twice: list[str]
    never_sent: list[Row]
    not_ok: list[Row]
    unknown: list[Row]


def rows(home: Home) -> list[Row]:
    """Every allowed call in the ledger."""
    with closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True)) as database:
        return [Row(*row) for row in database.execute(_ROWS)]


def audit(home: Home, book: Book, found: list[Row]) -> Audit:
    """Hold the ledger's rows to the book, call by call: by the digest of its arguments and the edge's request id."""
    sent = {digest(home, entry): entry for entry in book.entries}
    ended = {row.digest: row for row in found if row.status is not None}
    acknowledged = {key: entry for key, entry in sent.items() if entry.fate is Fate.ACKNOWLEDGED}
    missing = [
        entry
        for key, entry in acknowledged.items()
        if key not in ended or ended[key].request_id != entry.request_id or ended[key].status != "ok"
    ]
    return Audit(
        missing,
        [key for key, times in Counter(row.digest for row in found).items() if times > 1],
        [row for row in found if row.digest not in sent],
        [row for row in found if row.status not in (None, "ok")],
        [row for row in found if row.status is None],
    )


def digest(home: Home, entry: Entry) -> str:
    """The digest under which the server records a call's arguments."""
    return blake2b(
        rfc8785.dumps(entry.arguments), key=_key(home.credentials(ServerName.parse(entry.server))), digest_size=16
    ).hexdigest()


def _key(credentials: Path) -> bytes:
    return bytes.fromhex(json.loads(credentials.read_text(encoding="utf-8"))["digest_key"])
