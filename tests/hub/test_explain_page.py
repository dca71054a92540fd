"""The page that explains: what it shows to whom, how it takes a wrong question, and where it is linked from."""

from __future__ import annotations

import html
import json
import re
import time

import pytest

from pegboard.core.access import RULES
from pegboard_hub.registry.history import Actor
from tests.hub.company import URL, Company, Hub, call, denial, edge_refusal, opened, presto

pytestmark = pytest.mark.anyio

OF_THE_TOOL = ("policy:list", "tool:stop", "tool:scope", "policy:call", "tool:approval")

READS = (
    '@arguments("limit") permit (principal, action, resource) when { !(context has args) || context.args.limit < 9 };'
)


async def page(hub: Hub, answered: int = 200, path: str = "/explain", /, **query: str) -> str:
    response = await hub.public.get(path, params=query)
    assert response.status_code == answered, response.text
    assert response.headers["cache-control"] == "no-store"
    return " ".join(response.text.split())


def outcomes(text: str) -> dict[str, str]:
    """The outcome of each step that the page shows, read as a person reads it: in words."""
    found = re.findall(r"</span> ([a-z ]+)</span> <div> <p class=\"title\">[^<]+<code>([a-z:-]+)</code>", text)
    return {rule: outcome for outcome, rule in found}


def offered(text: str, field: str) -> set[str]:
    options = text.partition(f'id="offer-{field}">')[2].partition("</datalist>")[0]
    return {html.unescape(value) for value in re.findall(r'value="([^"]*)"', options)}


async def test_nobody_in_particular_is_asked_to_choose_and_keeps_the_question(hub: Hub) -> None:
    text = await page(hub, server="prod/presto", tool="run_query")
    assert "Choose a person above." in text
    assert '<input type="hidden" name="server" value="prod/presto">' in text
    assert "run_query" in text.partition("</form>")[0]
    assert "Layer 1" not in text


async def test_without_a_question_there_is_one_to_begin_with(hub: Hub) -> None:
    text = await page(hub, **{"as": "ana"})
    link = re.search(r'<a href="([^"]+)">May Ana use prod/presto from cli\?</a>', text)
    assert link
    assert "Allowed: no rule refuses it." in (await hub.public.get(html.unescape(link[1]))).text


async def test_an_allowed_call_is_walked_through_every_layer(hub: Hub, company: Company) -> None:
    live = {"name": "prod/presto", "state": "live", "since": 1}
    company.report(at=time.time(), isolation={"mode": "user", "why": ""}, processes=[live])
    text = await page(hub, server="prod/presto", tool="run_query", **{"as": "ana"})
    assert "holds, with a good token" in text
    for words in ("Allowed: no rule refuses it.", "Layer 1: the edge", "Layer 2: the server", "The tool run_query"):
        assert words in text
    assert outcomes(text) | {"token": "", "server": ""} == dict.fromkeys(
        ("route", *(rule.name for rule in RULES), "method", "gate", "tool", *OF_THE_TOOL), "holds"
    ) | {"token": "", "server": ""}
    assert "Rule from: the demo&#39;s security review of prod/presto" in text
    assert "pegboard explain --server prod/presto --tool run_query --as ana --surface cli" in text


async def test_a_refused_call_says_what_the_caller_reads_what_decided_and_whom_to_ask(hub: Hub) -> None:
    text = await page(hub, server="prod/presto", tool="run_query", **{"as": "sam"})
    assert '<h2 id="verdict">Refused by the edge.</h2>' in text
    assert "<blockquote>prod/presto is not granted to any of your groups. Ask platform in #data-platform." in text
    assert re.search("For support.*access_denied.*reason.*group_not_granted", text)
    assert "sam is in search-eng; granted are ads-eng, data-infra, finance, platform" in text
    assert '<p class="whom">Ask platform in #data-platform.</p>' in text
    steps = outcomes(text)
    assert (steps["surface"], steps["group"], steps["gate"], steps["policy:call"]) == (
        "holds",
        "fails",
        "not reached",
        "not reached",
    )


async def test_arguments_decide_where_a_policy_reads_them(company: Company) -> None:
    declared = presto()
    declared["policies"]["granted"] = READS
    company.deploy("prod/presto", declared)
    question = {"as": "ana", "server": "prod/presto", "tool": "run_query"}
    async with opened(company) as hub:
        without = await page(hub, **question)
        small = await page(hub, **question, arguments='{"limit": 3}')
        large = await page(hub, **question, arguments='{"limit": 30}')
    assert "Allowed, if its arguments are." in without
    assert "Give limit above to know." in without
    assert outcomes(without)["policy:call"] == "depends"
    assert "Allowed: no rule refuses it." in small
    assert "You may use run_query, but not with these arguments." in large
    assert "{&#34;limit&#34;: 30}</textarea>" in large


async def test_a_server_that_is_down_is_no_refusal(hub: Hub, company: Company) -> None:
    down = {"name": "prod/presto", "state": "down", "since": 1, "restarts": 3}
    company.report(at=time.time(), isolation={"mode": "user", "why": ""}, processes=[down])
    text = await page(hub, server="prod/presto", **{"as": "ana"})
    assert "No rule refuses it, but it would fail now." in text
    assert "it is down; calls are answered 503, or not at all. Ask the platform team" in text


async def test_owners_may_ask_about_anybody_and_see_why(hub: Hub) -> None:
    query = {"server": "prod/presto", "tool": "get_revenue_metrics", "person": "fay", "on": "chat"}
    text = await page(hub, **query, **{"as": "pat"})
    assert "<code>fay from chat → prod/presto get_revenue_metrics</code>" in text
    assert "policy ads-revenue does not permit it" in text
    assert "policies/ads-revenue.cedar, version " in text


async def test_a_server_that_nobody_can_call_says_why_to_those_alone_who_may_know_of_it(hub: Hub) -> None:
    draft = {"description": "Menus", "owner": "platform", "support_channel": "#menu", "sensitivity": "internal"}
    async with hub.parts.registry.changing() as changing:
        await changing.register("prod/menu", draft, Actor("pat"), "a plan")
    assert f"prod/menu is a draft: submit it at {URL}/servers/prod/menu/access." in await page(
        hub, 404, server="prod/menu", **{"as": "pat"}
    )
    hidden = await page(hub, 404, server="prod/menu", **{"as": "ana"})
    absent = await page(hub, 404, server="prod/oven", **{"as": "ana"})
    assert hidden.replace("menu", "X") == absent.replace("oven", "X")


async def test_others_are_for_owners_and_security_alone(hub: Hub) -> None:
    text = await page(hub, 403, server="prod/presto", person="fay", **{"as": "ana"})
    assert "Another person&#39;s access to prod/presto is for its owners and security to look at." in text
    assert 'aria-invalid="true" aria-describedby="wrong-person"' in text
    assert "Layer 1" not in text


async def test_tools_are_offered_to_those_who_may_know_them(hub: Hub) -> None:
    every = {"run_query", "get_revenue_metrics"}
    assert offered(await page(hub, server="prod/presto", **{"as": "fay"}), "tool") == {"run_query"}
    assert offered(await page(hub, server="prod/presto", **{"as": "pat"}), "tool") == every
    assert offered(await page(hub, **{"as": "ana"}), "tool") == {*every, "echo"}
    assert offered(await page(hub, **{"as": "gus"}), "tool") == set()


async def test_a_hidden_tool_is_shown_as_one_that_does_not_exist(hub: Hub) -> None:
    question = {"as": "fay", "server": "prod/presto", "arguments": json.dumps({"days": 7})}
    hidden = await page(hub, **question, tool="get_revenue_metrics")
    absent = await page(hub, **question, tool="no_such_tool_at_all")
    assert hidden.replace("get_revenue_metrics", "T") == absent.replace("no_such_tool_at_all", "T")
    assert "ads-revenue" not in hidden


@pytest.mark.parametrize(
    ("query", "status", "fields"),
    [
        ({"tool": "x"}, 422, {"server"}),
        ({"server": "presto"}, 422, {"server"}),
        ({"server": "prod/nothing"}, 404, {"server"}),
        ({"server": "prod/presto", "on": "tv"}, 422, {"surface"}),
        ({"server": "prod/presto", "on": "bot", "channel": "#secret"}, 422, {"channel"}),
        ({"server": "prod/presto", "person": "fay", "tool": "x", "arguments": "{"}, 403, {"person", "arguments"}),
        ({"server": "prod/presto", "arguments": "{}"}, 422, {"arguments"}),
        ({"server": "prod/presto", "tool": "x", "arguments": "[1]"}, 422, {"arguments"}),
        ({"server": "prod/presto", "tool": "x", "arguments": '{"a": 1, "a": 2}'}, 422, {"arguments"}),
        ({"server": "prod/presto", "tool": "x" * 300, "arguments": "x" * 20_000}, 422, {"tool", "arguments"}),
    ],
)
async def test_each_field_that_is_wrong_is_marked_and_keeps_what_was_typed(
    hub: Hub, query: dict[str, str], status: int, fields: set[str]
) -> None:
    text = await page(hub, status, **query, **{"as": "ana"})
    assert set(re.findall(r'id="wrong-(\w+)" role="alert">[^<]', text)) == fields
    assert text.count('aria-invalid="true"') == len(fields)
    for value in query.values():
        assert html.escape(value, quote=True).replace("&quot;", "&#34;") in text
    assert "Nothing was explained" in text


@pytest.mark.parametrize("field", ["server", "tool", "person", "on", "channel", "arguments"])
async def test_what_is_typed_is_text_and_never_markup(hub: Hub, field: str) -> None:
    evil = '"><script>alert(1)</script>{{7777*7}}'
    query = {"as": "pat", "server": "prod/presto", "tool": "run_query", field: evil}
    response = await hub.public.get("/explain", params=query)
    assert "&lt;script&gt;" in response.text
    assert "<script" not in response.text
    assert "54439" not in response.text


async def test_the_home_page_leads_here_with_its_server(hub: Hub) -> None:
    text = await page(hub, 200, "/", **{"as": "sam"})
    links = [html.unescape(link) for link in re.findall(r'<p class="explain"><a href="([^"]+)"', text)]
    assert len(links) == 2
    assert "Refused by the edge." in (await hub.public.get(links[1])).text
    assert '<a href="/explain?as=sam&amp;surface=cli">Explain</a>' in text


@pytest.mark.parametrize(
    ("person", "id_", "words"), [("fay", "server", "Refused by the server."), ("ana", "edge", "Refused by the edge.")]
)
async def test_a_refused_call_leads_here_with_everything_it_was(
    hub: Hub, company: Company, person: str, id_: str, words: str
) -> None:
    now = int(time.time() * 1000)
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    await hub.deliver(channel, denial("server", now), *call("fine", now, sub=person))
    await hub.deliver_edge(edge_refusal("edge", now))
    assert "Explain this refusal" not in await page(hub, 200, "/ledger/call", id="fine", **{"as": person})
    text = await page(hub, 200, "/ledger/call", id=id_, **{"as": person})
    link = re.search(r'<a href="([^"]+)">Explain this refusal</a>', text)
    assert link
    assert words in (await hub.public.get(html.unescape(link[1]))).text
