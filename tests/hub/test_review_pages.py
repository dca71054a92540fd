"""The pages of reviews and of access: what they show to whom, and what they keep of what was filled in."""

from __future__ import annotations

import re

import httpx2
import pytest
from markupsafe import escape
from sqlalchemy import update

from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access
from pegboard_hub.registry.reviews.model import Difference, Kind, State
from pegboard_hub.web.pages.reviews.differences import differing
from tests.hub.company import URL, Company, Hub
from tests.hub.reviewing import (
    PRESTO,
    ask,
    ask_genai,
    changed,
    decide,
    open_ones,
    page_of,
    register,
    release,
    send_form,
    server,
    signed_in,
    words,
)

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed]


async def test_what_waits_for_somebody_comes_first_and_its_number_is_in_the_navigation(
    hub: Hub, company: Company
) -> None:
    sol = await signed_in(hub, "sol")
    empty = words(await sol.get(f"{URL}/reviews"))
    assert "Nothing waits for you." in empty
    await release(hub, company, changed())
    assert "Reviews 1 waits for you" in words(await sol.get(f"{URL}/"))
    shown = words(await sol.get(f"{URL}/reviews"))
    assert re.search(r"Waiting for you .* prod/presto Security review of prod/presto open pegboard", shown)
    pat = words(await (await signed_in(hub, "pat")).get(f"{URL}/reviews"))
    assert "What you and your teams asked for" in pat
    assert "wait for you" not in pat
    await decide(hub, "sol", (await open_ones(hub))[Kind.SECURITY])
    assert "1 waits for you" not in words(await sol.get(f"{URL}/reviews"))


async def test_a_reviewer_reads_line_by_line_what_differs(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    page = await (await signed_in(hub, "sol")).get(f"{URL}/reviews/{review.id}")
    assert "tool run_query" in words(page)
    assert "added: Also deletes." in words(page)
    assert "removed:" not in words(page)
    assert "get_revenue_metrics" not in words(page).partition("Show all of it")[0]


async def test_who_would_gain_what_is_shown_before_somebody_asks_and_before_somebody_decides(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    look = f"{URL}/servers/{PRESTO}/access?look=1&groups=search-eng&surfaces:cli=on"
    asked = words(await pat.get(look))
    assert re.search(r"search-eng Sam cli call run_query", asked)
    assert re.search(r"finance Fay .* no more run_query", asked)
    more = server(hub).granted
    await ask(hub, "pat", PRESTO, more._replace(groups=(*more.groups, "search-eng")))
    review = (await open_ones(hub))[Kind.PRIVACY]
    shown = words(await (await signed_in(hub, "lea")).get(f"{URL}/reviews/{review.id}"))
    assert "1 person gains tools." in shown
    assert re.search(r"search-eng Sam [a-z, ]+ call run_query", shown)


async def test_what_a_new_release_would_change_is_told_beside_what_was_approved(hub: Hub, company: Company) -> None:
    """While it waits nobody can call it; that everybody gets it back is no gain."""
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    shown = words(await (await signed_in(hub, "sol")).get(f"{URL}/reviews/{review.id}"))
    assert "Nobody gains or loses anything." in shown


async def test_who_is_not_involved_reads_outcomes_and_no_tool(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review, conditions="No exports")
    fay = await signed_in(hub, "fay")
    page = words(await fay.get(f"{URL}/reviews/{review.id}"))
    assert "Approved by sol" in page
    assert "run_query" not in page
    assert "Also deletes" not in page
    answer = await send_form(hub, fay, f"/reviews/{review.id}/comment", comment="Hello")
    assert answer.status_code == 403
    assert await hub.parts.reviewing.comments(review.id) == []


async def test_owners_and_reviewers_talk_about_it(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    for person, text in (("sol", "Why does it delete?"), ("pat", "It does not:\nthe text is old.")):
        browser = await signed_in(hub, person)
        await browser.press(await browser.get(f"{URL}/reviews/{review.id}"), "Say it", comment=text)
    shown = (await browser.get(f"{URL}/reviews/{review.id}")).text
    assert re.search(r"sol.*Why does it delete\?.*pat.*It does not:\nthe text is old\.", shown, re.S)


async def test_ticks_are_kept_and_all_of_them_are_wanted_for_an_approval(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol = await signed_in(hub, "sol")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    box, *_ = re.findall(r'name="(item:\w+)"', page.text)
    answer = await sol.press(page, "approve", **{box: "on"})
    assert answer.status_code == 422
    assert "not ticked" in words(answer)
    assert f'name="{box}" checked' in answer.text
    await sol.press(page, "keep", **{box: "on"})
    kept = (await sol.get(f"{URL}/reviews/{review.id}")).text
    assert re.findall(r'name="(item:\w+)" checked', kept) == [box]


async def test_all_of_a_decision_is_kept_for_later_and_nobody_takes_it_for_an_outcome(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol = await signed_in(hub, "sol")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    unticked = page.text.replace('name="groups:ads-eng" checked', 'name="groups:ads-eng"')
    assert unticked != page.text
    form = httpx2.Response(200, text=unticked, request=page.request)
    await sol.press(form, "keep", conditions="Until the next audit", why="I asked them")
    again = await sol.get(f"{URL}/reviews/{review.id}")
    assert 'name="groups:ads-eng">' in again.text
    assert 'name="groups:platform" checked' in again.text
    assert ">Until the next audit</textarea>" in again.text
    assert ">I asked them</textarea>" in again.text
    kept = await hub.parts.reviewing.find(review.id)
    assert (kept.state, kept.granted, kept.conditions, kept.outcome_why) == (State.OPEN, None, "", "")
    pat = await signed_in(hub, "pat")
    assert "Until the next audit" not in words(await pat.get(f"{URL}/servers/{PRESTO}/security"))
    # A rejection is what it says, and nothing that was kept before it.
    await decide(hub, "sol", kept, "reject", why="It deletes.", conditions="")
    rejected = await hub.parts.reviewing.find(review.id)
    assert (rejected.granted, rejected.conditions, rejected.outcome_why) == (None, "", "It deletes.")


async def test_a_reviewer_sees_what_another_left_out_and_under_which_conditions(hub: Hub) -> None:
    await register(hub, uses_models=True, links={"docs": "https://wiki.example/docs"})
    await ask(hub, "sam", "prod/wiki", Access(("finance", "search-eng"), ("cli",)))
    found = await open_ones(hub, "prod/wiki")
    sol, lea = await signed_in(hub, "sol"), await signed_in(hub, "lea")
    page = await sol.get(f"{URL}/reviews/{found[Kind.SECURITY].id}")
    assert "Models sends data to a language model" in words(page)
    assert 'href="https://wiki.example/docs"' in page.text
    assert "Nothing of it was approved yet" in words(page)
    assert "What differs from what was approved last" not in words(page)
    assert "nobody gains anything before its first release" in words(page)
    without = ["groups:finance"]
    await decide(hub, "sol", found[Kind.SECURITY], without=without, conditions="Until the next audit")
    shown = words(await lea.get(f"{URL}/reviews/{found[Kind.PRIVACY].id}"))
    assert "Left out: finance Conditions: Until the next audit" in shown
    assert "Nothing of it was approved yet" in shown


async def test_a_reviewer_reads_a_list_that_differs_whole(hub: Hub) -> None:
    before = server(hub).granted
    many = tuple(f"team-{number:02}" for number in range(12))
    async with hub.parts.registry.changing() as changing:
        held = before._replace(groups=(*before.groups, *many))
        await changing.apply(Change(PRESTO, Actor("pat"), "grant", "all of them", granted=held, requested=held))
    await ask(hub, "pat", PRESTO, held._replace(groups=(*held.groups, "search-eng")))
    [review, *_] = (await open_ones(hub)).values()
    [groups] = [each for each in differing(review.changes) if each.title == "access: groups"]
    told = {line.text for line in groups.parts[0].lines}
    assert {*held.groups, "search-eng"} == told


async def test_what_was_decided_last_comes_first_with_when_it_was_decided(hub: Hub) -> None:
    for name in ("prod/wiki", "prod/news"):
        await register(hub, name)
        await ask(hub, "sam", name, Access(("search-eng",), ("cli",)))
    first = (await open_ones(hub, "prod/news"))[Kind.PRIVACY]
    last = (await open_ones(hub, "prod/wiki"))[Kind.PRIVACY]
    await decide(hub, "lea", first)
    await decide(hub, "lea", last)
    listed = await hub.parts.reviewing.listed(
        states=[State.APPROVED], kinds=[Kind.PRIVACY], by_decision=True, limit=2
    )
    assert [review.server for review in listed] == ["prod/wiki", "prod/news"]
    after = (listed[0].since_ms, listed[0].id)
    [second, *_] = await hub.parts.reviewing.listed(
        states=[State.APPROVED], kinds=[Kind.PRIVACY], by_decision=True, before=after
    )
    assert second.server == "prod/news"


async def test_the_page_of_access_says_what_is_new_what_is_nobody_and_what_changes_nothing(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    granted = server(hub).granted
    query = {"look": "1", **{f"surfaces:{surface}": "on" for surface in granted.surfaces}}
    url = f"{URL}/servers/{PRESTO}/access"
    same = await pat.get(str(httpx2.URL(url, params=query | {"groups": " ".join(granted.groups)})))
    assert "Ask for it no more" in words(same)
    assert "Nobody gains or loses anything by it." in words(same)
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change(PRESTO, Actor("pat"), "grant", "as it is", granted=granted, requested=granted))
    same = await pat.get(str(httpx2.URL(url, params=query | {"groups": " ".join(granted.groups)})))
    assert "this is what it has, or asks for already" in words(same)
    assert "Give back" not in words(same)
    groups = " ".join((*granted.groups, "serch-eng"))
    new = words(await pat.get(str(httpx2.URL(url, params=query | {"groups": groups}))))
    assert "serch-eng new" in new
    assert "Nobody is in serch-eng." in new
    await register(hub)
    sam = await signed_in(hub, "sam")
    draft = words(await sam.get(f"{URL}/servers/prod/wiki/access?look=1&groups=search-eng&surfaces:cli=on"))
    assert "Nobody is in" not in draft


async def test_a_decision_that_comes_too_late_is_kept_as_it_was_filled_in(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol = await signed_in(hub, "sol")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    unticked = page.text.replace('name="groups:ads-eng" checked', 'name="groups:ads-eng"')
    box, *_ = re.findall(r'name="(item:\w+)"', page.text)
    async with hub.parts.database.write() as connection:
        await connection.execute(update(sessions).where(sessions.c.sub == "sol").values(authenticated_at_ms=0))
    form = httpx2.Response(200, text=unticked, request=page.request)
    answer = await sol.press(form, "approve", conditions="Until the next audit", **{box: "on"})
    back = await sol.press(await sol.get(f"{URL}{answer.headers['location']}"), "sol")
    again = await sol.get(f"{URL}{back.headers['location']}")
    assert "Kept as you filled it in. Nothing is decided yet." in words(again)
    assert 'name="groups:ads-eng">' in again.text
    assert 'name="groups:platform" checked' in again.text
    assert re.findall(r'name="(item:\w+)" checked', again.text) == [box]
    assert ">Until the next audit</textarea>" in again.text
    assert not server(hub).reachable


async def test_who_unticks_what_is_granted_is_told_before_and_after_that_it_ends(hub: Hub) -> None:
    held = server(hub).granted
    ends = held.surfaces[0]
    await ask(hub, "pat", PRESTO, held._replace(groups=(*held.groups, "search-eng")))
    found = await open_ones(hub)
    sol, lea = await signed_in(hub, "sol"), await signed_in(hub, "lea")
    page = await sol.get(f"{URL}/reviews/{found[Kind.SECURITY].id}")
    assert f"{ends} granted now; unticking ends it" in words(page)
    assert "left unticked is taken from everybody" in words(page)
    text = page.text.replace(f'name="surfaces:{ends}" checked', f'name="surfaces:{ends}"')
    await sol.press(httpx2.Response(200, text=text, request=page.request), "keep")
    kept = words(await sol.get(str(page.url)))
    assert "Who would lose what, by what is left out until now" in kept
    await decide(hub, "sol", found[Kind.SECURITY])
    before = words(await lea.get(f"{URL}/reviews/{found[Kind.PRIVACY].id}"))
    assert f"Granted now, and left out by another approval: {ends} . It ends for everybody" in before
    after = words(await decide(hub, "lea", found[Kind.PRIVACY]))
    assert f"With this approval ended, for everybody who had it: {ends} ." in after
    assert ends not in server(hub).granted.surfaces


async def test_a_review_shows_nothing_of_what_is_empty_and_blames_no_author_for_access(
    hub: Hub, company: Company
) -> None:
    await ask(hub, "pat", PRESTO, server(hub).granted._replace(groups=("search-eng",)))
    sol = await signed_in(hub, "sol")
    page = words(await sol.get(await page_of(hub, PRESTO, Kind.SECURITY)))
    assert "Everything below is its author" not in page
    await release(hub, company, changed(egress=[]))
    assert differing([Difference("requested channels", None, []), Difference("egress", None, {})]) == ()
    page = words(await sol.get(await page_of(hub, PRESTO, Kind.SECURITY)))
    assert "Everything below is its author" in page


@pytest.mark.parametrize("what", ["reopen", "genai", "lift", "ask", "lifecycle"])
async def test_a_reason_that_comes_too_late_is_not_lost(hub: Hub, company: Company, what: str) -> None:
    await release(hub, company, changed())
    found, person = (await open_ones(hub))[Kind.SECURITY], "sol"
    field, button, fields = f"{what}-why", {"reopen": "Reopen"}.get(what, "Ask for it"), {}
    path = f"/reviews/{found.id}"
    if what == "reopen":
        await decide(hub, "sol", found, "reject", why="no")
    if what == "lift":
        await ask_genai(hub, found)
        path, button = f"/reviews/{(await open_ones(hub))[Kind.GENAI].id}", "Ask for it no more"
    if what in ("ask", "lifecycle"):
        person, path, field = "pat", f"/servers/{PRESTO}/access", "why"
    if what == "ask":
        path += "?look=1&groups=sales&surfaces:cli=on"
    if what == "lifecycle":
        field, button, fields = "move-why", "Change its lifecycle", {"action": "retire"}
    browser, why, before = await signed_in(hub, person), 'It\'s "new" & für <b>Zoë</b>', server(hub)
    page = await browser.get(URL + path)
    async with hub.parts.database.write() as connection:
        await connection.execute(update(sessions).where(sessions.c.sub == person).values(authenticated_at_ms=0))
    answer = await browser.press(page, button, why=why, **fields)
    assert answer.headers["location"].startswith("/sign-in?again=1")
    back = await browser.press(await browser.get(f"{URL}{answer.headers['location']}"), person)
    again = await browser.get(f"{URL}{back.headers['location']}")
    assert f'id="{field}" name="why" value="{escape(why)}"' in again.text
    assert again.text.count("f\u00fcr") == 1
    assert ('value="retire" required checked' in again.text) is (what == "lifecycle")
    assert server(hub) == before


async def test_access_that_cannot_be_is_told_with_the_field(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    page = await pat.get(f"{URL}/servers/{PRESTO}/access?look=1&groups=Ads%20Eng")
    assert page.status_code == 422
    assert "groups: 'Ads' is no group" in words(page).replace("&#39;", "'")
    assert ">Ads Eng</textarea>" in page.text
