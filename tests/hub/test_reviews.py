"""Reviews: who looks at what before production, and the grant that comes of it."""

from __future__ import annotations

import re

import httpx2
import pytest

from pegboard_hub.registry.history import entries
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.stopping.service import Who
from tests.hub.company import URL, Company, Hub
from tests.hub.reviewing import (
    PRESTO,
    ask,
    changed,
    decide,
    decide_all,
    move,
    open_ones,
    register,
    release,
    send_form,
    server,
    signed_in,
    words,
)

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed]


async def test_a_rejection_keeps_it_out_and_wants_a_reason_and_can_be_looked_at_again(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    assert "the reason is empty" in words(await decide(hub, "sol", review, "reject"))
    opened_again = await (await signed_in(hub, "sol")).get(f"{URL}/reviews/{review.id}/decide")
    assert opened_again.headers["location"] == f"/reviews/{review.id}"
    assert "Rejected." in words(await decide(hub, "sol", review, "reject", why="It deletes."))
    assert not server(hub).reachable
    assert await open_ones(hub) == {}
    owner = await signed_in(hub, "pat")
    page = await owner.get(f"{URL}/reviews/{review.id}")
    assert "It deletes." in words(page)
    assert 'href="/servers/prod/presto/access"' in page.text
    sol = await signed_in(hub, "sol")
    await sol.press(await sol.get(str(page.url)), "Reopen", why="It asks first now.")
    [again] = (await open_ones(hub)).values()
    assert again.id != review.id
    after = words(await decide(hub, "sol", again))
    assert "It was the last one" in after
    assert "Asked for by sol on" in after
    # The rejection that it replaces stands with the earlier ones, and not beside it.
    assert "Beside this" not in after
    assert "Security , " in after.partition("Other reviews of this server")[2]
    assert server(hub).reachable


async def test_a_draft_is_submitted_by_its_team_and_granted_by_its_reviews(hub: Hub) -> None:
    await register(hub)
    page = await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    assert "Asked." in words(page)
    assert server(hub, "prod/wiki").lifecycle is Lifecycle.IN_REVIEW
    found = await open_ones(hub, "prod/wiki")
    assert set(found) == {Kind.SECURITY, Kind.PRIVACY}
    await decide(hub, "lea", found[Kind.PRIVACY])
    await decide(hub, "sol", found[Kind.SECURITY])
    approved = server(hub, "prod/wiki")
    assert (approved.lifecycle, approved.granted) == (Lifecycle.APPROVED, Access(("search-eng",), ("cli",)))
    page = (await (await signed_in(hub, "sam")).get(f"{URL}/servers/prod/wiki/security")).text
    granted = page.partition("Granted by:")[2].partition("</p>")[0]
    for kind, title in ((Kind.SECURITY, "Security review"), (Kind.PRIVACY, "Legal and privacy review")):
        assert f'<a href="/reviews/{found[kind].id}">{title}</a> by ' in granted


async def test_what_sends_data_to_a_model_wants_a_genai_review_too(hub: Hub) -> None:
    await register(hub, uses_models=True)
    await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    assert set(await open_ones(hub, "prod/wiki")) == set(Kind)


async def test_a_draft_in_a_namespace_that_nobody_reviews_is_approved_at_once(hub: Hub) -> None:
    await register(hub, "dev/wiki")
    page = await ask(hub, "sam", "dev/wiki", Access(("search-eng",), ("cli",)))
    assert "it holds once a release is" in words(page)
    found = server(hub, "dev/wiki")
    assert (found.lifecycle, found.granted) == (Lifecycle.APPROVED, Access(("search-eng",), ("cli",)))
    assert await open_ones(hub, "dev/wiki") == {}


async def test_more_access_waits_for_reviews_and_less_holds_at_once(hub: Hub) -> None:
    before = server(hub).granted
    more = before._replace(groups=(*before.groups, "sales"))
    assert "Asked." in words(await ask(hub, "pat", PRESTO, more))
    assert server(hub).granted == before
    assert server(hub).reachable
    found = await open_ones(hub)
    assert set(found) == {Kind.SECURITY, Kind.PRIVACY}
    await decide(hub, "sol", found[Kind.SECURITY])
    assert "sales" not in server(hub).granted.groups
    await decide(hub, "lea", found[Kind.PRIVACY])
    assert "sales" in server(hub).granted.groups
    less = Access(("ads-eng",), ("cli",))
    assert "It holds from now on" in words(await ask(hub, "pat", PRESTO, less))
    assert server(hub).granted == less
    assert await open_ones(hub) == {}
    async with hub.parts.database.read() as connection:
        [newest, *_] = await entries(connection, server=PRESTO, limit=1)
    assert (newest.actor, newest.action) == ("pat", "give back")


@pytest.mark.parametrize("field", ["groups", "surfaces"])
async def test_an_approval_that_lets_nobody_in_is_refused(hub: Hub, company: Company, field: str) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol = await signed_in(hub, "sol")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    boxes = dict.fromkeys(re.findall(r'name="(item:\w+)"', page.text), "on")
    text = re.sub(rf'(name="{field}:[^"]+") checked', r"\1", page.text)
    answer = await sol.press(httpx2.Response(200, text=text, request=page.request), "approve", **boxes)
    assert answer.status_code == 422
    assert "nobody would get in" in words(answer)
    assert set(await open_ones(hub)) == {Kind.SECURITY}


async def test_who_stops_and_resumes_a_server_and_its_tools_still_decides_on_it(hub: Hub, company: Company) -> None:
    security = Who.person("sol", ("security",))
    for kind, name in (("server", "prod/presto"), ("tool", "prod/presto/run_query")):
        await hub.parts.stopping.stop(security, kind, name, "it counts twice")
        await hub.parts.stopping.resume(security, kind, name, "mended")
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review)
    assert server(hub).reachable


async def test_a_rejection_reaches_the_author_and_spares_the_other_reviewers(hub: Hub) -> None:
    await register(hub)
    await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    found = await open_ones(hub, "prod/wiki")
    await decide(hub, "sol", found[Kind.SECURITY], "reject", why="It deletes.")
    sam, lea = await signed_in(hub, "sam"), await signed_in(hub, "lea")
    told = "The Security review of prod/wiki was rejected"
    assert told in words(await sam.get(f"{URL}/"))
    page = await sam.get(f"{URL}/servers/prod/wiki")
    assert "Its Security review was rejected." in words(page)
    assert f'href="/reviews/{found[Kind.SECURITY].id}">Look at the review' in page.text
    assert "Nothing waits for you." in words(await lea.get(f"{URL}/reviews"))
    await sam.press(await sam.get(f"{URL}/reviews/{found[Kind.SECURITY].id}"), "Reopen", why="It asks first.")
    assert "Nothing waits for you." not in words(await lea.get(f"{URL}/reviews"))
    assert told not in words(await sam.get(f"{URL}/"))


async def test_what_is_given_back_is_called_that_in_the_history(hub: Hub) -> None:
    granted = server(hub).granted
    await ask(hub, "pat", PRESTO, granted._replace(groups=granted.groups[1:]))
    async with hub.parts.database.read() as connection:
        [entry, *_] = await entries(connection, server=PRESTO, limit=1)
    assert entry.action == "give back"


async def test_what_was_submitted_is_taken_back_to_draft_mended_and_submitted_anew(hub: Hub) -> None:
    wiki = "prod/wiki"
    await register(hub)
    await ask(hub, "sam", wiki, Access(("search-eng",), ("cli",)))
    found = await open_ones(hub, wiki)
    await decide(hub, "sol", found[Kind.SECURITY], "reject", why="Describe what data it reads.")
    sam, lea = await signed_in(hub, "sam"), await signed_in(hub, "lea")
    page = words(await sam.get(f"{URL}/servers/{wiki}/edit"))
    assert "Take it back to draft at /servers/prod/wiki/access first." in page
    assert "pegboard.toml" not in page
    rejected = await sam.get(f"{URL}/reviews/{found[Kind.SECURITY].id}")
    assert 'href="/servers/prod/wiki/access#moves"' in rejected.text
    await move(hub, "sam", wiki, "take back to draft")
    assert server(hub, wiki).lifecycle is Lifecycle.DRAFT
    assert await open_ones(hub, wiki) == {}
    assert "Nothing waits for you." in words(await lea.get(f"{URL}/reviews"))
    form = await sam.get(f"{URL}/servers/{wiki}/edit")
    await sam.press(form, "Save", description="Search the wiki, all of it", why="as security wants it")
    await ask(hub, "sam", wiki, Access(("search-eng",), ("cli",)))
    assert set(await open_ones(hub, wiki)) == {Kind.SECURITY, Kind.PRIVACY}
    await decide_all(hub, wiki)
    assert server(hub, wiki).granted == Access(("search-eng",), ("cli",))
    # What was approved is no draft any more.
    sent = {"action": "take back to draft", "version": str(server(hub, wiki).version), "why": "x"}
    assert (await send_form(hub, sam, f"/servers/{wiki}/lifecycle", **sent)).status_code == 422


async def test_a_draft_that_is_brought_back_leaves_no_review_open(hub: Hub) -> None:
    await register(hub)
    await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    await move(hub, "sam", "prod/wiki", "retire")
    await move(hub, "sam", "prod/wiki", "bring back")
    assert server(hub, "prod/wiki").lifecycle is Lifecycle.DRAFT
    assert await open_ones(hub, "prod/wiki") == {}


async def test_a_bot_without_a_channel_cannot_be_asked_for(hub: Hub) -> None:
    await register(hub)
    sam = await signed_in(hub, "sam")
    query = {"look": "1", "groups": "search-eng", "surfaces:bot": "on"}
    page = words(await sam.get(str(httpx2.URL(f"{URL}/servers/prod/wiki/access", params=query))))
    assert "channels: surface bot is used in channels alone. Name a channel, or leave bot out." in page
    assert "What it would change" not in page


async def test_a_look_refuses_what_nobody_reviews_and_production_uses(hub: Hub) -> None:
    await register(hub, "dev/wiki")
    sam = await signed_in(hub, "sam")
    query = {"look": "1", "groups": "search-eng", "surfaces:chat": "on"}
    page = words(await sam.get(str(httpx2.URL(f"{URL}/servers/dev/wiki/access", params=query))))
    assert "production uses chat, and nobody reviews what is in dev" in page
    assert "it holds" not in page
    assert "its reviewers decide" not in page
    assert "for review" not in words(await sam.get(f"{URL}/servers/dev/wiki"))


@pytest.mark.parametrize(
    ("action", "lifecycle", "reachable"),
    [("deprecate", Lifecycle.DEPRECATED, True), ("retire", Lifecycle.RETIRED, False)],
)
async def test_owners_end_a_server_and_bring_it_back_with_a_reason(
    hub: Hub, action: str, lifecycle: Lifecycle, reachable: bool
) -> None:
    pat = await signed_in(hub, "pat")
    page = await pat.get(f"{URL}/servers/{PRESTO}/access")
    await pat.press(page, "Change its lifecycle", action=action, why="Trino comes")
    found = server(hub)
    assert (found.lifecycle, found.lifecycle_why, found.reachable) == (lifecycle, "Trino comes", reachable)
    page = await pat.get(f"{URL}/servers/{PRESTO}/access")
    said = f"{PRESTO} is deprecated" if reachable else "Retired"
    assert f"{said}: Trino comes" in words(page)
    await pat.press(page, "Change its lifecycle", action="bring back", why="Trino does not come")
    assert server(hub).lifecycle is Lifecycle.LIVE


async def test_a_retired_server_waits_for_nobody_until_it_is_brought_back(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol, pat = await signed_in(hub, "sol"), await signed_in(hub, "pat")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    await pat.press(
        await pat.get(f"{URL}/servers/{PRESTO}/access"), "Change its lifecycle", action="retire", why="Trino comes"
    )
    assert "Nothing waits for you." in words(await sol.get(f"{URL}/reviews"))
    assert "The server is retired" in words(await sol.press(page, "approve"))
    await pat.press(
        await pat.get(f"{URL}/servers/{PRESTO}/access"), "Change its lifecycle", action="bring back", why="It stays"
    )
    assert server(hub).lifecycle is Lifecycle.IN_REVIEW
    await decide(hub, "sol", review)
    assert server(hub).reachable


async def test_the_history_tells_who_decided_what(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review, why="Looked at every tool")
    async with hub.parts.database.read() as connection:
        told = await entries(connection, server=PRESTO, limit=2)
    assert [(entry.actor, entry.action) for entry in told] == [("sol", "grant"), ("sol", "approve")]
    assert told[1].why == "Looked at every tool"
