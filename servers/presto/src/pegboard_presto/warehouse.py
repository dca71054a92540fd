"""What the tools do: ask the open tables, estimate, change people's own; and ads revenue, in an engine apart."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import duckdb

from pegboard import ToolError
from pegboard_presto import ads, guard
from pegboard_presto.ads import GroupBy
from pegboard_presto.build import ADS_FILE
from pegboard_presto.changing import Measured, Tables, read
from pegboard_presto.engine import Engine, Fetched, stop_all
from pegboard_presto.generations import Generation, built
from pegboard_presto.limits import Limits
from pegboard_presto.memory import bounded_memory
from pegboard_presto.own import OwnFile
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
from pegboard_presto.scan import check_scan, planned_mb
from pegboard_presto.sql import Describe, Select, ShowTables, read_presto
from pegboard_presto.tables import TABLES, Table

ADS_LIMITS = Limits(memory_mb=32, threads=1)

SMALL_AT_ONCE = 4
"""Statements of the server's own that run beside callers' queries; they take milliseconds."""


_PLANNED_ROWS = 1000
"""Rows that an estimate plans for: the most that a query shows."""

_ASK = " What must read more is run by run_expensive_query, which asks a person first."


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a query would cost: it is planned, and not run.

    Attributes:
        sql: in the engine's SQL.
        planned_mb: MB of columns that it reads at most, before compression.
    """

    sql: str
    planned_mb: float


class Warehouse:
    """What the tools work on. No statement of a caller's ever reaches `ads`."""

    def __init__(self, tables: Tables | Engine, ads: Engine) -> None:
        """Work on these; an engine alone is the open tables as they are, unchanging."""
        if isinstance(tables, Engine):
            tables = Tables(Generation(tables, TABLES, {}), tables.limits)
        self.tables = tables
        self.ads = ads
        # One statement is parsed at a time: it is all interpreter's work, so more would only wait for one another.
        self._parsing = anyio.CapacityLimiter(1)
        self._small = anyio.CapacityLimiter(SMALL_AT_ONCE)

    @property
    def open(self) -> Engine:
        """The engine on the open tables, as they are now."""
        return self.tables.now.engine

    async def query(self, sql: str, max_rows: int, *, costly: bool = False) -> QueryResult:
        """Run a caller's Presto SQL on the open tables.

        Args:
            sql: one statement.
            max_rows: to show.
            costly: with the limits of a query that somebody may have approved.

        Raises:
            ToolError: it was refused, failed, or took too long.
        """
        now = self.tables.now
        match await anyio.to_thread.run_sync(read_presto, sql, max_rows, limiter=self._parsing):
            case ShowTables():
                return _listing(now.tables)
            case Describe(table):
                return _columns(table, now.tables)
            case Select(translated):
                return await self._select(now, translated, max_rows, costly=costly)

    async def _select(self, now: Generation, sql: str, max_rows: int, *, costly: bool) -> QueryResult:
        limits = now.engine.limits
        most_mb, otherwise = (limits.most_scan_mb, "") if costly else (limits.scan_mb, _ASK)

        def checked(cursor: duckdb.DuckDBPyConnection) -> str:
            guard.check(cursor, sql, now.engine.reserved, now.tables)
            check_scan(planned_mb(cursor, sql, now.engine.sizes), most_mb, otherwise)
            return sql

        seconds = limits.most_seconds if costly else limits.seconds
        return _result(await now.engine.run(checked, max_rows=max_rows + 1, seconds=seconds), sql, max_rows)

    async def estimate(self, sql: str) -> Estimate:
        """What a caller's query would cost.

        Raises:
            ToolError: it would be refused.
        """
        now = self.tables.now
        found = await anyio.to_thread.run_sync(read_presto, sql, _PLANNED_ROWS, limiter=self._parsing)
        if not isinstance(found, Select):
            raise ToolError("SHOW and DESCRIBE cost nothing: ask them with run_query.")
        planned = 0.0

        def planning(cursor: duckdb.DuckDBPyConnection) -> str:
            nonlocal planned
            guard.check(cursor, found.sql, now.engine.reserved, now.tables)
            planned = planned_mb(cursor, found.sql, now.engine.sizes)
            check_scan(planned, now.engine.limits.most_scan_mb)
            return "SELECT 1"

        async with self._small:
            await now.engine.run(planning, max_rows=1)
        return Estimate(found.sql, planned)

    async def would_write(self, table: str, sql: str) -> tuple[str, Measured]:
        """The name of the table that would be written, and what would be in it; nothing is written.

        Raises:
            ToolError: it would be refused.
        """
        name = self.tables.name(table)
        measured = await self.tables.measure(await self._to_write(sql))
        self.tables.check_fits(measured, name)
        return name, measured

    async def overwrite(self, table: str, sql: str, by: str) -> tuple[str, int, Measured]:
        """Replace one of people's own tables by a query's rows, or make it: its name, its rows before, what it has.

        Raises:
            ToolError: nothing was changed.
        """
        name = self.tables.name(table)
        return name, *await self.tables.overwrite(name, await self._to_write(sql), by)

    async def drop(self, tables: list[str]) -> list[Table]:
        """Drop some of people's own tables: all, or none.

        Raises:
            ToolError: nothing was changed.
        """
        return await self.tables.drop(tables)

    def rows(self, name: str) -> int:
        """How many rows a table has; none where there is no such table."""
        found = self.tables.now.tables.get(name)
        return found.rows if found else 0

    async def _to_write(self, sql: str) -> str:
        return await anyio.to_thread.run_sync(read, sql, self.open.limits, limiter=self._parsing)

    async def describe(self, name: str) -> TableDescription:
        """One open table with three of its rows.

        Raises:
            ToolError: there is no such table.
        """
        now = self.tables.now
        table = now.tables.get(name.strip().lower())
        if table is None:
            raise guard.unknown_table(name, now.tables)
        async with self._small:
            sample = await now.engine.run(lambda _: f'SELECT * FROM "{table.name}" LIMIT 3', max_rows=3)  # noqa: S608
        return TableDescription(
            name=table.name,
            comment=table.comment,
            row_count=table.rows,
            columns=[ColumnDescription(name=c.name, type=c.type, comment=c.comment) for c in table.columns],
            sample=Cutter().rows(sample.rows),
        )

    def list(self) -> TableList:
        """The open tables."""
        return TableList(
            tables=[
                TableSummary(name=table.name, comment=table.comment, row_count=table.rows, columns=len(table.columns))
                for table in self.tables.now.tables.values()
            ]
        )

    async def revenue(self, first: date, last: date, group_by: GroupBy, limit: int) -> RevenueMetrics:
        """Ads revenue between two days, both included."""
        values = {"first": first, "last": last, "rows": limit + 1}
        async with self._small:
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
async def open_warehouse(limits: Limits | None = None, state: Path | None = None) -> AsyncIterator[Warehouse]:
    """Build the data in a child process, open it, and remove its files: a killed server leaves none behind.

    Args:
        limits: of queries and of people's own tables.
        state: the folder in which people's own tables are kept; without one they end with the warehouse.

    Raises:
        RuntimeError: the data could not be built; the child's last words are in it.
    """
    limits = limits or Limits()
    with ExitStack() as stack:
        kept = OwnFile(state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="presto-own-"))))
        with tempfile.TemporaryDirectory(prefix="presto-") as folder:
            now = await anyio.to_thread.run_sync(built, limits, kept, Path(folder))
            warehouse = Warehouse(Tables(now, limits, kept), Engine(Path(folder, ADS_FILE), ADS_LIMITS))
        try:
            with bounded_memory():
                yield warehouse
        finally:
            warehouse.tables.close()
            warehouse.ads.close()
            stop_all()


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


def _listing(tables: Mapping[str, Table]) -> QueryResult:
    return _static(("Table", "Comment"), [[table.name, table.comment] for table in tables.values()])


def _columns(name: str, tables: Mapping[str, Table]) -> QueryResult:
    table = tables.get(name.lower())
    if table is None:
        raise guard.unknown_table(name, tables)
    return _static(("Column", "Type", "Comment"), [[c.name, c.type.lower(), c.comment] for c in table.columns])


def _static(names: tuple[str, ...], rows: list[list[Any]]) -> QueryResult:
    """A result that needs no engine, for SHOW and DESCRIBE."""
    columns = [ResultColumn(name=name, type="VARCHAR") for name in names]
    return QueryResult(
        columns=columns, rows=rows, row_count=len(rows), truncated=False, notice="", elapsed_ms=0.0, sql=""
    )
