"""The tools of `prod/presto`, thin: who may use them stands in `policies/`, what they do in `warehouse`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import AfterValidator, Field

from pegboard import (
    Server,
    ToolError,
    authorize_tool,
    confirm,
    current_caller,
    requires_approval,
    saves,
)
from pegboard_presto import ads
from pegboard_presto.asking import (
    LIMITS,
    anothers,
    distinct,
    queries,
    reads_much,
    warehouse_of,
    what_is_dropped,
    what_is_written,
)
from pegboard_presto.limits import for_a_model
from pegboard_presto.results import (
    DroppedTable,
    DroppedTables,
    QueryResult,
    ResultColumn,
    RevenueMetrics,
    TableDescription,
    TableList,
    WrittenTable,
)
from pegboard_presto.warehouse import Warehouse, open_warehouse


@asynccontextmanager
async def _lifespan(_: Any) -> AsyncIterator[Warehouse]:
    state = os.environ.get("PEGBOARD_STATE", "")
    async with open_warehouse(LIMITS, Path(state) if state else None) as warehouse:
        yield warehouse


server = Server(
    instructions=(
        "The warehouse in Presto SQL. Look at list_tables and describe_table first, then ask with run_query; "
        f"aggregate in SQL rather than fetching many rows. {for_a_model(LIMITS)}"
    ),
    lifespan=_lifespan,
)

_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)

Sql = Annotated[
    str,
    Field(
        description="one query in Presto SQL",
        examples=["SELECT count(*) FROM flights"],
        json_schema_extra={"contentMediaType": "application/sql"},
    ),
]
MaxRows = Annotated[int, Field(ge=1, le=1000, description="rows to show at most")]


@server.tool(title="Run a query", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=12)
async def run_query(
    sql: Sql,
    ctx: Context[Any, Any],
    max_rows: MaxRows = 200,
) -> QueryResult:
    """Run one read-only query in Presto SQL (SELECT, WITH, UNION, VALUES; SHOW TABLES, DESCRIBE) and return its rows.

    Table names are plain, without catalog or schema. Integer division is Presto's: 7 / 2 is 3. Times are UTC.
    Time, bytes read and memory are limited; a refusal says by what and how to ask for less.
    When rows or values were cut, `truncated` is true and `notice` says how to get the rest.
    """
    async with queries.turn():
        return await (await warehouse_of(ctx)).query(sql, max_rows)


@server.tool(title="List tables", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=2)
async def list_tables(ctx: Context[Any, Any]) -> TableList:
    """List the tables that run_query can read, with what they hold and how many rows they have.

    Use it before the first query.
    """
    return (await warehouse_of(ctx)).list()


@server.tool(title="Describe a table", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=3)
async def describe_table(
    table: Annotated[str, Field(description="a name from list_tables", examples=["flights"])], ctx: Context[Any, Any]
) -> TableDescription:
    """Describe one table: its columns with types and meaning, its row count, and three rows of it.

    Use it before a query names columns of the table.
    """
    return await (await warehouse_of(ctx)).describe(table)


@server.tool(title="Run an expensive query", annotations=_READS)
@authorize_tool(policy="granted")
@requires_approval(by="caller", when=reads_much, why="It reads much more than a query usually does.")
@saves(minutes=12)
async def run_expensive_query(sql: Sql, ctx: Context[Any, Any], max_rows: MaxRows = 200) -> QueryResult:
    """Run one read-only query that reads more than run_query may; use run_query for all others.

    One that reads no more than run_query may runs at once. For one that reads more, the person you work for is asked
    on a page, which shows what it would read; repeat the same call once they said yes.
    """
    async with queries.turn():
        return await (await warehouse_of(ctx)).query(sql, max_rows, costly=True)


@server.tool(title="Overwrite a table", annotations=_WRITES)
@authorize_tool(policy="write")
@requires_approval(by="owner", when=anothers, preview=what_is_written, why="Somebody else wrote this table.")
@confirm("Overwrite {table}?", preview=what_is_written)
@saves(minutes=15)
async def overwrite_table(
    table: Annotated[
        str, Field(max_length=100, description="a table of people's own, or a new name", examples=["late_carriers"])
    ],
    sql: Sql,
    ctx: Context[Any, Any],
) -> WrittenTable:
    """Replace one of people's own tables by the rows of a query, or make it. The warehouse's tables stay as they are.

    The person you work for confirms it first, with a dry run before their eyes. Where somebody else wrote the table,
    the owner of this server approves it instead. Every column needs a name. Whoever can use this server can read the
    table.
    """
    async with queries.turn():
        name, before, written = await (await warehouse_of(ctx)).overwrite(table, sql, current_caller().sub)
    return WrittenTable(
        table=name,
        rows_before=before,
        rows=written.rows,
        columns=[ResultColumn(name=column.name, type=column.type) for column in written.columns],
        sql=written.sql,
    )


@server.tool(title="Drop tables", annotations=_WRITES)
@authorize_tool(policy="write")
@requires_approval(by="owner", each="tables", preview=what_is_dropped, expires=timedelta(days=1))
@saves(minutes=5)
async def drop_tables(
    tables: Annotated[
        list[Annotated[str, Field(max_length=100)]],
        Field(min_length=1, max_length=LIMITS.own_tables, description="names of people's own tables"),
        AfterValidator(distinct),
    ],
    ctx: Context[Any, Any],
) -> DroppedTables:
    """Drop tables of people's own for good. Use it when a person asked for exactly these, all of them in one call.

    The owner of this server decides on each table. Those that were approved are dropped together, or, should one not
    be there any more, none of them.
    """
    async with queries.turn():
        dropped = await (await warehouse_of(ctx)).drop(tables)
    return DroppedTables(dropped=[DroppedTable(table=table.name, rows=table.rows) for table in dropped])


@server.tool(title="Ads revenue metrics", annotations=_READS)
@authorize_tool(policy="ads-revenue")
@saves(minutes=20)
async def get_revenue_metrics(
    ctx: Context[Any, Any],
    start_day: Annotated[date | None, Field(description="first day; 29 days before end_day unless given")] = None,
    end_day: Annotated[date | None, Field(description="last day, included; the newest unless given")] = None,
    group_by: Annotated[ads.GroupBy, Field(description="what to sum by")] = "product",
    limit: Annotated[int, Field(ge=1, le=400, description="groups to show at most")] = 20,
) -> RevenueMetrics:
    """Ads impressions, clicks and revenue in US dollars, summed by product, campaign, day or month, with the total.

    Use it when somebody asks what ads brought in, or how it developed. Without arguments: the newest 30 days by
    product. The data is synthetic and covers the days of 2013.
    """
    last = end_day or ads.LAST_DAY
    first = start_day or max(last - timedelta(days=29), ads.FIRST_DAY)
    if first > last:
        raise ToolError(f"start_day {first} is after end_day {last}: exchange them.")
    if last < ads.FIRST_DAY or first > ads.LAST_DAY:
        raise ToolError(f"There is no data between {first} and {last}: it covers {ads.FIRST_DAY} to {ads.LAST_DAY}.")
    return await (await warehouse_of(ctx)).revenue(first, last, group_by, limit)
