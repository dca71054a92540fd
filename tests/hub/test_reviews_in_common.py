"""Approvals that share nothing: whoever would bring them about is told before, and whoever has them is told why."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.reviews.model import Kind, reviews
from tests.hub.company import OPERATOR, URL, Company, Hub
from tests.hub.reviewing import (
    PRESTO,
    ask,
    changed,
    decide,
    open_ones,
    register,
    release,
    server,
    signed_in,
    words,
)

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed]

WIKI = "prod/wiki"
ASKED = Access(("finance", "search-eng"), ("chat", "cli"))
ONE = Access(("search-eng",), ("cli",))


async def asked(hub: Hub, access: Access = ASKED, **record: object) -> None:
    """A draft that was submitted."""
    await register(hub, **record)
    await ask(hub, "sam", WIKI, access)


@pytest.mark.parametrize(
    ("field", "noun", "theirs", "mine"),
    [("groups", "group", "search-eng", "finance"), ("surfaces", "surface", "cli", "chat")],
)
async def test_an_approval_that_shares_nothing_with_another_is_refused_and_says_with_whose(
    hub: Hub, field: str, noun: str, theirs: str, mine: str
) -> None:
    await asked(hub)
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY], without=[f"{field}:{mine}"])
    answer = await decide(hub, "lea", found[Kind.PRIVACY], without=[f"{field}:{theirs}"])
    assert answer.status_code == 422
    told = words(answer)
    assert f"{field}: nobody would get in, for no {noun} would be approved by all: Security by sol: {theirs}." in told
    assert f"Tick one of {theirs}, or reject it and say why" in told
    assert (server(hub, WIKI).lifecycle, server(hub, WIKI).granted) == (Lifecycle.IN_REVIEW, Access())
    assert set(await open_ones(hub, WIKI)) == {Kind.PRIVACY}
    # What one of them approves and both can is granted.
    assert "It was the last one" in words(await decide(hub, "lea", found[Kind.PRIVACY]))
    assert getattr(server(hub, WIKI).granted, field) == (theirs,)


async def test_what_others_approved_is_shown_before_one_decides(hub: Hub) -> None:
    await asked(hub)
    found = await open_ones(hub, WIKI)
    lea = await signed_in(hub, "lea")
    path = f"{URL}/reviews/{found[Kind.PRIVACY].id}"
    assert "Only what all approve is granted." not in words(await lea.get(path))
    await decide(hub, "sol", found[Kind.SECURITY], without=["groups:finance"])
    told = words(await lea.get(path))
    assert "Only what all approve is granted. Until now: Security by sol : search-eng; chat, cli" in told
    assert "finance new not with Security by sol" in told
    assert "search-eng new not with" not in told


async def test_where_others_approved_all_of_it_nothing_is_said(hub: Hub) -> None:
    await asked(hub)
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY])
    page = words(await (await signed_in(hub, "lea")).get(f"{URL}/reviews/{found[Kind.PRIVACY].id}"))
    assert "Security : approved by sol" in page
    assert "Only what all approve is granted." not in page


async def test_the_second_of_three_approvals_that_shares_nothing_is_refused_not_the_last(hub: Hub) -> None:
    """The third could do nothing about it."""
    await asked(hub, uses_models=True)
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY], without=["surfaces:chat"])
    answer = await decide(hub, "sol", found[Kind.GENAI], without=["surfaces:cli"])
    assert answer.status_code == 422
    assert set(await open_ones(hub, WIKI)) == {Kind.PRIVACY, Kind.GENAI}


async def test_who_cannot_agree_rejects_it_and_the_owner_asks_for_what_all_can_approve(hub: Hub) -> None:
    await asked(hub)
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY], without=["surfaces:chat"])
    await decide(hub, "lea", found[Kind.PRIVACY], "reject", why="For chat alone; security has cli alone.")
    sam = await signed_in(hub, "sam")
    assert "The Legal and privacy review of prod/wiki was rejected" in words(await sam.get(f"{URL}/"))
    await ask(hub, "sam", WIKI, ONE)
    again = await open_ones(hub, WIKI)
    assert set(again) == {Kind.SECURITY, Kind.PRIVACY}
    await decide(hub, "sol", again[Kind.SECURITY])
    await decide(hub, "lea", again[Kind.PRIVACY])
    assert server(hub, WIKI).granted == ONE


async def nowhere(hub: Hub) -> None:
    """Approvals that share no surface, as an earlier version took them."""
    await asked(hub, Access(("search-eng",), ("chat", "cli")))
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY], without=["surfaces:chat"])
    await decide(hub, "lea", found[Kind.PRIVACY], without=["surfaces:chat"])
    other = {"groups": ["search-eng"], "surfaces": ["chat"], "channels": [], "services": []}
    async with hub.parts.registry.changing() as changing:
        of_lea = update(reviews).where(reviews.c.id == found[Kind.PRIVACY].id).values(granted=other)
        await changing.connection.execute(of_lea)
        await changing.apply(Change(WIKI, Actor("lea"), "grant", "nothing", granted=Access(("search-eng",))))


WHY = "No surface is granted, for its reviews approved none in common."
WHOSE = "Of the surfaces: Security by sol: cli; Legal and privacy by lea: chat."


async def test_why_nobody_gets_in_is_told_to_its_owner_and_its_reviewers(hub: Hub) -> None:
    await nowhere(hub)
    sam, sol = await signed_in(hub, "sam"), await signed_in(hub, "sol")
    assert "Nobody can reach prod/wiki: its page says why" in words(await sam.get(f"{URL}/"))
    assert f"Nobody can reach it. {WHY} {WHOSE}" in words(await sam.get(f"{URL}/servers/{WIKI}"))
    assert "Ask for access" in words(await sam.get(f"{URL}/servers/{WIKI}"))
    assert "Ask for access" not in words(await sol.get(f"{URL}/servers/{WIKI}"))
    assert f"Nobody can reach it. {WHY} {WHOSE}" in words(await sam.get(f"{URL}/servers/{WIKI}/access"))
    for browser in (sam, sol):
        assert words(await browser.get(f"{URL}/reviews")).count("and nobody gets in: why") == 2
    [review, *_] = await hub.parts.reviewing.listed(server=WIKI)
    assert f"Nobody can reach it. {WHY} {WHOSE}" in words(await sol.get(f"{URL}/reviews/{review.id}"))


async def test_why_nobody_gets_in_is_told_to_the_operator(hub: Hub) -> None:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    path = "/internal/v1/registry/unreached"
    assert (await hub.internal.get(path, headers=headers)).json() == {"servers": {}}
    assert (await hub.internal.get(path)).status_code == 401
    await nowhere(hub)
    told = (await hub.internal.get(path, headers=headers)).json()["servers"]
    assert list(told) == [WIKI]
    assert told[WIKI].startswith(f"{WHY} {WHOSE} Its owners ask for access again")


async def test_what_was_approved_in_vain_can_be_asked_for_again_and_agreed_on(hub: Hub) -> None:
    await nowhere(hub)
    assert "Asked." in words(await ask(hub, "sam", WIKI, Access(("search-eng",), ("chat", "cli"))))
    again = await open_ones(hub, WIKI)
    assert "Its reviews are open" in words(await (await signed_in(hub, "sam")).get(f"{URL}/servers/{WIKI}"))
    await decide(hub, "sol", again[Kind.SECURITY])
    await decide(hub, "lea", again[Kind.PRIVACY])
    assert server(hub, WIKI).granted == Access(("search-eng",), ("chat", "cli"))
    assert "Nobody can reach it." not in words(await (await signed_in(hub, "sam")).get(f"{URL}/servers/{WIKI}"))


async def test_an_approval_that_can_let_nobody_in_says_so_before_and_after(hub: Hub, company: Company) -> None:
    """A release of which privacy is not asked opens nothing that is not granted: no approval of it mends that."""
    held = server(hub).granted
    async with hub.parts.registry.changing() as changing:
        closed = Change(PRESTO, Actor("pat"), "grant", "x", granted=Access(held.groups), requested=held)
        await changing.apply(closed)
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    sol = await signed_in(hub, "sol")
    before = words(await sol.get(f"{URL}/reviews/{review.id}"))
    assert "Nobody would get in, whatever you approve. Until now: what is granted already" in before
    after = words(await decide(hub, "sol", review))
    assert "It was the last one, and what all reviews approved lets nobody in." in after
    assert "Nobody can reach it. No surface is granted" in after


async def test_a_bot_without_a_channel_lets_nobody_in_and_the_page_and_the_operator_are_told(hub: Hub) -> None:
    async with hub.parts.registry.changing() as changing:
        mute = Access(("ads-eng",), ("bot",))
        await changing.apply(Change(PRESTO, Actor("pat"), "grant", "x", granted=mute, requested=mute))
    told = "No channel is granted, and surface bot is used in channels alone."
    assert told in words(await (await signed_in(hub, "pat")).get(f"{URL}/servers/{PRESTO}"))
    assert PRESTO in await hub.parts.reviewing.unreached(hub.parts.registry.current.servers.values())


async def test_approvals_that_share_a_bot_and_none_of_its_channels_are_refused(hub: Hub) -> None:
    await asked(hub, Access(("search-eng",), ("bot",), ("#one", "#two")))
    found = await open_ones(hub, WIKI)
    await decide(hub, "sol", found[Kind.SECURITY], without=["channels:#two"])
    page = words(await decide(hub, "lea", found[Kind.PRIVACY], without=["channels:#one"]))
    assert "no channel would be approved by all: Security by sol: #one" in page


async def test_a_server_for_which_nothing_is_asked_says_so_and_blames_no_reviewer(hub: Hub, company: Company) -> None:
    await ask(hub, "pat", PRESTO, Access())
    pat = await signed_in(hub, "pat")
    told = "Nobody can reach it. No group and no surface is granted. Its owners ask for access"
    assert told in words(await pat.get(f"{URL}/servers/{PRESTO}"))
    await release(hub, company, changed())
    [review] = (await open_ones(hub)).values()
    await decide(hub, "sol", review)
    assert told in words(await pat.get(f"{URL}/servers/{PRESTO}"))
