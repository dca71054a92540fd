"""How many bytes a query would read, told by the engine's own plan before anything runs.

The figure is an upper bound for the plan: every column that a scan names, over all rows of its table, before
compression and without what the engine skips (zone maps, an early LIMIT). A recursive query scans again in each step;
there and in joins without a condition it is time that is spent, not bytes, and the limit on time that holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from pegboard import ToolError

Sizes = Mapping[str, Mapping[str, int]]
"""Bytes of each column of each table, before compression."""

_WORD = re.compile(r"\w+")
_WIDTHS = {"BOOLEAN": 1, "INTEGER": 4, "DATE": 4, "DOUBLE": 8, "TIMESTAMP": 8, "BIGINT": 8, "HUGEINT": 16}


def column_sizes(database: duckdb.DuckDBPyConnection) -> Sizes:
    """Measure the columns of every table: rows times the type's width, or the length of every value as text."""
    found: dict[str, dict[str, int]] = {}
    columns = database.execute("SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal")
    for table, column, kind in columns.fetchall():
        text = f'coalesce(sum(strlen(CAST("{column}" AS VARCHAR))), 0)'
        sized = f"count(*) * {_WIDTHS[kind]}" if kind in _WIDTHS else text
        row = database.execute(f'SELECT {sized} FROM "{table}"').fetchone()  # noqa: S608 - our own names
        found.setdefault(table, {})[column] = int(row[0]) if row else 0
    return found


def planned_mb(cursor: duckdb.DuckDBPyConnection, sql: str, sizes: Sizes) -> float:
    """How many MB (of 10^6 bytes) a query's plan reads.

    Args:
        cursor: of the engine that will run it; the query is planned and not run.
        sql: one query, already let through by `guard.check`.
        sizes: of the tables' columns.

    Raises:
        duckdb.Error: it cannot be planned.
    """
    row = cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
    plan = json.loads(row[1]) if row else []
    return sum(_bytes(scan, sizes) for scan in _scans(plan)) / 1e6


def check_scan(planned_mb: float, limit_mb: int, otherwise: str = "") -> None:
    """Refuse a query whose plan reads more than `limit_mb` MB; `otherwise` is one more way out.

    Raises:
        ToolError: it would read more.
    """
    if planned_mb > limit_mb:
        raise ToolError(
            f"The query would read {planned_mb:,.0f} MB and may read {limit_mb} MB. Name the columns you need "
            f"instead of *, read each table once, and aggregate before you join.{otherwise}"
        )


def _scans(plan: Any) -> Iterator[Mapping[str, Any]]:
    """What each table scan of a plan says of itself."""
    waiting = list(plan)
    while waiting:
        node = waiting.pop()
        waiting.extend(node.get("children", ()))
        if "Table" in (facts := node.get("extra_info", {})):
            yield facts


def _bytes(scan: Mapping[str, Any], sizes: Sizes) -> int:
    columns = sizes.get(str(scan["Table"]).rpartition(".")[2], {})
    named = set(_WORD.findall(f"{scan.get('Projections', '')} {scan.get('Filters', '')}"))
    return sum(size for column, size in columns.items() if column in named)
