"""The walk behind `pegboard explain`: every layer in order, up to where a call ends."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pegboard.core.access import RULES
from tests.hub.company import Company, Hub

pytestmark = pytest.mark.anyio

TO_THE_SERVER = ["route", "token", *(rule.name for rule in RULES), "server", "gate"]
_BEHIND = ("tool", "policy:list", "tool:stop", "tool:scope", "policy:call", "tool:approval")
TO_THE_TOOL = [*TO_THE_SERVER[:-2], "method", *TO_THE_SERVER[-2:], *_BEHIND]


async def walked(hub: Hub, person: str, **query: str) -> dict[str, dict[str, Any]]:
    answer = (await hub.api(person, "explain", server="prod/presto", **query)).json()
    return {step["rule"]: step for step in answer["steps"]}


async def test_an_allowed_call_passes_every_layer_in_order(hub: Hub) -> None:
    steps = await walked(hub, "ana", tool="run_query")
    assert list(steps) == TO_THE_TOOL
    assert {step["outcome"] for step in steps.values()} == {"holds", "depends"}
    assert all(step["fact"] and step["source"] and step["ask"] for step in steps.values() if step["rule"] != "route")
    assert list(await walked(hub, "ana")) == TO_THE_SERVER


async def test_nothing_is_told_of_the_steps_behind_the_first_that_fails(hub: Hub) -> None:
    steps = await walked(hub, "sam", tool="get_revenue_metrics")
    assert (steps["group"]["outcome"], steps["group"]["ask"]) == ("fails", "Ask platform in #data-platform.")
    for rule in TO_THE_TOOL[TO_THE_TOOL.index("group") + 1 :]:
        assert {steps[rule][each] for each in ("outcome", "fact", "source", "ask")} == {"not reached", ""}


async def test_a_server_that_is_down_ends_the_walk_of_those_alone_who_may_reach_it(
    hub: Hub, company: Company
) -> None:
    down = {"name": "prod/presto", "state": "down", "since": 1, "restarts": 3}
    company.report(at=time.time(), isolation={"mode": "user", "why": ""}, processes=[down])
    assert (await walked(hub, "ana"))["server"]["outcome"] == "fails"
    assert (await walked(hub, "sam"))["server"]["outcome"] == "not reached"


async def test_a_hidden_tool_is_walked_as_an_absent_one_with_arguments_too(hub: Hub) -> None:
    arguments = json.dumps({"days": 7})
    hidden = await walked(hub, "fay", tool="get_revenue_metrics", arguments=arguments)
    assert hidden == await walked(hub, "fay", tool="no_such_tool_at_all", arguments=arguments)
    assert hidden["tool"]["outcome"] == "fails"


@pytest.mark.parametrize(
    "query", [{"arguments": "[1]", "tool": "x"}, {"arguments": "{", "tool": "x"}, {"arguments": "{}"}]
)
async def test_arguments_that_no_call_could_carry_are_refused(hub: Hub, query: dict[str, str]) -> None:
    response = await hub.api("ana", "explain", server="prod/presto", **query)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
