"""What people are asked before a tool runs, and what they are shown: estimates and dry runs. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import unified_diff
from typing import Any

from mcp.server.mcpserver import Context

from pegboard import ConcurrencyLimit, Preview, current_caller
from pegboard.core.approval import Block
from pegboard_presto.limits import Limits
from pegboard_presto.tables import Column
from pegboard_presto.warehouse import Warehouse

LIMITS = Limits()

queries = ConcurrencyLimit(
    "queries",
    per_caller=LIMITS.per_caller,
    at_once=LIMITS.at_once,
    waiting=LIMITS.waiting,
    wait_s=LIMITS.wait_seconds,
)
"""Of callers' SQL that runs, dry runs included."""


async def warehouse_of(ctx: Context[Any, Any]) -> Warehouse:
    """What this server works on, with what another of its processes has written meanwhile.

    Raises:
        ToolError: another is writing, and does not end in time.
    """
    warehouse = ctx.request_context.lifespan_context
    assert isinstance(warehouse, Warehouse)  # noqa: S101 - what the lifespan yields
    await warehouse.tables.catch_up()
    return warehouse


async def reads_much(sql: str, ctx: Context[Any, Any]) -> bool | Preview:
    """Whether a query would read more than one may without being asked; it is planned and not run.

    Raises:
        ToolError: nobody could approve it: it is refused, or reads more than one may at all.
    """
    estimate = await (await warehouse_of(ctx)).estimate(sql)
    if estimate.planned_mb <= LIMITS.scan_mb:
        return False
    return Preview(
        what=f"Run one query for up to {LIMITS.most_seconds:g} s. It reads, and changes nothing.",
        cost=f"up to {estimate.planned_mb:,.0f} MB read; queries that are not asked about read {LIMITS.scan_mb} MB",
        blocks=(Block(title="What the engine runs", kind="sql", text=estimate.sql[:60_000]),),
    )


async def anothers(table: str, ctx: Context[Any, Any]) -> bool:
    """Whether somebody else wrote the table that would be overwritten.

    Raises:
        ToolError: no table may have this name.
    """
    tables = (await warehouse_of(ctx)).tables
    found = tables.now.notes.get(tables.name(table))
    return found is not None and found.by != current_caller().sub


async def what_is_written(table: str, sql: str, ctx: Context[Any, Any]) -> Preview:
    """A dry run: the query is counted and its first rows are looked at; nothing is written.

    Raises:
        ToolError: it would be refused.
    """
    warehouse = await warehouse_of(ctx)
    async with queries.turn():
        name, measured = await warehouse.would_write(table, sql)
        sample = await warehouse.query(sql, 5)
    found, note = warehouse.tables.now.tables.get(name), warehouse.tables.now.notes.get(name)
    before = "there is none so far"
    if found and note:
        before = f"its {_many(found.rows, 'row')}, written by {note.by}, {'is' if found.rows == 1 else 'are'} gone"
    new = f"{_many(measured.rows, 'row')} and {_many(len(measured.columns), 'column')}"
    return Preview(
        what=f"Write {new} to table {name}; {before}.",
        cost=f"{_mb(measured.planned_mb)} read, {_mb(measured.size / 1e6)} kept",
        blocks=(
            Block(
                title="Columns, before and after",
                kind="diff",
                text=_diff(name, found.columns if found else (), measured.columns),
            ),
            Block(title="First rows", kind="json", text=_first(sample.rows)),
        ),
    )


async def what_is_dropped(tables: list[str], ctx: Context[Any, Any]) -> Preview:
    """What goes with the one table that is to be decided on.

    Raises:
        ToolError: there is no such table of people's own.
    """
    known = (await warehouse_of(ctx)).tables
    notes = [known.own(name) for name in tables]
    found = [known.now.tables[note.table] for note in notes]
    what = "; ".join(f"drop table {table.name} with {_many(table.rows, 'row')}" for table in found)
    columns = "\n".join(f"{column.name} {column.type}" for table in found for column in table.columns)
    return Preview(
        what=f"{what[:1].upper()}{what[1:]}. Nobody can bring it back.",
        blocks=(
            Block(title="Whose it is", text="\n".join(table.comment for table in found)),
            Block(title="Its columns", text=columns[:60_000]),
        ),
    )


def distinct(tables: list[str]) -> list[str]:
    """Names of people's own tables, each once.

    Raises:
        ValueError: one stands there twice.
    """
    names = [table.strip().lower() for table in tables]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]} stands there twice")
    return tables


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _mb(size: float) -> str:
    return f"{size:,.1f} MB" if size >= 0.05 else "less than 0.1 MB"


def _diff(name: str, before: Iterable[Column], after: Iterable[Column]) -> str:
    one, other = ([f"{column.name} {column.type}" for column in columns] for columns in (before, after))
    lines = list(unified_diff(one, other, f"{name} now", f"{name} afterwards", lineterm="", n=1000))
    return "\n".join(lines or [f" {column}" for column in other])[:60_000]


def _first(rows: list[list[Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False)[:2_000] for row in rows)
