"""Rows for every table of any revision of the schema, made from what the tables themselves say of their columns."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    null,
)

Row = dict[str, Any]
Tables = dict[str, list[Row]]

DAY_MS = 86_400_000
AT_MS = 1_790_000_000_000
ODD = "  \"quoted\" 'too' 100% \\ \t\n<b>&amp; é漢字😀\u202e"
NAMES = ("prod/presto", "dev/scratch", f"{'n' * 32}/{'s' * 32}")

MANIFESTS = (
    {
        "name": "presto",
        "title": "Presto — 漢字",
        "description": "Query the warehouse",
        "owner": "platform",
        "support_channel": "#data-platform",
        "sensitivity": "confidential",
        "gallery": True,
        "requests": {"business_groups": ["ads-eng"], "surfaces": ["cli"]},
    },
    {"name": "scratch", "description": "Echo", "owner": "tools-team", "support_channel": "#tools"},
    {"name": "s", "title": None, "description": ODD, "owner": "", "support_channel": "", "gallery": False},
    {"name": "presto", "description": "Newer words", "owner": "ads-eng", "support_channel": "#later"},
)
DIGESTS = tuple(hashlib.sha256(str(number).encode()).hexdigest() for number in range(4))

OF_COLUMN: dict[str, tuple[Any, ...]] = {
    "server": NAMES,
    "servers.name": NAMES,
    "servers.registered": (True, True, False),
    "servers.release": (DIGESTS[0], None, DIGESTS[2]),
    "servers.lifecycle": ("live", "approved", "retired"),
    "releases.digest": DIGESTS,
    "releases.manifest": MANIFESTS,
    "releases.seen_at_ms": (AT_MS, AT_MS + 1, 0, AT_MS + DAY_MS),
    "release": DIGESTS[:3],
    "calls.kind": ("intent", "denial", "edge"),
    "calls.at_ms": (AT_MS, AT_MS + DAY_MS, 0),
    "calls.sub": ("ana", "ü" * 255, ""),
    "calls.tool": ("tool-0", "", "name-2"),
    "calls.status": ("ok", "", ""),
    "outcomes.status": ("ok", "tool_error", "cancelled"),
    "tools.name": ("tool-0", "t" * 64, "name-2"),
    "tools.minutes_saved": (6.5, 0.0, 1e300),
    "grants.kind": ("group", "surface", "channel"),
}
"""Values that migrations read, by row; the others follow from a column's type. Some by name in whichever table."""

COUNTS = {"releases": 4}
"""Rows of a table where there are not three: one server has a second release."""


def reflected(connection: Connection) -> list[Table]:
    """The tables that there are, each after those that it refers to."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def fill(connection: Connection) -> None:
    """Fill every table that there is: a plain row, one of the largest values, and one of the least."""
    made: dict[str, list[Row]] = {}
    for table in reflected(connection):
        rows = [_row(table, number, made) for number in range(COUNTS.get(table.name, 3))]
        made[table.name] = rows
        for row in rows:
            connection.execute(table.insert().values(row))


def everything(connection: Connection) -> Tables:
    """All rows of all tables."""
    return {
        table.name: [dict(row._mapping) for row in connection.execute(table.select())]
        for table in reflected(connection)
    }


def _row(table: Table, number: int, made: dict[str, list[Row]]) -> Row:
    row = {column.name: _value(table, column, number) for column in table.columns}
    for key in table.foreign_key_constraints:
        others = made[key.referred_table.name]
        for element in key.elements:
            row[element.parent.name] = others[number % len(others)][element.column.name]
    return row


def _value(table: Table, column: Column[Any], number: int) -> Any:
    for name in (f"{table.name}.{column.name}", column.name):
        if name in OF_COLUMN:
            return OF_COLUMN[name][number % len(OF_COLUMN[name])]
    unique = column.primary_key or any(index.unique and column.name in index.columns for index in table.indexes)
    if number == 2 and column.nullable and not unique:
        return null()
    return _of_type(column, number)


def _of_type(column: Column[Any], number: int) -> Any:
    kind = column.type
    if isinstance(kind, Boolean):
        return number != 1
    if isinstance(kind, JSON):
        return ({column.name: [1, 2.5, None, True]}, {ODD: {"deep": [[{"é": ODD}]], "large": 2**53}}, {})[number % 3]
    if isinstance(kind, Float):
        return (12.5, 1.7976931348623157e308, 0.0)[number % 3]
    if isinstance(kind, Integer):
        large = isinstance(kind, BigInteger)
        return (AT_MS if large else 7, 2**63 - 1 if large else 2**31 - 1, 0)[number % 3]
    if isinstance(kind, LargeBinary):
        return (b"plain", bytes(range(256)) * 80, b"")[number % 3]
    assert isinstance(kind, String), f"{column}: rows for {kind} are wanted"
    length = kind.length or 20_000
    return (f"{column.name}-0"[:length], (ODD + "ü" * length)[:length], "")[number % 3]
