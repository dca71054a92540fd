"""The access check: one question or many, who may ask about whom, and how a wrong question is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hub.company import Company, Hub, opened, presto, scratch

pytestmark = pytest.mark.anyio

SPIFFE = "spiffe://example.org/reporting"
SMALL = (
    '@arguments("limit") permit (principal, action, resource) when { !(context has args) || context.args.limit < 9 };'
)


async def test_an_allowed_caller_is_told_so_and_nothing_else(hub: Hub) -> None:
    answer = (await hub.check("ana", {"server": "prod/presto", "tool": "run_query"}, on="ide")).json()
    assert answer == {
        "server": "prod/presto",
        "tool": "run_query",
        "subject": "ana",
        "sub_type": "person",
        "surface": "ide",
        "channel": None,
        "allowed": True,
        "depends_on": [],
        "layer": None,
        "rule": None,
        "reason": None,
        "approvals": [],
        "refusal": None,
    }


@pytest.mark.parametrize(
    ("asker", "question", "decided"),
    [
        ("ana", {"server": "dev/scratch", "surface": "chat"}, ("edge", "surface", "surface_not_granted")),
        ("sam", {"server": "prod/presto"}, ("edge", "group", "group_not_granted")),
        ("sam", {"server": "prod/presto", "tool": "run_query"}, ("edge", "group", "group_not_granted")),
        ("fay", {"server": "prod/presto", "tool": "get_revenue_metrics"}, ("server", "tool", "tool_unavailable")),
        ("fay", {"server": "prod/presto", "tool": "none"}, ("server", "tool", "tool_unavailable")),
        (
            "pat",
            {"server": "prod/presto", "tool": "get_revenue_metrics", "person": "fay"},
            ("server", "policy:list", "tool_unavailable"),
        ),
        ("pat", {"server": "prod/presto", "service": SPIFFE}, ("edge", "surface", "surface_not_granted")),
    ],
)
async def test_a_refused_caller_is_told_the_layer_the_rule_and_what_they_would_read(
    asked: Hub, asker: str, question: dict[str, str], decided: tuple[str, str, str]
) -> None:
    answer = (await asked.check(asker, question)).json()
    assert (answer["allowed"], (answer["layer"], answer["rule"], answer["reason"])) == (False, decided)
    assert (answer["refusal"]["layer"], answer["refusal"]["reason"]) == (decided[0], decided[2])
    assert "Ask " in answer["refusal"]["message"]


async def test_what_depends_on_arguments_says_so_until_they_are_given(company: Company) -> None:
    declared = presto()
    declared["policies"]["granted"] = SMALL
    company.deploy("prod/presto", declared)
    question: dict[str, Any] = {"server": "prod/presto", "tool": "run_query"}
    async with opened(company) as hub:
        without = (await hub.check("ana", question)).json()
        small = (await hub.check("ana", question | {"arguments": {"limit": 3}})).json()
        large = (await hub.check("ana", question | {"arguments": {"limit": 30}})).json()
    assert (without["allowed"], without["depends_on"]) == (True, ["limit"])
    assert (small["allowed"], small["depends_on"]) == (True, [])
    assert (large["allowed"], large["rule"], large["reason"]) == (False, "policy:call", "policy_denied")


async def test_a_service_is_decided_on_by_its_own_grant_alone(company: Company) -> None:
    granting = f'"service"]\nservices = ["{SPIFFE}"]'
    text = company.grants.read_text().replace('"ide", "web"]', f'"ide", {granting}')
    company.grants.write_text(text.replace('["cli", "web"]', f'["cli", {granting}'))
    tools = [{"name": "echo", "policy": "granted", "read_only": True}, {"name": "add", "policy": "granted"}]
    company.deploy("dev/scratch", {**scratch(owner="platform"), "tools": tools})
    async with opened(company) as hub:
        granted = (await hub.check("pat", {"server": "dev/scratch", "service": SPIFFE, "tool": "echo"})).json()
        other = (await hub.check("pat", {"server": "dev/scratch", "service": f"{SPIFFE}/x"})).json()
        writes = (await hub.check("pat", {"server": "dev/scratch", "service": SPIFFE, "tool": "add"})).json()
        sensitive = (await hub.check("pat", {"server": "prod/presto", "service": SPIFFE})).json()
    assert (granted["allowed"], granted["subject"], granted["sub_type"]) == (True, SPIFFE, "service")
    assert (granted["surface"], granted["channel"]) == ("service", None)
    assert (other["allowed"], other["reason"]) == (False, "group_not_granted")
    assert (writes["allowed"], writes["rule"], writes["reason"]) == (False, "tool:service", "tool_unavailable")
    assert (sensitive["allowed"], sensitive["reason"]) == (False, "sensitive_server")


async def test_a_batch_is_answered_in_its_order(hub: Hub) -> None:
    tools = ["get_revenue_metrics", "run_query", "no_such_tool"] * 33
    questions = [{"server": "prod/presto", "tool": tool} for tool in tools]
    answers = (await hub.check("fay", {"questions": questions})).json()["answers"]
    assert [answer["tool"] for answer in answers] == tools
    assert [answer["allowed"] for answer in answers] == [False, True, False] * 33


@pytest.mark.parametrize(
    ("question", "status", "code", "field"),
    [
        ({"server": "presto"}, 422, "invalid_request", "server"),
        ({"server": "prod/nothing"}, 404, "unknown_server", "server"),
        ({}, 422, "invalid_request", "server"),
        ({"server": 7}, 422, "invalid_request", "server"),
        ({"server": "prod/presto", "surfaces": "cli"}, 422, "invalid_request", "surfaces"),
        ({"server": "prod/presto", "surface": "tv"}, 422, "invalid_request", "surface"),
        ({"server": "prod/presto", "surface": "service"}, 422, "invalid_request", "surface"),
        ({"server": "prod/presto", "surface": "bot", "channel": "#secret"}, 422, "invalid_request", "channel"),
        ({"server": "prod/presto", "person": "nobody-here"}, 404, "unknown_person", "person"),
        ({"server": "prod/presto", "person": ""}, 404, "unknown_person", "person"),
        ({"server": "prod/presto", "person": "ana", "service": SPIFFE}, 422, "invalid_request", "service"),
        ({"server": "prod/presto", "service": "reporting"}, 422, "invalid_request", "service"),
        ({"server": "prod/presto", "service": SPIFFE, "surface": "cli"}, 422, "invalid_request", "surface"),
        ({"server": "prod/presto", "service": SPIFFE, "channel": "#x"}, 422, "invalid_request", "channel"),
        ({"server": "prod/presto", "arguments": {}}, 422, "invalid_request", "arguments"),
        ({"server": "prod/presto", "tool": "run_query", "arguments": [1]}, 422, "invalid_request", "arguments"),
        ({"server": "dev/scratch", "person": "fay"}, 403, "not_owner", "person"),
        ({"server": "dev/scratch", "service": SPIFFE}, 403, "not_owner", "service"),
    ],
)
async def test_a_wrong_question_names_its_field_alone_and_within_a_batch(
    asked: Hub, question: dict[str, Any], status: int, code: str, field: str
) -> None:
    alone = await asked.check("pat", question)
    batch = await asked.check("pat", {"questions": [{"server": "prod/presto"}, question]})
    for response, named in ((alone, field), (batch, f"questions.1.{field}")):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["layer"]) == (status, code, "hub")
        assert error["message"].startswith(f"{named}: "), error["message"]
        assert error["what_to_do"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ('{"server": "prod/presto", "server": "dev/scratch"}', 400),
        ('{"server": "prod/presto", "tool": "x", "arguments": {"limit": NaN}}', 400),
        ('{"server": "\\ud800"}', 400),
        ("[" * 100_000, 400),
        ("[]", 422),
        ("7", 422),
        ('{"questions": []}', 422),
        ('{"questions": {}}', 422),
        ('{"questions": [1]}', 422),
        ('{"questions": [{"server": "prod/presto"}], "server": "prod/presto"}', 422),
        (json.dumps({"questions": [{"server": "prod/presto"}] * 101}), 422),
        (" " * 3_000_000, 413),
    ],
)
async def test_a_body_that_is_no_question_is_refused_in_the_one_shape(asked: Hub, body: str, status: int) -> None:
    response = await asked.check("pat", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"code", "message", "layer", "reason", "what_to_do", "request_id"}
    assert error["what_to_do"]


async def test_nothing_is_told_without_a_token_or_read_of_its_body(hub: Hub) -> None:
    response = await hub.public.post("/api/v1/access:check", content="[" * 3_000_000)
    assert (response.status_code, response.json()["error"]["reason"]) == (401, "token_missing")


async def test_openapi_says_both_forms_of_the_body(hub: Hub) -> None:
    document = (await hub.api("ana", "openapi.json")).json()
    schema = document["paths"]["/api/v1/access:check"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    one, many = schema["oneOf"]
    assert one["required"] == ["server"]
    assert many["properties"]["questions"]["items"] == one
    assert many["properties"]["questions"]["maxItems"] == 100
