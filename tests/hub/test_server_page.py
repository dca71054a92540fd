"""A server's page: whose it is, the tools of who looks, and how each client is connected to it."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from pegboard.core.client_configs import BY_ID
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from tests.hub.company import PRESTO, URL, Company, Hub, opened, plain, presto
from tests.hub.reviewing import changed, release, reviewed_company, signed_in
from tests.oauth import Browser

pytestmark = pytest.mark.anyio


async def shown(hub: Hub, person: str = "ana", tab: str = "", server: str = "prod/presto", on: str = "cli") -> str:
    path = f"/servers/{server}/{tab}".rstrip("/")
    response = await hub.public.get(path, params={"as": person, "surface": on})
    assert response.status_code == 200, response.text
    return html.unescape(response.text)


async def test_it_tells_whose_the_server_is_and_what_it_is_for(hub: Hub) -> None:
    page = await shown(hub)
    for words in ("prod/presto", "Query the warehouse", "platform", "#data-platform", "confidential", PRESTO):
        assert words in page


async def test_it_shows_the_tools_of_who_looks_and_no_others(hub: Hub) -> None:
    assert "get_revenue_metrics" in await shown(hub, "ana", "tools")
    page = await shown(hub, "fay", "tools")
    assert "run_query</bdi></code>" in page
    for tab in ("", "tools", "connect", "security", "releases"):
        assert "get_revenue_metrics" not in await shown(hub, "fay", tab)


async def test_owners_and_security_know_every_tool_and_which_are_not_open_to_them(hub: Hub) -> None:
    page = plain(await shown(hub, "pat", "tools"))
    assert "Not open to Pat" in page
    assert page.index("run_query") < page.index("Not open to Pat") < page.index("get_revenue_metrics")


async def test_who_cannot_enter_sees_what_it_is_and_why_not_and_no_tool(hub: Hub) -> None:
    page = plain(await shown(hub, "gus"))
    assert (
        "Not open to Gus. prod/presto is not granted to any of your groups. Ask platform in #data-platform." in page
    )
    tools = plain(await shown(hub, "gus", "tools"))
    assert "None of its tools is open to Gus. Ask platform in #data-platform." in tools
    assert "run_query" not in tools
    assert "claude mcp add" not in await shown(hub, "gus", "connect")


@pytest.mark.parametrize("client", BY_ID)
async def test_every_client_has_its_snippet_and_what_comes_next(hub: Hub, client: str) -> None:
    page = await shown(hub, tab="connect")
    known = BY_ID[client]
    assert known.snippet("pegboard-prod-presto", PRESTO) in page
    assert known.then.replace("NAME", "pegboard-prod-presto") in page


COMMANDS = {
    "vscode": 'code --add-mcp \'{"name":"pegboard-prod-presto","type":"http","url":"URL"}\'',
    "claude-code": "claude mcp add --scope user --transport http pegboard-prod-presto URL",
    "codex": "codex mcp add pegboard-prod-presto --url URL",
    "gemini-cli": "gemini mcp add --scope user --transport http pegboard-prod-presto URL",
}


@pytest.mark.parametrize("client", COMMANDS)
async def test_a_client_with_a_command_shows_it_ready_to_copy(asked: Hub, client: str) -> None:
    page = await shown(asked, tab="connect")
    assert COMMANDS[client].replace("URL", PRESTO) in page


async def test_links_add_the_server_to_the_clients_that_take_one(hub: Hub) -> None:
    links = re.findall(r'href="((?:vscode|cursor):[^"]+)"', await shown(hub, tab="connect"))
    vscode, cursor = links
    assert vscode.startswith("vscode:mcp/install?")
    described = json.loads(unquote(vscode.partition("?")[2]))
    assert described == {"name": "pegboard-prod-presto", "type": "http", "url": PRESTO}
    query = parse_qs(urlsplit(cursor).query)
    assert cursor.startswith("cursor://anysphere.cursor-deeplink/mcp/install?")
    assert query["name"] == ["pegboard-prod-presto"]
    assert json.loads(base64.b64decode(query["config"][0])) == {"url": PRESTO}


async def test_a_deprecated_server_says_so_beside_its_state(hub: Hub) -> None:
    assert '<span class="state deprecated">' not in await shown(hub)
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.DEPRECATED, "lifecycle_why": "use the lake"}
        await changing.apply(Change("prod/presto", Actor("pat"), "deprecate", "use the lake", values=values))
    page = await shown(hub, tab="tools")
    assert '<span class="state deprecated">deprecated</span>' in page
    assert "Deprecated. Use the lake." in plain(page)


@pytest.mark.parametrize("server", ["dev/planned", "prod/nothing", "PROD/x", "prod/<b>"])
async def test_a_draft_of_others_is_answered_as_what_does_not_exist(hub: Hub, server: str) -> None:
    await draft(hub)
    browser = Browser(URL, hub.public)
    await browser.sign_in("fay")
    for tab in ("", "/tools", "/connect", "/security", "/releases", "/history", "/edit", "/try"):
        response = await browser.get(f"{URL}/servers/{server}{tab}")
        assert response.status_code == 404, tab
        assert "No such server here for you" in response.text
        assert "planned things" not in response.text


async def test_a_draft_is_shown_to_its_owners_and_says_that_it_is_one(hub: Hub) -> None:
    await draft(hub)
    page = plain(await shown(hub, "ana", server="dev/planned"))
    assert "A draft. Nobody can call it, and few know of it." in page
    assert "Edit the draft" in page
    assert "Reachesnothing is declared yet: there is no code" in plain(
        await shown(hub, "ana", "security", "dev/planned")
    )


async def test_a_release_that_waits_is_shown_to_owners_on_every_page() -> None:
    async with reviewed_company() as (hub, company):
        await release(hub, company, changed())
        for tab in ("", "tools", "connect"):
            page = plain(await shown(hub, "pat", tab))
            assert re.search(r"Nobody can call it: it is [a-z ]+, and its release 1\.0\.1 waits for reviews\.", page)
        assert "get_revenue_metrics" in await shown(hub, "pat", "tools")
        assert "get_revenue_metrics" not in await shown(hub, "ana", "tools")


async def test_users_of_a_server_that_waits_are_told_so_and_whom_to_ask_and_nothing_of_its_release() -> None:
    async with reviewed_company() as (hub, company):
        digest = await release(hub, company, changed())
        ask = "Ask platform in #data-platform."
        page = await shown(hub, "ana")
        told = "Nobody can call it: it is in review, for a new release of it waits for reviews."
        assert f"{told} {ask} Explain why" in plain(page)
        assert "1.0.1" not in page
        assert digest[:12] not in page
        ana, pat = await signed_in(hub, "ana"), await signed_in(hub, "pat")
        explained = await ana.get(f"{URL}/explain?server=prod/presto")
        assert "<option selected>prod/presto</option>" in explained.text
        words = f"its Security review has not decided; see {URL}/servers/prod/presto/security"
        assert f"prod/presto is in review: {words}. {ask}" in plain(explained.text)
        for tool in ("run_query", "nothing"):
            tried = await pat.get(f"{URL}/servers/prod/presto/try?tool={tool}")
            assert "Nobody can call prod/presto now: it is in review" in plain(tried.text)


async def test_what_the_operator_granted_without_a_review_is_not_called_out_of_reach(hub: Hub) -> None:
    page = plain(await shown(hub, tab="security"))
    assert "What is granted to it was granted without one, by the operator." in page
    assert "Nothing of it is reachable" not in page


async def draft(hub: Hub) -> None:
    record = {"description": "planned things", "owner": "ads-eng", "support_channel": "#ads"}
    async with hub.parts.registry.changing() as changing:
        await changing.register("dev/planned", record, Actor("ana"), "to plan")


async def test_a_client_is_told_where_the_server_is_not_open_from_its_surface(hub: Hub, company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace('"ide"', '"chat"'))
    await hub.parts.registry.refresh()
    page = plain(await shown(hub, tab="connect"))
    assert "Not open to Ana from ide, which is where this client counts." in page
    assert page.count("which is where this client counts") == 2  # VS Code and Cursor
    assert "vscode:mcp" not in page
    assert "cursor://" not in page


async def test_nobody_in_particular_is_shown_no_tool_and_no_way_in(hub: Hub) -> None:
    for server in ("prod/presto", "prod/nothing"):
        for tab in ("tools", "connect"):
            response = await hub.public.get(f"/servers/{server}/{tab}")
            assert response.status_code == (200 if server == "prod/presto" else 404)
            assert "run_query" not in response.text
            assert "claude mcp" not in response.text


async def test_what_authors_write_is_text_and_never_markup(company: Company) -> None:
    evil = "<script>alert(1)</script>"
    declared = presto(description=evil, title=evil, support_channel='"><img src=x>')
    declared["tools"][0]["description"] = evil
    company.deploy("prod/presto", declared)
    async with opened(company) as hub:
        pages = [
            (await hub.public.get(f"/servers/prod/presto{tab}", params={"as": "ana"})).text
            for tab in ("", "/tools", "/connect", "/security")
        ]
    assert "&lt;script&gt;" in pages[1]
    for page in pages:
        assert page.count("&lt;script&gt;") >= 2
        assert "<script>" not in page
        assert "<img src=x" not in page


async def test_one_script_of_our_own_runs_where_one_copies_and_none_on_the_other_pages(hub: Hub) -> None:
    page = await hub.public.get("/servers/prod/presto/connect", params={"as": "ana"})
    assert page.headers["content-security-policy"].endswith("; script-src 'self'")
    [source] = re.findall(r'<script src="([^"]+)" defer></script>', page.text)
    script = await hub.public.get(source)
    assert script.headers["content-type"].startswith("text/javascript")
    assert "innerHTML" not in script.text
    tabs = ("", "/tools", "/security", "/releases", "/history", "/edit", "/try")
    others = ("/", "/teams", "/history", "/servers/new", "/sign-in", "/nothing/servers/x")
    for path in (*others, *(f"/servers/prod/presto{tab}" for tab in tabs)):
        other = await hub.public.get(path, headers={"Accept": "text/html"})
        assert "script-src" not in other.headers["content-security-policy"]
        assert "<script" not in other.text


async def test_the_home_page_leads_to_the_servers_one_may_use(hub: Hub) -> None:
    assert 'href="/servers/prod/presto/connect?as=ana&amp;surface=cli"' in await hub.page(**{"as": "ana"})
    assert "/connect" not in await hub.page(**{"as": "gus"})
    assert "/connect" not in await hub.page()


async def test_servers_are_listed_as_from_another_surface(hub: Hub) -> None:
    async def listed(**query: str) -> list[str]:
        return [each["server"] for each in (await hub.api("ana", "servers", **query)).json()["servers"]]

    assert await listed() == ["dev/scratch", "prod/presto"]
    assert await listed(surface="chat") == ["prod/presto"]
    assert (await hub.api("ana", "servers", surface="service")).status_code == 422


async def test_why_a_server_is_stopped_is_for_those_who_could_use_it(hub: Hub, company: Company) -> None:
    stop = '[servers."prod/presto"]\nstopped = "it counts <b>twice</b>"\n'
    company.grants.write_text(company.grants.read_text().replace('[servers."prod/presto"]\n', stop))
    await hub.parts.registry.refresh()
    for person, told in (("ana", True), ("pat", True), ("gus", False), ("sam", False)):
        for tab in ("", "tools", "connect", "security"):
            page = await shown(hub, person, tab)
            assert 'class="state stopped">stopped' in page
            assert ("twice" in page) is told
