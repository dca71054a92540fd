"""Trying a tool: who is offered it, what is sent to the edge and as whom, and how what comes back is shown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from pegboard.core.names import WEB
from pegboard.core.refusal import META_KEY
from pegboard_hub.command_line import read_settings
from pegboard_hub.identity.keys import RingVerifier
from pegboard_hub.web.edge_call import MOST_BYTES
from pegboard_hub.web.pages.servers.tool_result import shown_result
from tests.hub.approving import BY_CALLER, asked, with_overwriting
from tests.hub.company import PRESTO, URL, Company, plain
from tests.hub.trying import Edge, answered, tried_in

pytestmark = pytest.mark.anyio

TRY = f"{URL}/servers/prod/presto/try"
SDK_SAYS = "Error executing tool run_query: "
REFUSAL = {
    "code": "tool_unavailable",
    "message": "No tool here for you. Ask platform.",
    "layer": "server",
    "reason": "policy_denied",
    "what_to_do": "Ask platform.",
    "request_id": "r",
}


async def test_a_tool_is_called_through_the_edge_as_who_is_signed_in(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (hub, browser):
        page = await browser.get(f"{TRY}?tool=run_query")
        answer = await browser.press(page, "Call it", a0="SELECT 1", a1="3", a2="")
        [asked] = edge.asked
        verifier = RingVerifier(hub.parts.identity.keys.tokens, URL, PRESTO)
        token = asked.headers["authorization"].removeprefix("Bearer ")
        caller = verifier.verify(token, hub.parts.identity.sessions._clock())
    assert (str(asked.url), asked.headers["host"]) == ("http://edge.test:1/mcp/prod/presto", "localhost:8400")
    assert (caller.sub, caller.surface, caller.client_id, caller.scope) == (
        "ana",
        WEB,
        "pegboard-pages",
        "tools:read",
    )
    assert caller.session
    message = json.loads(asked.content)
    assert message["params"]["name"] == asked.headers["mcp-name"] == "run_query"
    assert message["params"]["arguments"] == {"sql": "SELECT 1", "rows": 3}
    words = plain(answer.text)
    assert "42 rows" in words
    assert "11111111-2222-3333-4444-555555555555" in words
    assert "/ledger?request_id=11111111" in answer.text
    assert token not in answer.text


async def test_a_tool_that_may_change_things_wants_a_second_click(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (_, browser):
        page = await browser.get(f"{TRY}?tool=get_revenue_metrics")
        sure = await browser.press(page, "Go on")
        assert "Call it for real?" in sure.text
        assert edge.asked == []
        done = await browser.press(sure, "Call it")
        assert (await browser.get(str(done.url))).status_code == 200  # the address of a result can be opened again
        assert (await browser.get(TRY)).headers["location"] == "/servers/prod/presto/tools"
    assert [request.headers["mcp-name"] for request in edge.asked] == ["get_revenue_metrics"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"a0": "", "a1": "5"}, "sql: it is required."),
        ({"a0": "x", "a1": "many"}, "rows: write a whole number, such as 200."),
        ({"a0": "x", "a2": "{"}, "deep: it is not JSON"),
    ],
)
async def test_what_is_wrong_with_a_field_is_said_and_nothing_is_called(
    company: Company, fields: dict[str, str], words: str
) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (_, browser):
        page = await browser.get(f"{TRY}?tool=run_query")
        answer = await browser.press(page, "Call it", **{"a0": "", "a1": "", "a2": ""} | fields)
    assert answer.status_code == 422
    assert words in plain(answer.text)
    assert edge.asked == []


def refused_with(body: Any, status: int = 403) -> Callable[[httpx2.Request], httpx2.Response]:
    return lambda _: httpx2.Response(status, json=body)


def broken(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("no", request=request)


ANSWERS: dict[str, tuple[Callable[[httpx2.Request], httpx2.Response], str]] = {
    "the edge refuses": (refused_with({"error": REFUSAL | {"layer": "edge"}}), "Refused by the edge"),
    "the server refuses": (refused_with({"error": {"code": -1, "data": REFUSAL}}, 200), "Refused by the server"),
    "in the result": (
        lambda _: answered({"isError": True, "_meta": {META_KEY: REFUSAL}}),
        "Refused by the server",
    ),
    "the tool fails": (
        lambda _: answered({"isError": True, "content": [{"type": "text", "text": "bad <b>"}]}),
        "bad <b>",
    ),
    "the tool fails, as the SDK says it": (
        lambda _: answered({"isError": True, "content": [{"type": "text", "text": f"{SDK_SAYS}no such day"}]}),
        "says that it failed no such day",
    ),
    "an error": (refused_with({"error": {"code": -32000, "message": "oh <i>"}}, 200), "answered an error: oh <i>"),
    "no JSON": (lambda _: httpx2.Response(502, text="<html>"), "of status 502, cannot be read"),
    "too much": (lambda _: httpx2.Response(200, content=b"x" * (MOST_BYTES + 1)), "larger than 1024 KiB"),
    "packed": (
        lambda _: httpx2.Response(200, content=b"", headers={"content-encoding": "gzip"}),
        "larger than 1024 KiB",
    ),
    "elsewhere": (
        lambda _: httpx2.Response(302, headers={"location": "http://169.254.169.254/"}),
        "of status 302, cannot be read",
    ),
    "nobody there": (broken, "The edge could not be reached"),
    "an event stream": (
        lambda _: httpx2.Response(
            200,
            text='event: message\ndata: {"result": {"content": [{"type": "text", "text": "streamed"}]}}\n\n',
            headers={"content-type": "text/event-stream"},
        ),
        "streamed",
    ),
    "nothing": (lambda _: answered({}), "It answered, and said nothing."),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_whatever_comes_back_is_told_in_words(company: Company, name: str) -> None:
    says, words = ANSWERS[name]
    edge = Edge(says)
    async with tried_in(company, edge) as (_, browser):
        page = await browser.get(f"{TRY}?tool=run_query")
        answer = await browser.press(page, "Call it", a0="SELECT 1")
    assert answer.status_code == 200
    assert words in plain(answer.text)
    assert len(edge.asked) == 1
    assert SDK_SAYS not in answer.text
    assert "<i>" not in answer.text
    assert "<b>" not in answer.text


async def test_a_refusal_leads_to_the_same_call_rule_by_rule(company: Company) -> None:
    edge = Edge(ANSWERS["the server refuses"][0])
    async with tried_in(company, edge) as (_, browser):
        page = await browser.get(f"{TRY}?tool=run_query")
        answer = await browser.press(page, "Call it", a0="SELECT 1", a1="3")
        assert "reason policy_denied" in plain(answer.text)
        [address] = re.findall(r'href="(/explain[^"]+arguments=[^"]+)"', answer.text)
        explained = await browser.get(f"{URL}{html.unescape(address)}")
    assert "ana from web → prod/presto run_query" in plain(explained.text)
    assert '{"sql": "SELECT 1", "rows": 3}' in html.unescape(explained.text)


async def test_where_web_is_not_granted_trying_is_not_offered_and_says_whom_to_ask(company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace(', "web"]', "]"))
    edge = Edge()
    async with tried_in(company, edge) as (_, browser):
        tools = await browser.get(f"{URL}/servers/prod/presto/tools")
        assert "/try?" not in tools.text
        words = "prod/presto may not be used from web. Ask platform in #data-platform."
        assert words in plain(tools.text)
        assert (await browser.get(f"{TRY}?tool=run_query")).status_code == 404
    assert edge.asked == []


async def test_a_page_shown_as_somebody_else_tries_nothing_as_them(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (_, browser):
        tools = await browser.get(f"{URL}/servers/prod/presto/tools?as=fay")
        assert "/try?" not in tools.text
        assert "A tool is tried as who is signed in" in tools.text
        assert (await browser.get(f"{TRY}?tool=run_query&as=fay")).status_code == 403
    assert edge.asked == []


async def test_signing_out_voids_what_a_try_was_called_with(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (hub, browser):
        page = await browser.get(f"{TRY}?tool=run_query")
        for _ in range(2):
            await browser.press(page, "Call it", a0="SELECT 1")
        [session] = await hub.parts.identity.sessions.of("ana")
        assert await hub.parts.identity.connections.of("ana") == []  # it is no program that is connected
        await hub.parts.identity.sessions.end(session.sid, "signed out")
        assert session.sid in hub.parts.identity.revocations.current.sessions
        after = await browser.get(f"{TRY}?tool=run_query")
    assert after.status_code == 303
    assert after.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize(
    ("noted", "edge"),
    [
        ({"port": 8400}, "http://127.0.0.1:8400"),
        ({"port": 8400, "bind": "0.0.0.0"}, "http://127.0.0.1:8400"),  # noqa: S104 - nothing is bound
        ({"port": 8400, "bind": "::"}, "http://[::1]:8400"),
        ({"port": 8400, "bind": "10.1.2.3"}, "http://10.1.2.3:8400"),
        ({}, ""),
        ({"port": "8400"}, ""),
    ],
)
def test_the_hub_reaches_the_edge_where_the_start_noted_it(
    company: Company, noted: dict[str, object], edge: str
) -> None:
    company.home.instance_file.write_text(json.dumps({"public_url": "https://pegboard.example", **noted}))
    _, settings = read_settings(["--home", str(company.home.root)])
    assert settings.edge == edge


def test_a_column_of_numbers_alone_is_told_from_text() -> None:
    rows = [["ads", 5, 1, True], ["search", 2.5, "many", False], ["brand", None, 3, True]]
    [table] = shown_result(
        {"structuredContent": {"columns": ["product", "spend", "mixed", "flag"], "rows": rows}}
    ).tables
    assert table.figures == {1}


def waits(*ids: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """A server that says that the call waits for a yes to these."""
    told = {
        "id": ids[0],
        "ids": list(ids),
        "page": "https://evil.example/approvals",
        "asks": "nobody",
        "state": "requested",
    }
    refusal = REFUSAL | {"code": "approval_pending", "message": "It waits for a yes."}
    result = {"content": [], "isError": True, "structuredContent": {"approval": told}, "_meta": {META_KEY: refusal}}
    return lambda _request: answered(result)


async def test_a_call_that_waits_for_a_yes_leads_to_its_page_and_goes_on_with_the_same_arguments(
    company: Company,
) -> None:
    edge = Edge()
    async with tried_in(company, edge, with_overwriting()) as (hub, browser):
        id = await asked(hub)
        edge.says = waits(id)
        page = await browser.get(f"{TRY}?tool=overwrite_table")
        sure = await browser.press(page, "Go on", a0="flights_daily", a1="SELECT 1", a2="")
        answer = await browser.press(sure, "Call it")
        words = plain(answer.text)
        assert "It waits for a yes" in words
        assert "approved by somebody of platform (which owns prod/presto)" in words
        assert f'href="/approvals/{id}"' in answer.text
        assert "evil.example" not in answer.text
        edge.says = None
        done = await browser.press(answer, "Call it again with the same arguments")
    assert "42 rows" in plain(done.text)
    first, second = (json.loads(each.content)["params"]["arguments"] for each in edge.asked)
    assert first == second == {"table": "flights_daily", "sql": "SELECT 1"}


async def test_who_decides_on_their_own_call_is_led_to_decide_and_a_no_is_shown_with_its_page(
    company: Company,
) -> None:
    edge = Edge()
    async with tried_in(company, edge, with_overwriting()) as (hub, browser):
        id = await asked(hub, requirement=BY_CALLER)
        edge.says = waits(id)
        page = await browser.get(f"{TRY}?tool=overwrite_table")
        sure = await browser.press(page, "Go on", a0="t", a1="", a2="")
        assert "Look at it and decide" in plain((await browser.press(sure, "Call it")).text)
        await hub.parts.approvals.withdraw("ana", [id])
        answer = await browser.press(sure, "Call it")
    assert "It did not run" in plain(answer.text)
    assert f'href="/approvals/{id}"' in answer.text


async def test_a_server_leads_nobody_to_a_request_that_is_not_of_their_call(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge, with_overwriting()) as (hub, browser):
        theirs = await asked(hub, person="fay")
        another = await asked(hub, tool="drop_tables")
        edge.says = waits(theirs, another, "0" * 32, "../../sign-out")
        page = await browser.get(f"{TRY}?tool=overwrite_table")
        sure = await browser.press(page, "Go on", a0="t", a1="", a2="")
        answer = await browser.press(sure, "Call it")
    assert "Refused by the server" in plain(answer.text)
    assert "/approvals/" not in answer.text
