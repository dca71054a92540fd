"""What the operator stops: in the tables over a restart, in the bundles, and shown wherever somebody looks for it."""

from __future__ import annotations

import time

import pytest

from pegboard_hub.registry.tables import stops
from tests.hub.company import Company, Hub, opened
from tests.hub.test_registry import edge_bundle, own_bundle, rows

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

WHY = "it counts <b>twice</b>, 100 %"
STOPPED = f'stopped = "{WHY}."\n'
STOPPED_TOOL = f'stopped_tools = {{ run_query = "{WHY}" }}\n'


async def stop(hub: Hub, company: Company, line: str) -> None:
    """Put a line into the grants of prod/presto; an empty one ends every stop."""
    kept = [each for each in company.grants.read_text().splitlines() if not each.startswith("stopped")]
    at = kept.index('[servers."prod/presto"]') + 1
    company.grants.write_text("\n".join([*kept[:at], line, *kept[at:]]))
    await hub.parts.registry.refresh()


async def test_a_stop_reaches_edge_and_server_with_a_new_version_and_so_does_its_end(
    hub: Hub, company: Company
) -> None:
    before = own_bundle(company, "prod/presto")
    await stop(hub, company, STOPPED + STOPPED_TOOL)
    edge, own = edge_bundle(company), own_bundle(company, "prod/presto")
    for bundled in (edge.servers[1], own.servers[0]):
        assert bundled.server == "prod/presto"
        assert bundled.stopped == WHY
        assert bundled.stopped_tools == {"run_query": WHY}
        assert bundled.sensitivity == "confidential"
    assert own.version > before.version
    assert (edge.servers[0].stopped, edge.servers[0].stopped_tools) == ("", {})
    await stop(hub, company, "")
    assert own_bundle(company, "prod/presto").servers == before.servers
    assert await rows(hub, stops) == []


async def test_a_stop_outlives_a_restart_of_the_hub_with_a_grants_file_that_is_broken(company: Company) -> None:
    async with opened(company) as hub:
        await stop(hub, company, STOPPED)
    company.grants.write_text("broken")
    async with opened(company) as hub:
        found = hub.parts.registry.current.deployed("prod/presto")
        assert found is not None
        assert found.stopped == WHY
        assert edge_bundle(company).servers[1].stopped == WHY


async def test_explain_says_who_is_stopped_why_and_by_what(hub: Hub, company: Company) -> None:
    await stop(hub, company, STOPPED)
    answer = (await hub.api("ana", "explain", server="prod/presto", tool="run_query")).json()
    assert answer["allowed"] is False
    assert (answer["refusal"]["code"], answer["refusal"]["layer"]) == ("stopped", "edge")
    step = next(step for step in answer["steps"] if step["rule"] == "stop")
    assert (step["outcome"], step["fact"]) == ("fails", f"stopped: {WHY}")
    assert step["source"] == "the list of stops"
    assert WHY not in (await hub.api("sam", "explain", server="prod/presto")).text


async def test_explain_of_a_stopped_tool_tells_nothing_to_those_from_whom_it_is_hidden(
    hub: Hub, company: Company
) -> None:
    await stop(hub, company, f'stopped_tools = {{ get_revenue_metrics = "{WHY}" }}\n')
    seen = (await hub.api("ana", "explain", server="prod/presto", tool="get_revenue_metrics")).json()
    step = {step["rule"]: step for step in seen["steps"]}["tool:stop"]
    assert (step["outcome"], step["fact"], seen["refusal"]["reason"]) == ("fails", f"stopped: {WHY}", "tool_stopped")
    hidden = await hub.api("fay", "explain", server="prod/presto", tool="get_revenue_metrics")
    absent = await hub.api("fay", "explain", server="prod/presto", tool="no_such_tool_anywhere")
    assert hidden.json()["refusal"]["code"] == "tool_unavailable"
    assert hidden.json()["steps"] == absent.json()["steps"]
    assert hidden.json()["checks"] == absent.json()["checks"]


async def test_the_list_of_servers_shows_the_stop_to_those_who_could_use_it_otherwise(
    hub: Hub, company: Company
) -> None:
    await stop(hub, company, STOPPED + STOPPED_TOOL)
    found = {each["server"]: each for each in (await hub.api("ana", "servers")).json()["servers"]}
    assert found["prod/presto"]["stopped"] == WHY
    assert {tool["name"]: tool["stopped"] for tool in found["prod/presto"]["tools"]}["run_query"] == WHY
    assert found["dev/scratch"]["stopped"] == ""
    assert "prod/presto" not in (await hub.api("sam", "servers")).text


async def test_the_home_page_shows_the_stop_as_text_and_not_to_those_who_may_not_use_it(
    hub: Hub, company: Company
) -> None:
    await stop(hub, company, STOPPED + STOPPED_TOOL)
    escaped = "it counts &lt;b&gt;twice&lt;/b&gt;, 100 %."
    assert (await hub.page(**{"as": "ana"})).count(escaped) == 2
    assert escaped in await hub.page()
    page = await hub.page(**{"as": "sam"})
    assert escaped not in page
    assert '<span class="state stopped">stopped</span>' in page


async def test_the_home_page_says_of_a_server_that_does_not_run_why(hub: Hub, company: Company) -> None:
    company.grants.write_text(company.grants.read_text() + '[servers."dev/weather"]\nsource = "weather"\n')
    await hub.parts.registry.refresh()
    servers = {"dev/weather": "weather"}
    told = {"at": time.time(), "isolation": {"mode": "user"}, "servers": servers}
    company.report(**told)
    assert "Its release is being made" in await hub.page()
    company.report(**told, faults={"dev/weather": "is NOT deployed: <no> lock file"})
    page = await hub.page()
    assert '<span class="state failed">failed</span>' in page
    assert "is NOT deployed: &lt;no&gt; lock file" in page
