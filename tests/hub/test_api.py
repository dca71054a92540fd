"""The API: who may know what about servers, access and other people."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from pegboard.core.jose import Signer, new_private_key
from pegboard.core.logs import JsonFormatter
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.registry.service import Registry
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.app import public_app
from tests.hub.company import API, PRESTO, URL, Company, Hub

pytestmark = pytest.mark.anyio

METADATA = f"{URL}/.well-known/oauth-protected-resource/api"
REFUSAL = {"code", "message", "layer", "reason", "what_to_do", "request_id"}
ROUTES = ("whoami", "servers", "servers/prod/presto/access", "explain?server=prod/presto", "calls", "openapi.json")


def forged(company: Company, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": URL,
        "sub": "ana",
        "sub_type": "person",
        "groups": ["ads-eng"],
        "client_id": "pegboard-cli",
        "surface": "cli",
        "scope": "api",
        "aud": API,
        "iat": now,
        "exp": now + 60,
        "jti": "x",
    }
    return open_keys(company.home).tokens.sign(claims | changes, TOKEN_TYPE)


@pytest.mark.parametrize("route", ROUTES)
async def test_nothing_is_told_without_a_token(hub: Hub, route: str) -> None:
    response = await hub.public.get(f"/api/v1/{route}")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == f'Bearer scope="api", resource_metadata="{METADATA}"'
    assert set(response.json()["error"]) == REFUSAL
    assert response.json()["error"]["reason"] == "token_missing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 60, "iat": int(time.time()) - 120}, "token_expired"),
        ({"iss": "http://evil.example"}, "token_wrong_issuer"),
        ({"aud": PRESTO}, "token_wrong_audience"),
        ({"groups": "ads-eng"}, "token_bad_claims"),
        ({"scope": ["api"]}, "token_bad_claims"),
        ({"sid": ["s"]}, "token_bad_claims"),
        ({"exp": int(time.time()) + 86_400}, "token_bad_claims"),
    ],
)
async def test_a_token_that_is_not_right_is_refused(
    hub: Hub, company: Company, changes: dict[str, Any], reason: str
) -> None:
    headers = {"Authorization": f"Bearer {forged(company, **changes)}"}
    response = await hub.public.get("/api/v1/whoami", headers=headers)
    assert (response.status_code, response.json()["error"]["reason"]) == (401, reason)
    wanted = f'Bearer error="invalid_token", scope="api", resource_metadata="{METADATA}"'
    assert response.headers["www-authenticate"] == wanted


@pytest.mark.parametrize("scope", ["", "tools", "tools:read", "API", "api-x", "api:read", "\tapi"])
async def test_a_token_of_another_scope_may_ask_nothing(hub: Hub, company: Company, scope: str) -> None:
    headers = {"Authorization": f"Bearer {forged(company, scope=scope)}"}
    for route in ROUTES:
        response = await hub.public.get(f"/api/v1/{route}", headers=headers)
        assert (response.status_code, response.json()["error"]["reason"]) == (403, "insufficient_scope")
        wanted = f'Bearer error="insufficient_scope", scope="api", resource_metadata="{METADATA}"'
        assert response.headers["www-authenticate"] == wanted


async def test_a_token_signed_by_somebody_else_is_refused(hub: Hub) -> None:
    token = Signer(new_private_key()).sign({"iss": URL, "aud": API, "sub": "ana"}, TOKEN_TYPE)
    response = await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    assert response.json()["error"]["reason"] == "token_invalid"


async def test_whoami_says_what_the_token_says(hub: Hub) -> None:
    answer = (await hub.api("pat", "whoami", on="ide")).json()
    assert answer.pop("expires_at") > time.time()
    assert answer == {
        "sub": "pat",
        "sub_type": "person",
        "email": "pat@example.com",
        "groups": ["platform"],
        "surface": "ide",
        "channel": None,
        "client_id": "pegboard-ide",
        "act": None,
    }


@pytest.mark.parametrize(
    ("person", "surface", "expected"),
    [
        ("ana", "cli", {"dev/scratch": ["echo"], "prod/presto": ["run_query", "get_revenue_metrics"]}),
        ("ana", "chat", {"prod/presto": ["run_query", "get_revenue_metrics"]}),
        ("ana", "bot", {}),
        ("fay", "cli", {"dev/scratch": ["echo"], "prod/presto": ["run_query"]}),
        ("sam", "cli", {"dev/scratch": ["echo"]}),
        ("gus", "cli", {}),
    ],
)
async def test_servers_lists_what_a_caller_may_reach_from_here(
    hub: Hub, person: str, surface: str, expected: dict[str, list[str]]
) -> None:
    answer = (await hub.api(person, "servers", on=surface)).json()
    assert {s["server"]: [tool["name"] for tool in s["tools"]] for s in answer["servers"]} == expected


async def test_a_listed_server_says_whose_it_is_and_where(hub: Hub, company: Company) -> None:
    company.report(
        at=time.time(),
        isolation={"mode": "user", "why": ""},
        processes=[{"name": "prod/presto", "state": "live", "since": 1, "restarts": 0}],
    )
    server = (await hub.api("fay", "servers", on="ide")).json()["servers"][0]
    assert len(server.pop("release")) == 64
    assert server == {
        "server": "prod/presto",
        "title": None,
        "description": "Query the warehouse",
        "owner": "platform",
        "support_channel": "#data-platform",
        "sensitivity": "confidential",
        "status": "live",
        "status_since": 1000,
        "status_why": "",
        "stopped": "",
        "resource_url": PRESTO,
        "tools": [
            {"name": "run_query", "title": None, "description": "Run SQL.", "minutes_saved": 6.0, "stopped": ""}
        ],
        "semver": "1.0.0",
        "lifecycle": "live",
        "lifecycle_why": "",
        "ends_at": None,
        "successor": None,
        "usable": True,
    }


async def test_access_names_every_rule_and_whom_to_ask(hub: Hub) -> None:
    answer = (await hub.api("sam", "servers/prod/presto/access")).json()
    assert answer["allowed"] is False
    assert [(check["rule"], check["holds"]) for check in answer["checks"]] == [
        ("audience", True),
        ("scope", True),
        ("surface", True),
        ("channel", True),
        ("group", False),
    ]
    assert answer["checks"][-1]["source"] == "the demo's security review of prod/presto"
    assert answer["refusal"]["reason"] == "group_not_granted"
    assert answer["refusal"]["what_to_do"] == "Ask platform in #data-platform."
    assert (await hub.api("fay", "servers/prod/presto/access")).json()["allowed"] is True


async def test_access_knows_what_rules_refuse_of_that_which_is_granted(hub: Hub) -> None:
    ruling = hub.parts.ruling
    rule = '[rules.no-cli]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "an audit"\nask = "security"\n'
    await ruling.apply(await ruling.propose(rule, None), MACHINE.actor, "an audit", widening=False)
    answer = (await hub.api("fay", "servers/prod/presto/access")).json()
    assert answer["allowed"] is False
    assert answer["refusal"]["reason"] == "rule_denied"


async def test_explain_says_the_same_of_a_hidden_tool_and_of_none(hub: Hub) -> None:
    hidden = (await hub.api("fay", "explain", server="prod/presto", tool="get_revenue_metrics")).text
    absent = (await hub.api("fay", "explain", server="prod/presto", tool="no_such_tool_at_all")).text
    ids = [httpx2.Response(200, text=text).json()["refusal"]["request_id"] for text in (hidden, absent)]
    assert hidden.replace("get_revenue_metrics", "T").replace(ids[0], "I") == absent.replace(
        "no_such_tool_at_all", "T"
    ).replace(ids[1], "I")
    assert "ads-revenue" not in hidden


async def test_the_owner_sees_why_somebody_is_refused(hub: Hub) -> None:
    answer = (await hub.api("pat", "explain", server="prod/presto", tool="get_revenue_metrics", person="fay")).json()
    assert (answer["person"], answer["surface"], answer["allowed"]) == ("fay", "cli", False)
    assert answer["checks"][-1]["rule"] == "policy:list"
    assert "ads-revenue" in answer["checks"][-1]["fact"]
    allowed = (await hub.api("pat", "explain", server="prod/presto", tool="get_revenue_metrics", person="ana")).json()
    assert allowed["allowed"] is True


async def test_security_may_look_at_everybodys_access(hub: Hub, company: Company) -> None:
    token = forged(company, sub="sec", groups=["security"])
    query = {"server": "prod/presto", "person": "fay", "tool": "get_revenue_metrics"}
    response = await hub.public.get("/api/v1/explain", params=query, headers={"Authorization": f"Bearer {token}"})
    assert response.json()["checks"][-1]["rule"] == "policy:list"


@pytest.mark.parametrize(
    ("person", "server"), [("ana", "prod/presto"), ("gus", "prod/presto"), ("pat", "dev/scratch")]
)
async def test_others_access_is_not_for_everybody(hub: Hub, person: str, server: str) -> None:
    response = await hub.api(person, "explain", server=server, person="fay")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "not_owner")
    unknown = await hub.api(person, "explain", server=server, person="nobody-here")
    assert unknown.status_code == 403


async def test_explain_answers_for_another_surface(hub: Hub) -> None:
    answer = (await hub.api("ana", "explain", server="dev/scratch", surface="chat")).json()
    assert (answer["surface"], answer["refusal"]["reason"]) == ("chat", "surface_not_granted")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"server": "presto"}, 422, "invalid_request"),
        ({"server": "prod/nothing"}, 404, "unknown_server"),
        ({"server": "prod/presto", "surface": "tv"}, 422, "invalid_request"),
        ({"server": "prod/presto", "person": "nobody-here"}, 404, "unknown_person"),
        ({}, 422, "invalid_request"),
    ],
)
async def test_a_wrong_question_is_refused_in_the_one_shape(
    hub: Hub, query: dict[str, str], status: int, code: str
) -> None:
    response = await hub.api("pat", "explain", **query)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert set(response.json()["error"]) == REFUSAL


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("POST", "/", 405), ("GET", "/docs", 404)]
)
async def test_every_error_has_the_one_shape(hub: Hub, method: str, path: str, status: int) -> None:
    response = await hub.public.request(method, path, headers={"X-Request-Id": "from-the-edge-1"})
    assert response.status_code == status
    assert set(response.json()["error"]) == REFUSAL
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"] == "from-the-edge-1"


async def test_a_request_id_that_could_harm_a_log_is_replaced(hub: Hub) -> None:
    response = await hub.public.get("/healthz", headers={"X-Request-Id": 'a"} bad'})
    assert "bad" not in response.headers["x-request-id"]


async def test_an_unexpected_error_tells_only_its_request_id(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(JsonFormatter())

    def broken(_self: Registry) -> None:
        raise RuntimeError("the inside of the hub")

    monkeypatch.setattr(type(hub.parts.status), "read", broken)
    transport = httpx2.ASGITransport(public_app(hub.parts))
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        response = await client.get("/", headers={"X-Request-Id": "unexpected-1"})
    assert response.status_code == 500
    assert "inside" not in response.text
    assert response.json()["error"]["request_id"] == "unexpected-1"
    [logged] = [line for line in map(json.loads, caplog.text.splitlines()) if line["level"] == "error"]
    assert "the inside of the hub" in logged["exception"]
    assert logged["request_id"] == "unexpected-1"


async def test_the_log_has_a_line_per_request_and_no_token(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    token = await hub.token("ana")
    await hub.public.get(f"/api/v1/whoami?access_token={token}", headers={"Authorization": f"Bearer {token}"})
    lines = [vars(record) for record in caplog.records if record.name == "pegboard_hub.request"]
    assert [(line["path"], line["status"], line.get("sub")) for line in lines] == [
        ("/oauth/token", 200, None),
        ("/api/v1/whoami", 200, "ana"),
    ]
    ours = [vars(record) for record in caplog.records if record.name.startswith("pegboard_hub")]
    assert token not in str(ours)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_answer(hub: Hub, path: str) -> None:
    for door in (hub.public, hub.internal):
        assert (await door.get(path)).json() == {"status": "ok"}
