"""prod/presto as callers meet it: who sees which tool, and what the tools answer, in both eras."""

from collections.abc import AsyncIterator

import pytest

from pegboard.core.record import Denial, Intent, Outcome
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

OPEN_TOOLS = ["describe_table", "list_tables", "run_expensive_query", "run_query"]
WRITING_TOOLS = ["drop_tables", "overwrite_table"]


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """Both protocol eras."""
    return str(request.param)


async def _tools(hub: InMemoryHub, person: str, group: str, era: str) -> list[str]:
    async with hub.client(person, groups=[group], surface="cli", era=era) as client:
        return sorted(tool.name for tool in (await client.list_tools()).tools)


async def test_only_ads_engineering_sees_revenue(hub: InMemoryHub, era: str) -> None:
    assert await _tools(hub, "ana", "ads-eng", era) == sorted([*OPEN_TOOLS, *WRITING_TOOLS, "get_revenue_metrics"])
    assert await _tools(hub, "fay", "finance", era) == OPEN_TOOLS


async def test_revenue_answers_others_as_a_tool_that_does_not_exist(hub: InMemoryHub, era: str) -> None:
    async with hub.client("fay", groups=["finance"], surface="cli", era=era) as client:
        hidden = await client.call_tool("get_revenue_metrics", {})
        unknown = await client.call_tool("no_such_tool", {})
    assert hidden.is_error
    assert hidden.content[0].text.replace("get_revenue_metrics", "X") == unknown.content[0].text.replace(
        "no_such_tool", "X"
    )
    assert all(isinstance(record, Denial) for record in hub.records)


async def test_a_query_through_the_protocol_is_answered_and_recorded(hub: InMemoryHub, era: str) -> None:
    async with hub.client("ana", groups=["ads-eng"], surface="ide", era=era) as client:
        result = await client.call_tool("run_query", {"sql": "SELECT count(*) AS flights FROM flights"})
    assert not result.is_error
    assert result.structured_content["rows"] == [[336_776]]
    assert result.structured_content["columns"] == [{"name": "flights", "type": "BIGINT"}]
    intent, outcome = hub.records
    assert isinstance(intent, Intent)
    assert isinstance(outcome, Outcome)
    assert (intent.tool, intent.policy, outcome.status) == ("run_query", "granted", "ok")


@pytest.fixture
async def ana(hub: InMemoryHub) -> AsyncIterator[object]:
    """A signed-in ads engineer's client."""
    async with hub.client("ana", groups=["ads-eng"], surface="cli") as client:
        yield client


async def test_tables_are_listed_and_described_without_revenue(ana) -> None:
    listed = (await ana.call_tool("list_tables", {})).structured_content["tables"]
    assert {table["name"]: table["row_count"] for table in listed} == {
        "flights": 336_776, "airlines": 16, "airports": 1_458, "planes": 3_322, "weather": 26_115,
    }  # fmt: skip
    described = (await ana.call_tool("describe_table", {"table": "Flights"})).structured_content
    assert described["columns"][-1]["name"] == "time_hour"
    assert described["sample"][0][-1] == "2013-01-01T10:00:00"
    assert len(described["sample"]) == 3
    refused = await ana.call_tool("describe_table", {"table": "ads_revenue"})
    assert refused.is_error
    assert "There is no table 'ads_revenue'" in refused.content[0].text


async def test_revenue_has_sensible_defaults(ana) -> None:
    metrics = (await ana.call_tool("get_revenue_metrics", {})).structured_content
    assert (metrics["start_day"], metrics["end_day"], metrics["group_by"]) == ("2013-12-02", "2013-12-31", "product")
    assert len(metrics["rows"]) == 4
    assert metrics["source"].startswith("Synthetic data")
    cents = [int(row["revenue_usd"].replace(".", "")) for row in metrics["rows"]]
    assert cents == sorted(cents, reverse=True)
    assert sum(cents) == int(metrics["total"]["revenue_usd"].replace(".", ""))


async def test_revenue_equals_its_documented_arithmetic(ana) -> None:
    arguments = {"start_day": "2013-01-01", "end_day": "2013-12-31", "group_by": "campaign", "limit": 5}
    metrics = (await ana.call_tool("get_revenue_metrics", arguments)).structured_content
    impressions = clicks = cents = 0
    for d in range(365):
        for c in range(12):
            for p in range(4):
                shown = 1000 + (37 * d + 101 * c + 53 * p) % 900 + 250 * p
                clicked = shown * (2 + (d + 3 * c + 5 * p) % 5) // 100
                impressions, clicks = impressions + shown, clicks + clicked
                cents += clicked * (40 + (d + 7 * c + 11 * p) % 60)
    total = metrics["total"]
    assert (total["impressions"], total["clicks"]) == (impressions, clicks)
    assert total["revenue_usd"] == f"{cents // 100}.{cents % 100:02d}"
    assert len(metrics["rows"]) == 5
    assert metrics["notice"] == "Showing 5 of more groups; ask for a higher limit."


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("get_revenue_metrics", {"start_day": "2013-02-02", "end_day": "2013-02-01"}, "exchange them"),
        ("get_revenue_metrics", {"start_day": "2020-01-01", "end_day": "2020-01-02"}, "covers 2013-01-01"),
        ("get_revenue_metrics", {"end_day": "1999-12-31", "start_day": "1999-01-01"}, "There is no data between"),
        ("get_revenue_metrics", {"group_by": "day; DROP TABLE x"}, "'product', 'campaign', 'day' or 'month'"),
        ("get_revenue_metrics", {"start_day": "yesterday"}, "start_day"),
        ("run_query", {"sql": "SELECT 1", "max_rows": 1001}, "less than or equal to 1000"),
        ("run_query", {"sql": "SELECT * FROM ads_revenue"}, "There is no table 'ads_revenue'"),
    ],
)  # fmt: skip
async def test_bad_arguments_are_explained(ana, tool: str, arguments: dict[str, object], says: str) -> None:
    result = await ana.call_tool(tool, arguments)
    assert result.is_error
    assert says in result.content[0].text
