"""Reviews: who looks at what before production, and the grant that comes of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from markupsafe import escape
from sqlalchemy import update

from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor, entries
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.record import RECORD_FIELDS
from pegboard_hub.registry.reviews.model import Difference, Kind, Review, State
from pegboard_hub.web.pages.reviews.differences import differing
from tests.hub.company import URL, Company, Hub, presto
from tests.hub.reviewing import (
    PRESTO,
    ask,
    changed,
    decide,
    move,
    open_ones,
    register,
    release,
    reviewed_company,
    send_form,
    server,
    signed_in,
    words,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def both() -> AsyncIterator[tuple[Hub, Company]]:
    async with reviewed_company() as found:
        yield found


@pytest.fixture
def hub(both: tuple[Hub, Company]) -> Hub:
    return both[0]


@pytest.fixture
def company(both: tuple[Hub, Company]) -> Company:
    return both[1]


async def ask_genai(hub: Hub, review: Review) -> None:
    sol = await signed_in(hub, "sol")
    await sol.press(await sol.get(f"{URL}/reviews/{review.id}"), "Ask for it", why="It summarises")


async def page_of(hub: Hub, name: str, kind: Kind) -> str:
    return f"{URL}/reviews/{(await open_ones(hub, name))[kind].id}"


async def decide_all(hub: Hub, name: str) -> None:
    """Approve everything that is open."""
    for kind, review in (await open_ones(hub, name)).items():
        await decide(hub, "lea" if kind is Kind.PRIVACY else "sol", review)


async def test_a_release_that_changes_a_tool_is_out_of_reach_until_its_review_approves_it(
    hub: Hub, company: Company
) -> None:
    before = server(hub).granted
    digest = await release(hub, company, changed())
    assert not server(hub).reachable
    assert set(await open_ones(hub)) == {Kind.SECURITY}
    page = await decide(hub, "sol", (await open_ones(hub))[Kind.SECURITY])
    assert "It was the last one" in words(page)
    found = server(hub)
    assert found.reachable
    assert found.lifecycle is Lifecycle.LIVE
    assert found.release is not None
    assert found.release.digest == digest
    assert found.waiting is None
    # It was looked at for its tools alone, so who may use it stays as it was.
    assert found.granted == before
    assert "security review" in found.reason
    assert "by sol" in found.reason


async def test_a_change_that_concerns_two_waits_for_both_and_grants_what_both_approve(
    hub: Hub, company: Company
) -> None:
    await release(
        hub, company, changed(requests={"business_groups": ["ads-eng", "sales"], "surfaces": ["cli", "chat"]})
    )
    found = await open_ones(hub)
    assert set(found) == {Kind.SECURITY, Kind.PRIVACY}
    page = await decide(hub, "sol", found[Kind.SECURITY], conditions="Until the next audit")
    assert "The other reviews of this are still wanted." in words(page)
    assert not server(hub).reachable
    page = await decide(hub, "lea", found[Kind.PRIVACY], without=["groups:sales"])
    assert "It was the last one" in words(page)
    granted = server(hub).granted
    assert "sales" not in granted.groups
    assert {"ads-eng", "platform"} <= set(granted.groups)
    assert server(hub).reachable
    outcome = words(await (await signed_in(hub, "lea")).get(f"{URL}/reviews/{found[Kind.SECURITY].id}"))
    assert "Under the conditions: Until the next audit" in outcome


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


async def test_what_was_narrowed_does_not_come_back_with_a_release(hub: Hub, company: Company) -> None:
    await ask(hub, "pat", PRESTO, Access(("ads-eng",), ("cli",)))
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review)
    assert server(hub).granted == Access(("ads-eng",), ("cli",))


async def test_access_that_is_asked_for_is_still_asked_for_with_the_next_release(hub: Hub, company: Company) -> None:
    before = server(hub).granted
    more = before._replace(groups=(*before.groups, "sales"))
    await ask(hub, "pat", PRESTO, more)
    first = await open_ones(hub)
    await decide(hub, "sol", first[Kind.SECURITY])
    await release(hub, company, presto(resources={"memory_mb": 1024}))
    assert server(hub).reachable
    second = await open_ones(hub)
    assert set(second) == {Kind.SECURITY, Kind.PRIVACY}
    assert {review.id for review in first.values()}.isdisjoint(review.id for review in second.values())
    # What was decided on the release before does not count for this one.
    await decide(hub, "lea", second[Kind.PRIVACY])
    assert "sales" not in server(hub).granted.groups
    await decide(hub, "sol", second[Kind.SECURITY])
    assert "sales" in server(hub).granted.groups


async def test_a_release_that_goes_back_ends_the_reviews_of_the_one_before(hub: Hub, company: Company) -> None:
    await release(hub, company, changed(sensitivity="public"))
    first = await open_ones(hub)
    assert set(first) == {Kind.SECURITY, Kind.PRIVACY}
    await release(hub, company, changed())
    assert set(await open_ones(hub)) == {Kind.SECURITY}
    await decide(hub, "sol", (await open_ones(hub))[Kind.SECURITY])
    assert server(hub).reachable
    ended = await hub.parts.reviewing.find(first[Kind.PRIVACY].id)
    assert ended.state is State.SUPERSEDED


async def test_a_release_that_waits_changes_nothing_of_the_record_before_it_is_approved(
    hub: Hub, company: Company
) -> None:
    said = {"title": "Presto!", "description": "Everything", "support_channel": "#new", "sensitivity": "public"}
    before = server(hub)
    for memory in (128, 256):
        await release(hub, company, changed(owner="search-eng", resources={"memory_mb": memory}, **said))
        now = server(hub)
        assert {name: getattr(now, name) for name in RECORD_FIELDS} == {n: getattr(before, n) for n in RECORD_FIELDS}
        page = words(await (await signed_in(hub, "sol")).get(await page_of(hub, PRESTO, Kind.SECURITY)))
        told = [("platform", "search-eng"), ("Query the warehouse", "Everything"), ("#data-platform", "#new")]
        for was, will in told:
            assert f"removed: {was} added: {will}" in page
    await decide_all(hub, PRESTO)
    assert {name: getattr(server(hub), name) for name in said} == said
    assert server(hub).owner == "search-eng"


async def test_what_describes_a_draft_is_no_waiting_releases_to_change(hub: Hub, company: Company) -> None:
    await register(hub, "prod/presto2", "pat", owner="platform")
    text = '\n[servers."prod/presto2"]\nsource = "../presto2"\n'
    company.grants.write_text(company.grants.read_text() + text)
    company.deploy("prod/presto2", presto(name="presto2", owner="search-eng"))
    assert await hub.parts.registry.refresh()
    assert (server(hub, "prod/presto2").owner, server(hub, "prod/presto2").waiting is None) == ("platform", False)
    await decide_all(hub, "prod/presto2")
    assert server(hub, "prod/presto2").owner == "search-eng"


async def test_a_release_that_says_it_uses_models_no_longer_is_looked_at_for_it_once_more(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed(uses_models=True))
    await decide_all(hub, PRESTO)
    await release(hub, company, changed())
    assert Kind.GENAI in await open_ones(hub)
    page = words(await (await signed_in(hub, "sol")).get(await page_of(hub, PRESTO, Kind.GENAI)))
    assert "uses models" in page
    await decide_all(hub, PRESTO)
    assert server(hub).reachable
    await release(hub, company, presto())
    assert set(await open_ones(hub)) == {Kind.SECURITY}


async def test_what_somebody_asked_to_be_looked_at_for_genai_its_reviewers_lift_with_a_reason(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed())
    await ask_genai(hub, (await open_ones(hub))[Kind.SECURITY])
    review = (await open_ones(hub))[Kind.GENAI]
    path = f"/reviews/{review.id}"
    for person in ("pat", "lea"):
        browser = await signed_in(hub, person)
        assert "Ask for it no more" not in (await browser.get(URL + path)).text
        assert (await send_form(hub, browser, f"{path}/lift", why="no models")).status_code == 403
    sol = await signed_in(hub, "sol")
    page = await sol.get(URL + path)
    assert (await sol.press(page, "Ask for it no more", why=" ")).status_code == 422
    assert (await sol.press(page, "Ask for it no more", why="It calls none")).status_code == 303
    assert "Ask for it no more" not in (await sol.get(URL + path)).text
    assert Kind.GENAI in await open_ones(hub)
    await decide_all(hub, PRESTO)
    declaration = changed()
    declaration["tools"][0]["description"] = "Run SQL, faster."
    await release(hub, company, declaration)
    assert set(await open_ones(hub)) == {Kind.SECURITY}
    told = (await hub.api("pat", f"servers/{PRESTO}/history")).json()["entries"]
    assert "It calls none" in [entry["why"] for entry in told]


async def test_reviews_without_code_cover_no_release(hub: Hub, company: Company) -> None:
    """What reviewers grant a draft they grant without having seen a tool of it, the review that one asked for too."""
    await register(hub, "prod/presto2", "pat", owner="platform")
    await ask(hub, "pat", "prod/presto2", Access(("ads-eng",), ("cli",)))
    await ask_genai(hub, (await open_ones(hub, "prod/presto2"))[Kind.SECURITY])
    found = await open_ones(hub, "prod/presto2")
    assert set(found) == set(Kind)
    await decide_all(hub, "prod/presto2")
    text = '\n[servers."prod/presto2"]\nsource = "../presto2"\n'
    company.grants.write_text(company.grants.read_text() + text)
    company.deploy("prod/presto2", presto(name="presto2"))
    assert await hub.parts.registry.refresh()
    assert not server(hub, "prod/presto2").reachable
    assert set(await open_ones(hub, "prod/presto2")) == set(Kind)
    genai = words(await (await signed_in(hub, "sol")).get(await page_of(hub, "prod/presto2", Kind.GENAI)))
    assert "tool run_query" in genai


async def test_the_operators_file_counts_as_an_approval_and_the_reviews_say_so(hub: Hub, company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace('"ads-eng", ', '"ads-eng", "sales", ', 1))
    assert await hub.parts.registry.refresh()
    newest = await hub.parts.reviewing.listed(server=PRESTO, kinds=[Kind.SECURITY], limit=1)
    assert newest[0].decided_by == "grants file"
    assert newest[0].granted is not None
    assert "sales" in newest[0].granted.groups
    # Its reason is told once, and its kinds are called what they are called everywhere.
    page = words(await (await signed_in(hub, "pat")).get(f"{URL}/servers/{PRESTO}/security"))
    assert "Legal and privacy" in page
    assert newest[0].opened_why == newest[0].outcome_why
    assert f"by grants file: {newest[0].opened_why}" not in page


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
    assert "get_revenue_metrics" not in words(page)


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


async def test_a_security_reviewer_asks_for_a_genai_review_which_is_then_wanted_too(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await ask_genai(hub, review)
    sol, found = await signed_in(hub, "sol"), await open_ones(hub)
    assert set(found) == {Kind.SECURITY, Kind.GENAI}
    await decide(hub, "sol", found[Kind.SECURITY])
    assert not server(hub).reachable
    # Who asks for a review is told as that, and does not become an author by it.
    page = words(await sol.get(await page_of(hub, PRESTO, Kind.GENAI)))
    assert "Asked for by sol on" in page
    assert "Why It summarises" in page
    await decide(hub, "sol", found[Kind.GENAI])
    assert server(hub).reachable
    # It looks at what changes later, too.
    declaration = changed()
    declaration["tools"][0]["description"] = "Run SQL.\nAlso asks a model."
    await release(hub, company, declaration)
    assert set(await open_ones(hub)) == {Kind.SECURITY, Kind.GENAI}


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
    assert f"{lifecycle.capitalize()}: Trino comes" in words(page)
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


async def test_access_that_cannot_be_is_told_with_the_field(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    page = await pat.get(f"{URL}/servers/{PRESTO}/access?look=1&groups=Ads%20Eng")
    assert page.status_code == 422
    assert "groups: 'Ads' is no group" in words(page).replace("&#39;", "'")
    assert ">Ads Eng</textarea>" in page.text


async def test_the_history_tells_who_decided_what(hub: Hub, company: Company) -> None:
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review, why="Looked at every tool")
    async with hub.parts.database.read() as connection:
        told = await entries(connection, server=PRESTO, limit=2)
    assert [(entry.actor, entry.action) for entry in told] == [("sol", "grant"), ("sol", "approve")]
    assert told[1].why == "Looked at every tool"
