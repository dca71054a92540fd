"""Which reviews a release opens, what it changes while it waits, and what an approval covers."""

from __future__ import annotations

import pytest

from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.record import RECORD_FIELDS
from pegboard_hub.registry.reviews.model import Kind, State
from tests.hub.company import URL, Company, Hub, presto
from tests.hub.reviewing import (
    PRESTO,
    ask,
    ask_genai,
    changed,
    decide,
    decide_all,
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
