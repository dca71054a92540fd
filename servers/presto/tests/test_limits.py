"""A query that asks for too much is told the figure and the way out, and one person cannot take all turns."""

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp_types import CallToolResult
from pegboard_presto.limits import Limits, for_a_model, rows
from pegboard_presto.server import server
from pegboard_presto.warehouse import Warehouse

from pegboard import ToolError
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

LONG = "SELECT count(*) FROM flights a, flights b, flights c WHERE a.distance + b.distance > c.distance"


def test_the_readme_shows_every_limit_with_its_value() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for name, value, meaning in rows(Limits()):
        assert f"| `{name}` | {value} | {meaning} |" in readme


def test_a_model_is_told_the_limits_before_it_asks() -> None:
    assert for_a_model(Limits()) in str(server.instructions)


async def test_a_query_that_would_read_too_much_is_refused_before_it_runs(warehouse: Warehouse) -> None:
    wide = " UNION ALL ".join(f"SELECT * FROM flights WHERE distance > {least}" for least in range(12))  # noqa: S608
    with pytest.raises(ToolError, match=r"would read 3\d\d MB and may read 256 MB\. Name the columns"):
        await warehouse.query(wide, 1)


async def test_a_column_that_is_only_filtered_by_counts_as_read(warehouse: Warehouse) -> None:
    one = "SELECT min(year) FROM flights WHERE tailnum <> 'x' AND dep_time > 5 AND arr_time > "
    many = " UNION ALL ".join(f"{one}{least}" for least in range(80))
    with pytest.raises(ToolError, match="may read 256 MB"):
        await warehouse.query(many, 1)


async def test_a_cancelled_query_ends_as_cancelled_though_the_engine_stops_first(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sync = anyio.to_thread.run_sync

    async def tells_late(*arguments: Any, **options: Any) -> Any:
        result = await run_sync(*arguments, **options)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)  # the machine is busy
        return result

    monkeypatch.setattr("pegboard_presto.engine.anyio.to_thread.run_sync", tells_late)
    with anyio.move_on_after(0.2) as scope:
        await warehouse.query(LONG, 1)
    assert scope.cancelled_caught


async def test_a_person_at_the_limit_is_refused_at_once_and_gets_the_places_back(hub: InMemoryHub) -> None:
    async with hub.client("fay", groups=["finance"]) as client:
        async with anyio.create_task_group() as group:
            for _ in range(Limits().per_caller):
                group.start_soon(client.call_tool, "run_query", {"sql": LONG})
            with anyio.fail_after(10):
                while len(hub.records) < Limits().per_caller:  # noqa: ASYNC110 - records tell nobody that they are there
                    await anyio.sleep(0.01)
            refused = await client.call_tool("run_query", {"sql": "SELECT 1"})
            group.cancel_scope.cancel()
        assert isinstance(refused, CallToolResult)
        assert "You have 2 queries running or waiting here, and one caller may have 2." in str(refused.content)
