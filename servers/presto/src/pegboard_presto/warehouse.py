"""The two engines of one process: the open tables, and ads revenue apart from them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import duckdb

from pegboard_presto import ads, guard
from pegboard_presto.ads import GroupBy
from pegboard_presto.build import ADS_FILE, OPEN_FILE
from pegboard_presto.engine import Engine, Fetched
from pegboard_presto.limits import Limits
from pegboard_presto.memory import bounded_memory
from pegboard_presto.results import (
    ColumnDescription,
    Cutter,
    QueryResult,
    ResultColumn,
    RevenueMetrics,
    RevenueRow,
    TableDescription,
    TableList,
    TableSummary,
)
from pegboard_presto.scan import check_scan
from pegboard_presto.sql import Describe, Select, ShowTables, read_presto
from pegboard_presto.tables import TABLES

ADS_LIMITS = Limits(memory_mb=32, threads=1)

SMALL_AT_ONCE = 4
"""Statements of the server's own that run beside callers' queries; they take milliseconds."""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """What the tools work on. No statement of a caller's ever reaches `ads`."""

    open: Engine
    ads: Engine
    parsing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    """One statement is parsed at a time: it is all interpreter's work, so more would only wait for one another."""

    small: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(SMALL_AT_ONCE))

    async def query(self, sql: str, max_rows: int) -> QueryResult:
        """Run a caller's Presto SQL on the open tables.

        Raises:
            ToolError: it was refused, failed, or took too long.
        """
        match await anyio.to_thread.run_sync(read_presto, sql, max_rows, limiter=self.parsing):
            case ShowTables():
                return _listing()
            case Describe(table):
                return _columns(table)
            case Select(translated):
                return await self._select(translated, max_rows)

    async def _select(self, sql: str, max_rows: int) -> QueryResult:
        def checked(cursor: duckdb.DuckDBPyConnection) -> str:
            guard.check(cursor, sql, self.open.reserved)
            check_scan(cursor, sql, self.open.sizes, self.open.limits.scan_mb)
            return sql

        return _result(await self.open.run(checked, max_rows=max_rows + 1), sql, max_rows)

    async def describe(self, name: str) -> TableDescription:
        """One open table with three of its rows.

        Raises:
            ToolError: there is no such table.
        """
        table = TABLES.get(name.strip().lower())
        if table is None:
            raise guard.unknown_table(name)
        async with self.small:
            sample = await self.open.run(lambda _: f"SELECT * FROM {table.name} LIMIT 3", max_rows=3)  # noqa: S608
        return TableDescription(
            name=table.name,
            comment=table.comment,
            row_count=table.rows,
            columns=[ColumnDescription(name=c.name, type=c.type, comment=c.comment) for c in table.columns],
            sample=Cutter().rows(sample.rows),
        )

    async def revenue(self, first: date, last: date, group_by: GroupBy, limit: int) -> RevenueMetrics:
        """Ads revenue between two days, both included."""
        values = {"first": first, "last": last, "rows": limit + 1}
        async with self.small:
            found = await self.ads.run(lambda _: ads.metrics_query(group_by), values, max_rows=limit + 2)
        *groups, total = [_revenue_row(row) for row in found.rows]
        cut = len(groups) > limit
        return RevenueMetrics(
            start_day=first,
            end_day=last,
            group_by=group_by,
            rows=groups[:limit],
            total=total,
            notice=f"Showing {limit} of more groups; ask for a higher limit." if cut else "",
            source=ads.SYNTHETIC,
        )


@asynccontextmanager
async def open_warehouse(limits: Limits | None = None) -> AsyncIterator[Warehouse]:
    """Build the data in a child process, open it, and remove its files: a killed server leaves none behind.

    Raises:
        RuntimeError: the data could not be built; the child's last words are in it.
    """
    with tempfile.TemporaryDirectory(prefix="presto-") as folder:
        await anyio.to_thread.run_sync(_build, folder)
        warehouse = Warehouse(
            Engine(Path(folder, OPEN_FILE), limits or Limits()), Engine(Path(folder, ADS_FILE), ADS_LIMITS)
        )
    try:
        with bounded_memory():
            yield warehouse
    finally:
        warehouse.open.close()
        warehouse.ads.close()


def _build(folder: str) -> None:
    command = [sys.executable, "-m", "pegboard_presto.build", folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the tables could not be built: {done.stderr.strip().splitlines()[-1:]}")


def _result(fetched: Fetched, sql: str, max_rows: int) -> QueryResult:
    cutter = Cutter()
    rows = cutter.rows(fetched.rows[:max_rows])
    more = len(fetched.rows) > max_rows
    notices = []
    if more or cutter.cut_rows:
        notices.append(f"Showing {len(rows)} of more rows: add LIMIT, aggregate, or ask for max_rows up to 1000.")
    if cutter.cut_rows:
        notices.append("The rows are too large to show more: select fewer columns.")
    if cutter.cut_values:
        notices.append("Long values are cut: select a part of them.")
    return QueryResult(
        columns=[ResultColumn(name=name, type=kind) for name, kind in fetched.columns],
        rows=rows,
        row_count=len(rows),
        truncated=bool(notices),
        notice=" ".join(notices),
        elapsed_ms=round(fetched.elapsed_ms, 2),
        sql=sql,
    )


def _revenue_row(row: tuple[Any, ...]) -> RevenueRow:
    key, impressions, clicks, revenue = row
    rate = round(clicks / impressions, 6) if impressions else 0.0
    return RevenueRow(
        group=key or "all", impressions=impressions, clicks=clicks, click_rate=rate, revenue_usd=str(revenue)
    )


def table_list() -> TableList:
    """The open tables."""
    return TableList(
        tables=[
            TableSummary(name=table.name, comment=table.comment, row_count=table.rows, columns=len(table.columns))
            for table in TABLES.values()
        ]
    )


def _listing() -> QueryResult:
    return _static(("Table", "Comment"), [[table.name, table.comment] for table in TABLES.values()])


def _columns(name: str) -> QueryResult:
    table = TABLES.get(name.lower())
    if table is None:
        raise guard.unknown_table(name)
    return _static(("Column", "Type", "Comment"), [[c.name, c.type.lower(), c.comment] for c in table.columns])


def _static(names: tuple[str, ...], rows: list[list[Any]]) -> QueryResult:
    """A result that needs no engine, for SHOW and DESCRIBE."""
    columns = [ResultColumn(name=name, type="VARCHAR") for name in names]
    return QueryResult(
        columns=columns, rows=rows, row_count=len(rows), truncated=False, notice="", elapsed_ms=0.0, sql=""
    )
