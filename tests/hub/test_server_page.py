"""A server's page: whose it is, the tools of who looks, and how each client is connected to it."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from pegboard.core.client_configs import BY_ID
from tests.hub.company import PRESTO, Company, Hub, opened, presto

pytestmark = pytest.mark.anyio


async def shown(hub: Hub, person: str = "ana", server: str = "prod/presto", surface: str = "cli") -> str:
    response = await hub.public.get(f"/servers/{server}", params={"as": person, "surface": surface})
    assert response.status_code == 200
    return html.unescape(response.text)


async def test_it_tells_whose_the_server_is_and_what_it_is_for(hub: Hub) -> None:
    page = await shown(hub)
    for words in ("prod/presto", "Query the warehouse", "platform", "#data-platform", "confidential", PRESTO):
        assert words in page


async def test_it_shows_the_tools_of_who_looks_and_no_others(hub: Hub) -> None:
    assert "get_revenue_metrics" in await shown(hub, "ana")
    page = await shown(hub, "fay")
    assert "<code>run_query</code>" in page
    assert "get_revenue_metrics" not in page


@pytest.mark.parametrize("client", BY_ID)
async def test_every_client_has_its_snippet_and_what_comes_next(hub: Hub, client: str) -> None:
    page = await shown(hub)
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
async def test_a_client_with_a_command_shows_it_ready_to_copy(hub: Hub, client: str) -> None:
    page = await shown(hub)
    assert COMMANDS[client].replace("URL", PRESTO) in page


async def test_links_add_the_server_to_the_clients_that_take_one(hub: Hub) -> None:
    links = re.findall(r'href="((?:vscode|cursor):[^"]+)"', await shown(hub))
    vscode, cursor = links
    assert vscode.startswith("vscode:mcp/install?")
    described = json.loads(unquote(vscode.partition("?")[2]))
    assert described == {"name": "pegboard-prod-presto", "type": "http", "url": PRESTO}
    query = parse_qs(urlsplit(cursor).query)
    assert cursor.startswith("cursor://anysphere.cursor-deeplink/mcp/install?")
    assert query["name"] == ["pegboard-prod-presto"]
    assert json.loads(base64.b64decode(query["config"][0])) == {"url": PRESTO}


@pytest.mark.parametrize("server", ["prod/presto", "prod/nothing", "PROD/x", "prod/<b>"])
async def test_a_server_that_is_not_open_is_answered_as_one_that_does_not_exist(hub: Hub, server: str) -> None:
    there = await hub.public.get("/servers/prod/presto", params={"as": "gus"})
    other = await hub.public.get(f"/servers/{server}", params={"as": "gus"})
    assert (other.status_code, there.status_code) == (404, 404)
    for response in (there, other):
        error = response.json()["error"]
        del error["request_id"]
        assert error["message"].startswith("No such server here for you")
        assert "presto" not in json.dumps(error)


async def test_a_client_is_told_where_the_server_is_not_open_from_its_surface(hub: Hub, company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace('"ide"', '"chat"'))
    await hub.parts.registry.refresh()
    page = await shown(hub)
    assert "Not open to Ana from ide, which is where this client counts." in page
    assert page.count("which is where this client counts") == 2  # VS Code and Cursor
    assert "vscode:mcp" not in page
    assert "cursor://" not in page


async def test_nobody_in_particular_is_shown_no_server(hub: Hub) -> None:
    for server in ("prod/presto", "prod/nothing"):
        response = await hub.public.get(f"/servers/{server}")
        assert response.status_code == 200
        assert "Choose a person above" in response.text
        assert PRESTO not in response.text


async def test_what_authors_write_is_text_and_never_markup(company: Company) -> None:
    evil = "<script>alert(1)</script>"
    declared = presto(description=evil, title=evil, support_channel='"><img src=x>')
    declared["tools"][0]["description"] = evil
    company.deploy("prod/presto", declared)
    async with opened(company) as hub:
        page = (await hub.public.get("/servers/prod/presto", params={"as": "ana"})).text
    assert page.count("&lt;script&gt;") >= 3
    assert "<script>" not in page
    assert page.count("<script") == 1  # ours
    assert "<img src=x" not in page


async def test_one_script_of_our_own_runs_on_a_servers_page_and_none_elsewhere(hub: Hub) -> None:
    page = await hub.public.get("/servers/prod/presto", params={"as": "ana"})
    assert "; script-src 'self'" in page.headers["content-security-policy"]
    [source] = re.findall(r'<script src="([^"]+)" defer></script>', page.text)
    script = await hub.public.get(source)
    assert script.headers["content-type"].startswith("text/javascript")
    assert "innerHTML" not in script.text
    for path in ("/", "/servers", "/sign-in", "/nothing/servers/x"):
        other = await hub.public.get(path, headers={"Accept": "text/html"})
        assert "script-src" not in other.headers["content-security-policy"]
        assert "<script" not in other.text


async def test_the_home_page_leads_to_the_servers_one_may_use(hub: Hub) -> None:
    assert 'href="/servers/prod/presto?as=ana&amp;surface=cli"' in await hub.page(**{"as": "ana"})
    assert "/servers/" not in await hub.page(**{"as": "gus"})
    assert "/servers/" not in await hub.page()


async def test_servers_are_listed_as_from_another_surface(hub: Hub) -> None:
    async def listed(**query: str) -> list[str]:
        return [each["server"] for each in (await hub.api("ana", "servers", **query)).json()["servers"]]

    assert await listed() == ["dev/scratch", "prod/presto"]
    assert await listed(surface="chat") == ["prod/presto"]
    assert (await hub.api("ana", "servers", surface="service")).status_code == 422
