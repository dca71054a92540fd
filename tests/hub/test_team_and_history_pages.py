"""Teams, and what changed: what they tell, and to whom."""

from __future__ import annotations

import html
import re

import pytest

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from tests.hub.company import Company, Hub, plain

pytestmark = pytest.mark.anyio

WHY = "it answers with <b>last year’s</b> figures"


async def text(hub: Hub, path: str, person: str, /, **query: str) -> str:
    response = await hub.public.get(path, params={"as": person, **query})
    assert response.status_code == 200, response.text
    return plain(response.text)


async def stopped(hub: Hub) -> int:
    """Stop a tool that fay may not know; gives the number of the entry."""
    async with hub.parts.registry.changing() as changing:
        stops = {"get_revenue_metrics": WHY}
        await changing.apply(Change("prod/presto", Actor("pat"), "stop", WHY, stops=stops))
        return changing.seq


async def test_teams_are_listed_ones_own_first(hub: Hub) -> None:
    page = await text(hub, "/teams", "ana")
    assert page.index("platform") < page.index("tools-team")
    assert "Pat’s" in await text(hub, "/teams", "pat")


async def test_a_teams_page_tells_its_servers_and_what_they_did(hub: Hub) -> None:
    page = await text(hub, "/teams/platform", "ana")
    for words in ("1 server.", "prod/presto", "Query the warehouse", "confidential", "Open reviews"):
        assert words in page
    assert "dev/scratch" not in page


@pytest.mark.parametrize("group", ["nobody", "ads-eng", "<b>", "x" * 300])
async def test_a_team_that_owns_nothing_is_answered_as_none(hub: Hub, group: str) -> None:
    response = await hub.public.get(f"/teams/{group}", params={"as": "ana"}, headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert "<b>" not in response.text


async def test_a_team_that_owns_drafts_alone_is_known_to_those_who_know_the_drafts(hub: Hub) -> None:
    record = {"description": "planned", "owner": "ads-eng", "support_channel": "#ads"}
    async with hub.parts.registry.changing() as changing:
        await changing.register("dev/planned", record, Actor("ana"), "to plan")
    assert "dev/planned" in await text(hub, "/teams/ads-eng", "ana")
    assert (await hub.public.get("/teams/ads-eng", params={"as": "fay"})).status_code == 404
    assert "ads-eng" not in (await text(hub, "/teams", "fay")).partition("Your own teams first")[2]


@pytest.mark.parametrize(("person", "knows"), [("pat", True), ("ana", False), ("fay", False), ("gus", False)])
async def test_changes_are_told_to_owners_and_those_who_oversee_and_shortened_to_everybody(
    hub: Hub, person: str, knows: bool
) -> None:
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.DEPRECATED, "lifecycle_why": "use the lake"}
        await changing.apply(Change("prod/presto", Actor("pat"), "deprecate", "use the lake", values=values))
        deprecated = changing.seq
    assert "use the lake" in await text(hub, f"/history/{deprecated}", person)
    seq = await stopped(hub)
    told = await hub.public.get(f"/history/{seq}", params={"as": person})
    assert told.status_code == (200 if knows else 404)
    of_server = await hub.public.get("/servers/prod/presto/history", params={"as": person})
    assert of_server.status_code == 200
    assert ("This is what everybody may read of it" in of_server.text) is not knows
    assert "use the lake" in of_server.text
    # The operator's reason, in whichever row it stands, may speak of what is not for everybody.
    assert ("security review of prod/presto" in of_server.text) is knows
    api = (await hub.api(person, "servers/prod/presto/history")).json()
    assert [f"/history/{entry['seq']}?" in of_server.text for entry in api["entries"]] == [True] * len(api["entries"])
    assert len(re.findall(r'href="/history/\d', of_server.text)) == len(api["entries"])
    assert api["shortened"] is not knows
    everything = await hub.public.get("/history", params={"as": person})
    for response in (told, of_server, everything):
        assert ("last year" in response.text) is knows
        assert "<b>" not in response.text
        if not knows:
            assert "get_revenue" not in response.text


async def test_a_change_tells_what_was_before_and_what_is_since(hub: Hub, company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace('"finance", "data-infra", "platform"]', '"hr"]'))
    await hub.parts.registry.refresh()
    page = (await hub.public.get("/history", params={"as": "pat", "server": "prod/presto"})).text
    newest = re.search(r'href="(/history/\d+[^"]*)"', page)
    assert newest
    change = (await hub.public.get(html.unescape(newest[1]))).text
    gone, new = re.findall(r"<del>.*?</del>", change), re.findall(r"<ins>.*?</ins>", change)
    assert [plain(line) for line in gone] == [f"before: {group}" for group in ("data-infra", "finance", "platform")]
    assert [plain(line) for line in new] == ["since: hr"]
    assert "grants file" in plain(change)


async def test_changes_are_found_by_server_and_by_who_made_them(hub: Hub) -> None:
    await stopped(hub)
    assert "stop" in await text(hub, "/history", "pat", person="pat")
    assert "Stopped tools" not in await text(hub, "/history", "pat", person="grants file")
    assert "Stopped tools" not in await text(hub, "/history", "pat", server="dev/scratch")


@pytest.mark.parametrize(
    "query", ["server=presto", "server=prod/none", "server=%3Cb%3E", "cursor=x", f"person={'x' * 300}"]
)
async def test_what_cannot_be_read_is_said(hub: Hub, query: str) -> None:
    response = await hub.public.get(f"/history?as=pat&{query}")
    assert response.status_code == 422
    assert "<b>" not in response.text


async def test_pages_of_changes_follow_one_another(hub: Hub) -> None:
    for number in range(60):
        async with hub.parts.registry.changing() as changing:
            stops = {"run_query": f"for reason {number}"}
            await changing.apply(Change("prod/presto", Actor("pat"), "stop", f"why {number}", stops=stops))
    path, reasons = "/servers/prod/presto/history?as=pat", list[str]()
    while path:
        page = (await hub.public.get(path)).text
        reasons += re.findall(r"why (\d+)", page)
        onward = re.search(r'<a href="([^"]+)" rel="next"', page)
        path = html.unescape(onward[1]) if onward else ""
    assert reasons == [str(number) for number in range(59, -1, -1)]


@pytest.mark.parametrize("seq", ["0", "x", "-1", "9" * 30, "1.5"])
async def test_a_change_that_there_is_not_is_answered_so(hub: Hub, seq: str) -> None:
    assert (await hub.public.get(f"/history/{seq}", params={"as": "pat"})).status_code == 404
