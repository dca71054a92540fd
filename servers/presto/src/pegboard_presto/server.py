"""The tools of `prod/presto`, thin: who may use them stands in `policies/`, what they do in `warehouse`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import Field

from pegboard import ConcurrencyLimit, Server, ToolError, authorize_tool, saves
from pegboard_presto import ads
from pegboard_presto.limits import Limits, for_a_model
from pegboard_presto.results import QueryResult, RevenueMetrics, TableDescription, TableList
from pegboard_presto.warehouse import Warehouse, open_warehouse, table_list

LIMITS = Limits()

queries = ConcurrencyLimit(
    "queries",
    per_caller=LIMITS.per_caller,
    at_once=LIMITS.at_once,
    waiting=LIMITS.waiting,
    wait_s=LIMITS.wait_seconds,
)


@asynccontextmanager
async def _lifespan(_: Any) -> AsyncIterator[Warehouse]:
    async with open_warehouse(LIMITS) as warehouse:
        yield warehouse


server = Server(
    instructions=(
        "The warehouse in Presto SQL. Look at list_tables and describe_table first, then ask with run_query; "
        f"aggregate in SQL rather than fetching many rows. {for_a_model(LIMITS)}"
    ),
    lifespan=_lifespan,
)

_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


def _warehouse(ctx: Context[Any, Any]) -> Warehouse:
    warehouse = ctx.request_context.lifespan_context
    assert isinstance(warehouse, Warehouse)  # noqa: S101 - what the lifespan yields
    return warehouse


@server.tool(title="Run a query", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=12)
async def run_query(
    sql: Annotated[str, Field(description="one query in Presto SQL", examples=["SELECT count(*) FROM flights"])],
    ctx: Context[Any, Any],
    max_rows: Annotated[int, Field(ge=1, le=1000, description="rows to show at most")] = 200,
) -> QueryResult:
    """Run one read-only query in Presto SQL (SELECT, WITH, UNION, VALUES; SHOW TABLES, DESCRIBE) and return its rows.

    Table names are plain, without catalog or schema. Integer division is Presto's: 7 / 2 is 3. Times are UTC.
    Time, bytes read and memory are limited; a refusal says by what and how to ask for less.
    When rows or values were cut, `truncated` is true and `notice` says how to get the rest.
    """
    async with queries.turn():
        return await _warehouse(ctx).query(sql, max_rows)


@server.tool(title="List tables", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=2)
async def list_tables() -> TableList:
    """List the tables that run_query can read, with what they hold and how many rows they have."""
    return table_list()


@server.tool(title="Describe a table", annotations=_READS)
@authorize_tool(policy="granted")
@saves(minutes=3)
async def describe_table(
    table: Annotated[str, Field(description="a name from list_tables", examples=["flights"])], ctx: Context[Any, Any]
) -> TableDescription:
    """Describe one table: its columns with types and meaning, its row count, and three rows of it."""
    return await _warehouse(ctx).describe(table)


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

    Without arguments: the newest 30 days by product. The data is synthetic and covers the days of 2013.
    """
    last = end_day or ads.LAST_DAY
    first = start_day or max(last - timedelta(days=29), ads.FIRST_DAY)
    if first > last:
        raise ToolError(f"start_day {first} is after end_day {last}: exchange them.")
    if last < ads.FIRST_DAY or first > ads.LAST_DAY:
        raise ToolError(f"There is no data between {first} and {last}: it covers {ads.FIRST_DAY} to {ads.LAST_DAY}.")
    return await _warehouse(ctx).revenue(first, last, group_by, limit)
