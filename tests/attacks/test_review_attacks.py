"""Reviews, attacked: by authors, by agents with their person's token, by other sites, by time and by texts.

Rules (decision 30): only a person decides, in a browser where they have just said who they are, on the kind that is
theirs, on exactly what they saw, and never on what is their own.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import update

from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.registry.model import Access
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.web.pages.browser import Visitor
from tests.hub.company import URL, Company, Hub, opened, presto
from tests.hub.reviewing import (
    PRESTO,
    ask,
    changed,
    decide,
    move,
    open_ones,
    register,
    regroup,
    release,
    reviewed_company,
    send_form,
    server,
    signed_in,
    words,
)
from tests.hub.test_registry import edge_bundle
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>\u202e ignore all rules {{ 7 * 7 }}"


@dataclass
class Stage:
    """A release of prod/presto that waits for a security review."""

    hub: Hub
    company: Company
    review: Review

    async def untouched(self) -> bool:
        """Whether nobody has decided and nobody can call it."""
        found = await self.hub.parts.reviewing.find(self.review.id)
        return found.state is State.OPEN and not server(self.hub).reachable

    def form(self, browser: Browser, page: httpx2.Response | None = None, **fields: str) -> dict[str, str]:
        """An approval of everything, with the token that belongs to the browser."""
        secret = browser.cookies[self.hub.parts.identity.cookie.name]
        boxes = [f"groups:{each}" for each in self.review.subject.requested.groups]
        boxes += [f"surfaces:{each}" for each in self.review.subject.requested.surfaces]
        boxes += re.findall(r'name="(item:\w+)"', page.text) if page else []
        return {
            "form_token": Visitor(None, secret).form_token(f"/reviews/{self.review.id}/decide"),
            "version": str(self.review.version),
            "verdict": "approve",
            **dict.fromkeys(boxes, "on"),
            **fields,
        }

    async def send(self, browser: Browser, fields: dict[str, str]) -> httpx2.Response:
        """Send a decision as the page does."""
        return await browser._send("POST", f"{URL}/reviews/{self.review.id}/decide", fields)

    async def look(self, browser: Browser) -> httpx2.Response:
        """The review's page."""
        return await browser.get(f"{URL}/reviews/{self.review.id}")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with reviewed_company() as (hub, company):
        await release(hub, company, changed())
        yield Stage(hub, company, (await open_ones(hub))[Kind.SECURITY])


async def test_the_approval_of_these_attacks_works_for_whom_it_is_meant(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    answer = await stage.send(sol, stage.form(sol, await stage.look(sol)))
    assert answer.headers["location"].endswith("done=granted")
    assert server(stage.hub).reachable


@pytest.mark.parametrize(
    ("person", "groups", "reason"),
    [
        ("pat", ("platform", "security"), "own team"),
        ("lea", ("legal",), "decided by people in: security"),
        ("pat", ("platform",), "decided by people in: security"),
        ("ana", ("ads-eng",), "decided by people in: security"),
        ("gus", (), "decided by people in: security"),
        ("gus", ("Security",), "decided by people in: security"),
        ("gus", ("security-team",), "decided by people in: security"),
    ],
)
async def test_who_does_not_decide_decides_nothing_by_sending_the_form_all_the_same(
    stage: Stage, person: str, groups: tuple[str, ...], reason: str
) -> None:
    regroup(stage.hub, person, *groups)
    sol = await signed_in(stage.hub, "sol")
    browser = await signed_in(stage.hub, person)
    for verdict in ("approve", "reject", "keep"):
        form = stage.form(browser, await stage.look(sol), verdict=verdict, why="mine")
        answer = await stage.send(browser, form)
        assert answer.status_code == 403, verdict
        assert reason in words(answer)
    assert await stage.untouched()
    assert 'name="verdict"' not in (await stage.look(browser)).text


async def test_no_author_gets_out_of_it_by_naming_another_owner_in_a_release(stage: Stage) -> None:
    """Nor do they make another team its owner before that is approved, be it by a second such release."""
    regroup(stage.hub, "pat", "platform", "security")
    for memory in (128, 256):
        again = changed(owner="search-eng", resources={"memory_mb": memory})
        await release(stage.hub, stage.company, again)
        assert server(stage.hub).owner == "platform"
    [review] = (await open_ones(stage.hub)).values()
    assert "own team" in words(await decide_all_the_same(stage, "pat", review))
    regroup(stage.hub, "sam", "search-eng", "security")
    assert "own team" in words(await decide_all_the_same(stage, "sam", review))
    assert not server(stage.hub).reachable
    await decide(stage.hub, "sol", review)
    assert server(stage.hub).reachable
    assert server(stage.hub).owner == "search-eng"


async def decide_all_the_same(stage: Stage, person: str, review: Review) -> httpx2.Response:
    stage.review = review
    browser, sol = await signed_in(stage.hub, person), await signed_in(stage.hub, "sol")
    return await stage.send(browser, stage.form(browser, await stage.look(sol)))


async def test_who_registered_or_submitted_a_server_or_asked_for_access_does_not_decide_on_it(stage: Stage) -> None:
    """Also when they are of no owner group any more, and when an operator asked."""
    hub = stage.hub
    await register(hub, by="sam")
    await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    regroup(hub, "sam", "security")
    stage.review = (await open_ones(hub, "prod/wiki"))[Kind.SECURITY]
    assert "own team" in words(await decide_all_the_same(stage, "sam", stage.review))
    regroup(hub, "pat", "platform", "legal")
    await ask(hub, "pat", "prod/wiki", Access(("search-eng", "finance"), ("cli",)))
    stage.review = (await open_ones(hub, "prod/wiki"))[Kind.PRIVACY]
    assert "own team" in words(await decide_all_the_same(stage, "pat", stage.review))
    assert server(hub, "prod/wiki").granted == Access()


async def age(hub: Hub, person: str, seconds: float) -> None:
    """Let it be that long ago that a person said who they are."""
    at_ms = int((time.time() - seconds) * 1000)
    async with hub.parts.database.write() as connection:
        await connection.execute(update(sessions).where(sessions.c.sub == person).values(authenticated_at_ms=at_ms))


async def test_a_session_of_this_morning_decides_nothing_and_is_led_to_sign_in_again_and_back(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    form = stage.form(sol, await stage.look(sol))
    await age(stage.hub, "sol", 15 * 60 + 1)
    page = await stage.look(sol)
    assert "Sign in again to go on." in words(page)
    assert 'value="approve"' not in page.text
    answer = await stage.send(sol, form)
    assert answer.status_code == 303
    kept = f"/reviews/{stage.review.id}?done=keep"
    assert answer.headers["location"] == f"/sign-in?again=1&continue={quote(kept)}"
    assert await stage.untouched()
    asked = await sol.get(f"{URL}{answer.headers['location']}")
    assert "Say once more who you are" in words(asked)
    back = await sol.press(asked, "sol")
    assert back.headers["location"] == kept
    # The form of before belongs to the session of before.
    assert (await stage.send(sol, form)).status_code == 403
    assert await stage.untouched()
    version = str(stage.review.version + 1)
    assert (await stage.send(sol, stage.form(sol, await stage.look(sol), version=version))).status_code == 303
    assert server(stage.hub).reachable


async def test_asking_for_access_and_ending_a_server_need_a_recent_sign_in_too(stage: Stage) -> None:
    pat = await signed_in(stage.hub, "pat")
    await age(stage.hub, "pat", 16 * 60)
    before = server(stage.hub)
    for what, fields in (("access", {"groups": "sales"}), ("lifecycle", {"action": "retire"})):
        sent = {"version": str(before.version), "why": "because", **fields}
        answer = await send_form(stage.hub, pat, f"/servers/{PRESTO}/{what}", **sent)
        assert answer.headers["location"].startswith("/sign-in?again=1&continue=/servers/prod/presto/access")
    assert server(stage.hub) == before


async def test_a_time_of_signing_in_that_is_yet_to_come_is_none(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    form = stage.form(sol, await stage.look(sol))
    await age(stage.hub, "sol", -3600)
    assert (await stage.send(sol, form)).headers["location"].startswith("/sign-in?again=1")
    assert await stage.untouched()


async def test_a_token_decides_nothing_whatever_form_or_door_it_comes_with(stage: Stage) -> None:
    token = await stage.hub.token("sol")
    sol = await signed_in(stage.hub, "sol")
    form = stage.form(sol, await stage.look(sol))
    bearer = {"Authorization": f"Bearer {token}", "Origin": URL, "Sec-Fetch-Site": "same-origin"}
    stage.hub.public.cookies.clear()
    page = await stage.hub.public.post(f"/reviews/{stage.review.id}/decide", data=form, headers=bearer)
    assert page.status_code == 303
    assert page.headers["location"].startswith("/sign-in")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in (f"reviews/{stage.review.id}", f"reviews/{stage.review.id}/decide", "reviews"):
            answer = await stage.hub.public.request(method, f"/api/v1/{path}", headers=bearer, json=form)
            assert answer.status_code in (404, 405), (method, path)
    assert await stage.untouched()


async def test_following_a_link_decides_nothing(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    query = stage.form(sol, await stage.look(sol))
    for path in (f"/reviews/{stage.review.id}/decide", f"/reviews/{stage.review.id}"):
        await sol.get(str(httpx2.URL(URL + path, params=query)))
    assert await stage.untouched()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://localhost:1"},
        {},
    ],
)
async def test_another_site_decides_nothing_with_a_reviewers_cookies(stage: Stage, headers: dict[str, str]) -> None:
    sol = await signed_in(stage.hub, "sol")
    cookies = "; ".join(f"{name}={value}" for name, value in sol.cookies.items())
    sent = {"cookie": cookies, "accept": "text/html", **headers}
    form = stage.form(sol, await stage.look(sol))
    answer = await stage.hub.public.post(f"/reviews/{stage.review.id}/decide", data=form, headers=sent)
    assert answer.status_code == 403
    assert await stage.untouched()


@pytest.mark.parametrize("token", ["", "another review", "comment", "another person"])
async def test_a_form_without_its_own_token_decides_nothing(stage: Stage, token: str) -> None:
    sol, ana = await signed_in(stage.hub, "sol"), await signed_in(stage.hub, "ana")
    name = stage.hub.parts.identity.cookie.name
    path = f"/reviews/{stage.review.id}/decide"
    tokens = {
        "": "",
        "another review": Visitor(None, sol.cookies[name]).form_token(f"/reviews/{'0' * 16}/decide"),
        "comment": Visitor(None, sol.cookies[name]).form_token(path.replace("decide", "comment")),
        "another person": Visitor(None, ana.cookies[name]).form_token(path),
    }
    form = stage.form(sol, await stage.look(sol), form_token=tokens[token])
    assert (await stage.send(sol, form)).status_code == 403
    assert await stage.untouched()


@pytest.mark.parametrize("path", ["/reviews", "/reviews/{id}", "/servers/prod/presto/access", "/sign-in?again=1"])
async def test_no_page_of_a_decision_can_be_put_into_a_frame_or_runs_a_script(stage: Stage, path: str) -> None:
    browser = await signed_in(stage.hub, "pat")
    page = await browser.get(URL + path.format(id=stage.review.id))
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"


async def test_a_decision_that_is_sent_again_does_nothing_more(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    page = await stage.look(sol)
    form = stage.form(sol, page)
    assert (await stage.send(sol, form)).status_code == 303
    seq = stage.hub.parts.registry.current.seq
    again = await stage.send(sol, form)
    assert again.status_code == 409
    assert "sol has approved it already" in words(again)
    other = await stage.send(sol, {**form, "verdict": "reject", "why": "changed my mind"})
    assert other.status_code == 409
    assert stage.hub.parts.registry.current.seq == seq


async def test_what_was_looked_at_and_is_replaced_meanwhile_is_not_approved(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    form = stage.form(sol, await stage.look(sol))
    worse = changed()
    worse["tools"][0]["policy"] = "granted"
    worse["policies"]["granted"] = "permit (principal, action, resource) when { true };"
    await release(stage.hub, stage.company, worse)
    answer = await stage.send(sol, form)
    assert answer.status_code == 409
    assert "is not asked for any more" in words(answer)
    assert not server(stage.hub).reachable
    assert [review.state for review in (await open_ones(stage.hub)).values()] == [State.OPEN]


async def test_what_an_earlier_release_was_approved_for_does_not_count_for_the_next(stage: Stage) -> None:
    """Privacy approves one release while security is out; the next is privacy's to look at again."""
    hub, company = stage.hub, stage.company
    await release(hub, company, changed(sensitivity="public"))
    await decide(hub, "lea", (await open_ones(hub))[Kind.PRIVACY])
    both = changed(sensitivity="public")
    both["tools"][1]["description"] = "Revenue of everybody."
    await release(hub, company, both)
    found = await open_ones(hub)
    assert set(found) == {Kind.SECURITY, Kind.PRIVACY}
    await decide(hub, "sol", found[Kind.SECURITY])
    assert not server(hub).reachable


REQUESTED = {"business_groups": ["ads-eng", "search-eng"], "surfaces": ["cli"]}


@pytest.mark.parametrize("again", [presto(), presto(description="As it was before")], ids=["the same", "another"])
async def test_no_release_of_before_opens_to_those_who_were_let_into_a_harmless_one(
    stage: Stage, again: dict[str, Any]
) -> None:
    harmless = presto(sensitivity="internal", requests=REQUESTED)
    harmless["tools"] = harmless["tools"][:1]
    await release(stage.hub, stage.company, harmless)
    for person, kind in (("sol", Kind.SECURITY), ("lea", Kind.PRIVACY)):
        await decide(stage.hub, person, (await open_ones(stage.hub))[kind])
    assert "search-eng" in server(stage.hub).granted.groups
    assert server(stage.hub).reachable
    await release(stage.hub, stage.company, again)
    assert not server(stage.hub).reachable
    assert {*await open_ones(stage.hub)} == {Kind.SECURITY, Kind.PRIVACY}


@pytest.mark.parametrize(
    "more",
    ["groups:finance-admins", "surfaces:service", "channels:#all", "services:spiffe://evil.example/x"],
)
async def test_nobody_approves_more_than_is_asked_for(stage: Stage, more: str) -> None:
    sol = await signed_in(stage.hub, "sol")
    answer = await stage.send(sol, stage.form(sol, await stage.look(sol), **{more: "on"}))
    assert answer.status_code == 422
    assert "more than what is asked for" in words(answer)
    assert await stage.untouched()


async def test_a_review_of_tools_alone_opens_nothing_that_privacy_was_not_asked_about(stage: Stage) -> None:
    before = server(stage.hub).granted
    narrowed = Access(before.groups[:1], ("cli",))
    await ask(stage.hub, "pat", PRESTO, narrowed)
    [review] = (await open_ones(stage.hub)).values()
    await decide(stage.hub, "sol", review)
    assert server(stage.hub).granted == narrowed


async def test_a_reviewer_who_has_just_lost_the_group_decides_no_more(stage: Stage) -> None:
    sol = await signed_in(stage.hub, "sol")
    form = stage.form(sol, await stage.look(sol))
    regroup(stage.hub, "sol", "finance")
    assert (await stage.send(sol, form)).status_code == 403
    assert await stage.untouched()


async def test_of_two_who_decide_in_one_moment_one_does_and_the_other_is_told(stage: Stage) -> None:
    regroup(stage.hub, "gus", "security")
    sol, gus = await signed_in(stage.hub, "sol"), await signed_in(stage.hub, "gus")
    page = await stage.look(sol)
    answers = await asyncio.gather(
        stage.send(sol, stage.form(sol, page)),
        stage.send(gus, stage.form(gus, page, verdict="reject", why="no")),
        stage.send(sol, stage.form(sol, page)),
    )
    assert sorted(answer.status_code for answer in answers) == [303, 409, 409]
    told = words(next(answer for answer in answers if answer.status_code == 409))
    assert "Nothing was done." in told
    assert "it already" in told


async def test_the_last_two_approvals_in_one_moment_grant_once(stage: Stage) -> None:
    await release(stage.hub, stage.company, changed(sensitivity="public"))
    found = await open_ones(stage.hub)
    answers = await asyncio.gather(
        decide(stage.hub, "sol", found[Kind.SECURITY]), decide(stage.hub, "lea", found[Kind.PRIVACY])
    )
    assert sorted("It was the last one" in words(answer) for answer in answers) == [False, True]
    assert server(stage.hub).reachable


async def test_only_owners_and_operators_ask_for_access_or_end_a_server(stage: Stage) -> None:
    ana = await signed_in(stage.hub, "ana")
    before = server(stage.hub)
    for what, fields in (("access", {"groups": "ads-eng"}), ("lifecycle", {"action": "retire"})):
        sent = {"version": str(before.version), "why": "because", **fields}
        assert (await send_form(stage.hub, ana, f"/servers/{PRESTO}/{what}", **sent)).status_code == 403
    assert server(stage.hub) == before


async def test_of_two_owners_who_change_one_server_the_second_is_told_what_the_first_did(stage: Stage) -> None:
    regroup(stage.hub, "gus", "platform")
    pages = [(await signed_in(stage.hub, person), person) for person in ("pat", "gus")]
    opened = [await browser.get(f"{URL}/servers/{PRESTO}/access") for browser, _ in pages]
    first = await pages[0][0].press(opened[0], "Change its lifecycle", action="retire", why="old")
    second = await pages[1][0].press(opened[1], "Change its lifecycle", action="retire", why="older")
    assert (first.status_code, second.status_code) == (303, 409)
    assert "pat changed lifecycle" in words(second)
    assert server(stage.hub).lifecycle_why == "old"


async def test_no_text_of_an_author_or_a_commenter_is_taken_for_ours(stage: Stage) -> None:
    hostile = presto()
    hostile["tools"][0] |= {
        "description": "<img src=x onerror=alert(1)>\n</div><h1>Approved by security</h1>\n{{ 7 * 7 }}",
        "input_schema": {"title": "<script>alert(1)</script>", "type": "object"},
    }
    hostile["policies"]["granted"] = "// <b>safe</b>\npermit (principal, action, resource);"
    await release(stage.hub, stage.company, hostile)
    stage.review = (await open_ones(stage.hub))[Kind.SECURITY]
    pat = await signed_in(stage.hub, "pat")
    comment = "<script>alert(2)</script>\n<form action=//evil.example><button>Approve</button></form>"
    assert (await pat.press(await stage.look(pat), "Say it", comment=comment)).status_code == 303
    page = await stage.look(await signed_in(stage.hub, "sol"))
    for markup in ("<script", "<img src=x", "<h1>Approved", "<b>safe", "<form action=//evil"):
        assert markup not in page.text
    assert "&lt;h1&gt;Approved by security&lt;/h1&gt;" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "nobody has checked" in words(page)


@pytest.mark.parametrize("field", ["comment", "why", "conditions"])
async def test_texts_that_hide_something_are_refused(stage: Stage, field: str) -> None:
    sol = await signed_in(stage.hub, "sol")
    page = await stage.look(sol)
    if field == "comment":
        answer = await sol.press(page, "Say it", comment=HOSTILE)
    else:
        answer = await stage.send(sol, stage.form(sol, page, **{field: HOSTILE}))
    assert answer.status_code == 422
    assert "has the invisible character U+202E" in words(answer)
    assert await stage.untouched()


@pytest.mark.parametrize("end", ["retired", "brought back to a draft"])
async def test_reviews_of_what_nobody_may_know_of_are_told_to_nobody(stage: Stage, end: str) -> None:
    """A server that was given up in its reviews is as unknown as a draft, and so is all that was said of it."""
    hub = stage.hub
    await register(hub)
    assert (await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))).status_code == 200
    review = (await open_ones(hub, "prod/wiki"))[Kind.SECURITY]
    for action in ["retire", "bring back"][: 1 if end == "retired" else 2]:
        await move(hub, "sam", "prod/wiki", action)
    assert not server(hub, "prod/wiki").published
    for person, told in (("fay", False), ("ana", False), ("sam", True), ("lea", True), ("sol", True)):
        listed = await hub.api(person, "reviews", limit="200")
        assert ("prod/wiki" in listed.text) is told, person
        assert ((await hub.api(person, "reviews", server="prod/wiki")).json()["reviews"] != []) is told, person
        assert ((await hub.api(person, f"reviews/{review.id}")).status_code == 200) is told, person
        browser = await signed_in(hub, person)
        assert ("prod/wiki" in (await browser.get(f"{URL}/reviews")).text) is told, person
        assert ((await browser.get(f"{URL}/reviews/{review.id}")).status_code == 200) is told, person
        for about in ("", "/health", "/history", "/tools", "/releases"):
            answered = await hub.api(person, f"servers/prod/wiki{about}")
            assert answered.status_code == (200 if told else 404), (person, about)
        assert ("prod/wiki" in (await hub.api(person, "servers", all="true")).text) is told, person
        assert ("prod/wiki" in (await browser.get(f"{URL}/servers")).text) is told, person


@pytest.mark.parametrize("person", ["fay", "gus"])
async def test_what_was_asked_for_and_not_given_and_on_which_conditions_is_told_to_no_outsider(
    stage: Stage, person: str
) -> None:
    """Beside each other, in lists, in outcomes and in what waits: `secret` stands for what they may not know."""
    hub = stage.hub
    asked = {"business_groups": ["ads-eng", "secret-group"], "surfaces": ["cli"], "channels": ["#secret"]}
    await release(hub, stage.company, changed(requests=asked, uses_models=True))
    found = await open_ones(hub)
    for kind, reviewer in ((Kind.PRIVACY, "lea"), (Kind.SECURITY, "sol")):
        without = ["groups:secret-group"]
        await decide(hub, reviewer, found[kind], without=without, conditions="keep secret_tool out")
    assert found.keys() == {*Kind}
    paths = [f"/reviews/{review.id}" for review in found.values()]
    paths += ["/reviews", f"/servers/{PRESTO}", f"/servers/{PRESTO}/security", f"/servers/{PRESTO}/releases"]
    for who, told in (("pat", True), (person, False)):
        browser = await signed_in(hub, who)
        pages = [(await browser.get(f"{URL}{path}")).text for path in paths]
        pages += [(await hub.api(who, f"reviews/{review.id}")).text for review in found.values()]
        pages += [(await hub.api(who, path)).text for path in ("reviews", f"servers/{PRESTO}")]
        assert ("secret" in "".join(pages)) is told
        # That a release waits is no secret of a server that was live; which one, is.
        assert ("1.0.2" in "".join(pages)) is told


async def test_nobody_talks_a_review_out_of_its_reviewers_hands(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.registry.reviews.talking.MOST_COMMENTS", 2)
    pat = await signed_in(stage.hub, "pat")
    for status in (303, 303, 422):
        answer = await send_form(stage.hub, pat, f"/reviews/{stage.review.id}/comment", comment="x" * 4000)
        assert answer.status_code == status
    assert len(await stage.hub.parts.reviewing.comments(stage.review.id)) == 2
    await decide(stage.hub, "sol", stage.review)
    assert server(stage.hub).reachable


class Killed(BaseException):
    """The hub is gone in the middle of something."""


async def gone(*_args: object, **_more: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("step", "decided"),
    [
        ("pegboard_hub.registry.reviews.deciding._note", False),
        ("pegboard_hub.registry.store.approve_release", False),
        ("pegboard_hub.registry.store.write_server", False),
        ("pegboard_hub.registry.store.stamp_server", False),
        ("pegboard_hub.registry.bundles.BundleWriter.write_first", True),
    ],
)
async def test_of_a_decision_in_which_the_hub_dies_all_is_kept_or_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str, *, decided: bool
) -> None:
    monkeypatch.setattr(step, gone)
    with pytest.raises(Killed):
        await decide(stage.hub, "sol", stage.review)
    monkeypatch.undo()
    async with opened(stage.company) as again:
        review = await again.parts.reviewing.find(stage.review.id)
        assert (review.state is State.APPROVED, server(again).reachable) == (decided, decided)
        assert (PRESTO in {str(each.server) for each in edge_bundle(stage.company).servers}) is decided
