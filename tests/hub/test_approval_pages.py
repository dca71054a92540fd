"""The pages of approvals: what waits, deciding on exactly what is shown, following, taking back, asking again."""

from __future__ import annotations

import re

import httpx2
import pytest
from sqlalchemy import update

from pegboard.core.approval import Block, Preview, Requirement, State
from pegboard_hub.approvals.model import Decider, Verdict, approval_requests
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.web.pages.approvals.looking import left_words
from tests.hub.approving import (
    BY_CALLER,
    OVERWRITE,
    SERVER,
    asked,
    batch,
    decide,
    look,
    standing,
    state,
    with_overwriting,
)
from tests.hub.company import URL, Company, Hub
from tests.hub.reviewing import send_form, signed_in, words
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

TABLES = [{"tables": [f"tmp_{each}"]} for each in ("a", "b", "c")]


@pytest.fixture
def company(company: Company) -> Company:
    company.deploy(SERVER, with_overwriting())
    return company


async def long_ago(hub: Hub) -> None:
    """Let everybody have said who they are longer ago than counts."""
    async with hub.parts.database.write() as connection:
        await connection.execute(update(sessions).values(authenticated_at_ms=0))


async def approved(hub: Hub, id: str) -> None:
    verdict = Verdict(id, (await standing(hub, id)).shown_digest, approve=True)
    await hub.parts.approvals.decide(Decider("pat", ("platform",), "Pat"), [verdict])


async def lost(hub: Hub) -> str:
    """A request that was claimed by a process that is over since."""
    id = await asked(hub, call_id="call-1", process="gone")
    await approved(hub, id)
    await asked(hub, call_id="call-1", process="gone")
    await hub.parts.approvals.over(Channel(server=SERVER, release=""), ["gone"])
    return id


async def part(browser: Browser, page: httpx2.Response) -> httpx2.Response:
    """What htmx is answered when it asks for what follows of a page."""
    [path] = re.findall(r'hx-get="([^"]+)"', page.text)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"Cookie": cookies, "HX-Request-Type": "partial", "HX-Request": "true"}
    return await browser.http.get(f"{URL}{path}".replace("&amp;", "&"), headers=headers)


async def test_what_waits_for_somebody_is_in_their_inbox_on_the_home_page_and_in_the_navigation(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    assert "Nothing waits for you." in words(await pat.get(f"{URL}/approvals"))
    await asked(hub, preview=Preview(what="Overwrites flights_daily", cost="1.2 TB scanned"))
    assert "Approvals 1 waits for you" in words(await pat.get(f"{URL}/servers"))
    assert "1 call waits for your yes" in words(await pat.get(f"{URL}/"))
    shown = words(await pat.get(f"{URL}/approvals"))
    assert re.search(
        r"Waiting for you .* overwrite_table prod/presto Overwrites flights_daily ana@example.com", shown
    )
    ana = words(await (await signed_in(hub, "ana")).get(f"{URL}/approvals"))
    assert re.search(r"Nothing waits for you.* What you asked for .* overwrite_table", ana)


async def test_the_page_says_what_who_where_at_what_cost_and_for_how_long(hub: Hub) -> None:
    blocks = (
        Block(title="Rows", kind="diff", text="-1 row\n+2 rows"),
        Block(title="Plan", kind="sql", text="SELECT 2"),
    )
    id = await asked(hub, preview=Preview(what="Overwrites flights_daily", cost="1.2 TB scanned", blocks=blocks))
    page = await look(await signed_in(hub, "pat"), id)
    shown = words(page)
    for said in (
        "overwrite_table waits for your yes",
        "Overwrites flights_daily in the tool’s own words",
        "1.2 TB scanned as the tool estimates it",
        "ana@example.com id ana , from cli by the client pegboard-cli",
        "in 59 minutes",
        "somebody of platform (which owns prod/presto)",
        "It overwrites a table that others read.",
    ):
        assert said in shown
    assert '<span class="key">SELECT</span>' in page.text
    assert '<span class="com">-- all of them</span>' in page.text
    assert '<li value="1" class="del">' in page.text


async def test_a_yes_and_a_no_are_kept_with_who_and_why_and_shown_to_both(hub: Hub) -> None:
    pat, ana = await signed_in(hub, "pat"), await signed_in(hub, "ana")
    for verdict, what, why in (("all", "Approved", "as agreed"), ("none", "Rejected", "not on a Friday")):
        id = await asked(hub, OVERWRITE | {"table": verdict})
        answer = await decide(hub, pat, id, verdict, why=why, page=await look(pat, id, "?alone=1"))
        assert answer.status_code == 303
        assert await state(hub, id) == what.lower()
        for browser in (pat, ana):
            shown = words(await look(browser, id))
            assert f"{what} by Pat (pat) on these pages {why}" in shown
    assert f"{what} by you" in words(await look(pat, id))


async def test_a_no_needs_a_reason_and_what_was_filled_in_stays(hub: Hub) -> None:
    pat, id = await signed_in(hub, "pat"), await asked(hub)
    answer = await decide(hub, pat, id, "none", why="  ")
    assert answer.status_code == 422
    assert "A rejection needs a reason." in words(answer)
    answer = await decide(hub, pat, id, "none", why="hidden \u202e reason")
    assert "The reason has the invisible character U+202E" in words(answer)
    assert ">hidden \u202e reason</textarea>" in answer.text
    assert await state(hub, id) is State.REQUESTED


async def test_of_a_batch_some_are_approved_and_the_others_rejected_in_one_act(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    id = await asked(hub, *TABLES, tool="drop_tables")
    page = await look(pat, id)
    assert "3 actions wait for your yes" in words(page)
    first, second, third = await batch(hub, id)
    answer = await decide(
        hub, pat, id, "ticked", page=page, why="c is in use", **{f"tick:{first}": "on", f"tick:{second}": "on"}
    )
    assert answer.headers["location"].endswith("done=some")
    assert await batch(hub, id) == {first: State.APPROVED, second: State.APPROVED, third: State.REJECTED}
    assert "c is in use" in words(await look(await signed_in(hub, "ana"), third))


@pytest.mark.parametrize(("verdict", "after"), [("all", State.APPROVED), ("none", State.REJECTED)])
async def test_of_a_batch_all_or_none_are_approved_in_one_act(hub: Hub, verdict: str, after: State) -> None:
    id = await asked(hub, *TABLES, tool="drop_tables")
    await decide(hub, await signed_in(hub, "pat"), id, verdict, why="so")
    assert set((await batch(hub, id)).values()) == {after}


LEAVE = "Approve the ticked ones, leave the others waiting"


async def test_of_calls_that_came_together_one_is_approved_and_the_others_are_left_for_later(hub: Hub) -> None:
    pat, other = await signed_in(hub, "pat"), await asked(hub)
    id = await asked(hub, TABLES[0], tool="drop_tables")
    inbox = words(await pat.get(f"{URL}/approvals"))
    assert "drop_tables" in inbox
    assert ": 2 actions" in inbox
    page = await look(pat, id)
    assert LEAVE in words(page)
    assert words(page).index("1. drop_tables") < words(page).index("2. overwrite_table"), "the link's own comes first"
    answer = await decide(hub, pat, id, "some", page=page, **{f"tick:{id}": "on"})
    assert answer.headers["location"].endswith("done=approved")
    assert await batch(hub, id) == {id: State.APPROVED, other: State.REQUESTED}


async def test_of_one_call_nothing_is_left_for_later_by_a_button_and_what_nobody_ticks_stays(hub: Hub) -> None:
    pat, id = await signed_in(hub, "pat"), await asked(hub, *TABLES, tool="drop_tables")
    assert LEAVE not in words(await look(pat, id))
    assert "Nothing is ticked." in words(await decide(hub, pat, id, "some"))
    assert set((await batch(hub, id)).values()) == {State.REQUESTED}


async def test_of_many_that_were_asked_for_together_a_few_stand_there_and_the_rest_is_unfolded(hub: Hub) -> None:
    ana, earlier = await signed_in(hub, "ana"), await asked(hub)
    id = await asked(hub, *({"tables": [f"tmp_{each}"]} for each in range(12)), tool="drop_tables")
    page = await look(ana, id)
    assert "<summary>4 more</summary>" in page.text
    assert page.text.index(f"/approvals/{earlier}") > page.text.index("<summary>4 more"), "another call comes last"


async def test_nothing_ticked_decides_nothing(hub: Hub) -> None:
    id = await asked(hub, *TABLES, tool="drop_tables")
    answer = await decide(hub, await signed_in(hub, "pat"), id, "ticked", why="so")
    assert "Nothing is ticked." in words(answer)
    assert set((await batch(hub, id)).values()) == {State.REQUESTED}


async def test_what_came_after_the_page_was_opened_is_not_decided_by_it(hub: Hub) -> None:
    pat, id = await signed_in(hub, "pat"), await asked(hub, *TABLES[:2], tool="drop_tables")
    page = await look(pat, id)
    later = await asked(hub, TABLES[2], tool="drop_tables")
    await decide(hub, pat, id, "all", page=page)
    assert await state(hub, id) is State.APPROVED
    assert await state(hub, later) is State.REQUESTED


async def test_what_is_folded_is_approved_only_by_who_says_that_they_read_it(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    id = await asked(hub, {"sql": "SELECT 1;\n" * 500 + "DROP TABLE t", "table": "t"})
    page = await look(pat, id)
    assert "DROP</span>" in page.text
    assert re.search(r"Folded: \d+ more lines, which would run as well", words(page))
    refused = await decide(hub, pat, id, "all", page=page)
    assert "Some of what you approve is folded." in words(refused)
    assert await state(hub, id) is State.REQUESTED
    await decide(hub, pat, id, "all", page=page, read="on")
    assert await state(hub, id) is State.APPROVED


async def test_what_is_too_long_for_a_list_is_decided_on_its_own_page_and_not_by_the_list(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    long = {"sql": "-- \n" + "SELECT 1;\n" * 6000, "table": "t"}
    id = await asked(hub, *[long | {"table": each} for each in "abc"])
    page = await look(pat, id)
    assert "2 of this list are too long for it, and are not decided on here." in words(page)
    await decide(hub, pat, id, "all", page=page, read="on")
    assert list((await batch(hub, id)).values()).count(State.APPROVED) == 1
    left = next(each for each, now in (await batch(hub, id)).items() if now is State.REQUESTED)
    alone = await look(pat, left, "?alone=1")
    assert "DROP" not in alone.text
    await decide(hub, pat, left, "all", page=alone, read="on", alone="1")
    assert await state(hub, left) is State.APPROVED


async def test_signing_in_again_loses_nothing_of_what_was_filled_in(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    id = await asked(hub, *TABLES, tool="drop_tables")
    second = list(await batch(hub, id))[1]
    why = "天気 & Ünïcode\nsecond line " + "語" * 900
    page = await look(pat, id)
    await long_ago(hub)
    answer = await decide(hub, pat, id, "ticked", page=page, why=why, **{f"tick:{second}": "on"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?again=1&continue=")
    assert set((await batch(hub, id)).values()) == {State.REQUESTED}
    asks = await pat.get(f"{URL}{answer.headers['location']}")
    back = await pat.press(asks, "pat")
    again = await pat.get(f"{URL}{back.headers['location']}")
    assert f">{why}</textarea>".replace("&", "&amp;") in again.text
    assert re.findall(r'name="tick:([\w-]+)" value="on" checked', again.text) == [second]
    decided = await decide(hub, pat, id, "ticked", page=again, why=why, **{f"tick:{second}": "on"})
    assert decided.headers["location"].endswith("done=some")


async def test_the_page_of_who_is_not_to_decide_follows_and_has_no_form(hub: Hub) -> None:
    ana, id = await signed_in(hub, "ana"), await asked(hub)
    page = await look(ana, id)
    assert page.url.path == f"/approvals/{id}/live"
    assert "Waiting for somebody of platform" in words(page)
    assert '<form method="post"' not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert (await part(ana, page)).status_code == 204
    await approved(hub, id)
    moved = await part(ana, page)
    assert moved.status_code == 200
    assert "<html" not in moved.text
    assert "Approved by Pat" in words(moved)
    assert "make the same call again" in words(moved)


async def test_a_page_of_what_is_over_follows_no_more(hub: Hub) -> None:
    ana, id = await signed_in(hub, "ana"), await asked(hub)
    await hub.parts.approvals.withdraw("ana", [id])
    page = await look(ana, id)
    assert "hx-get" not in page.text
    assert "<script" not in page.text


async def test_the_inbox_follows_and_moves_nothing_while_nothing_changes(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    page = await pat.get(f"{URL}/approvals")
    assert (await part(pat, page)).status_code == 204
    await asked(hub)
    moved = await part(pat, page)
    assert "1 waits for you." in words(moved)
    assert "<form" not in moved.text


async def test_the_page_on_which_one_decides_has_no_script(hub: Hub) -> None:
    page = await look(await signed_in(hub, "pat"), await asked(hub))
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert "hx-" not in page.text


async def test_whose_call_it_is_takes_it_back_alone_or_with_all_of_its_batch(hub: Hub) -> None:
    ana = await signed_in(hub, "ana")
    id = await asked(hub, *TABLES, tool="drop_tables")
    page = await ana.get(f"{URL}/approvals/{id}/withdraw")
    assert "Take back all 3" in words(page)
    await send_form(hub, ana, f"/approvals/{id}/withdraw", which="one", why="no need")
    assert list((await batch(hub, id)).values()).count(State.WITHDRAWN) == 1
    second = next(each for each, now in (await batch(hub, id)).items() if now is State.REQUESTED)
    answer = await send_form(hub, ana, f"/approvals/{second}/withdraw", which="all")
    assert answer.headers["location"].endswith("/live?done=withdrawn")
    assert set((await batch(hub, id)).values()) == {State.WITHDRAWN}


async def test_what_ended_unknown_is_shown_to_both_and_asked_for_again_in_the_browser(hub: Hub) -> None:
    id = await lost(hub)
    pat = words(await look(await signed_in(hub, "pat"), id))
    assert "Outcome unknown It was begun, and nothing said how it ended" in pat
    assert "Ask again" not in pat
    ana = await signed_in(hub, "ana")
    assert "Ask again" in words(await look(ana, id))
    page = await ana.get(f"{URL}/approvals/{id}/again")
    assert "it may have happened" in words(page)
    answer = await send_form(hub, ana, f"/approvals/{id}/again")
    fresh = answer.headers["location"].partition("?")[0].rpartition("/")[2]
    assert fresh != id
    assert (await standing(hub, fresh)).arguments == OVERWRITE
    assert await state(hub, fresh) is State.REQUESTED
    assert "Asked for again." in words(await look(ana, fresh, "?done=again"))


async def test_what_is_for_the_caller_is_decided_by_the_caller(hub: Hub) -> None:
    id = await asked(hub, requirement=BY_CALLER)
    ana = await signed_in(hub, "ana")
    assert "Decided by you" in words(await look(ana, id))
    await decide(hub, ana, id, "all")
    assert await state(hub, id) is State.APPROVED


async def test_operators_and_security_are_led_to_what_waits_for_others(hub: Hub) -> None:
    id = await asked(hub, person="ana")
    assert "what waits for others" not in words(await (await signed_in(hub, "fay")).get(f"{URL}/approvals"))
    sol = await signed_in(hub, "sol")
    assert 'href="/approvals/history?state=requested"' in (await sol.get(f"{URL}/approvals")).text
    assert id in (await sol.get(f"{URL}/approvals/history?state=requested")).text


async def test_operators_and_security_look_at_all_of_them_and_decide_on_none(hub: Hub) -> None:
    id = await asked(hub, requirement=Requirement(by="finance"))
    for person in ("pat", "sol"):
        page = await look(await signed_in(hub, person), id)
        assert "Waiting for somebody of finance" in words(page)
        assert "Approve" not in words(page)
        assert id in (await (await signed_in(hub, person)).get(f"{URL}/approvals/history")).text


async def test_the_history_is_narrowed_by_server_person_and_standing_and_goes_on(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    for count in range(60):
        await asked(hub, {"table": f"t{count}", "sql": ""}, person=("ana", "fay")[count % 2])
    async with hub.parts.database.write() as connection:
        await connection.execute(update(approval_requests).values(batch=approval_requests.c.id))
    page = await pat.get(f"{URL}/approvals/history?person=fay&server=prod/presto&state=requested")
    assert len(re.findall('href="/approvals/[0-9a-f]{32}"', page.text)) == 30
    assert "None" not in words(page)
    page = await pat.get(f"{URL}/approvals/history")
    assert len(re.findall('href="/approvals/[0-9a-f]{32}"', page.text)) == 50
    [older] = re.findall(r'href="([^"]+)" rel="next"', page.text)
    rest = await pat.get(f"{URL}{older}".replace("&amp;", "&"))
    assert len(re.findall('href="/approvals/[0-9a-f]{32}"', rest.text)) == 10
    assert "Nothing that you may see is like this." in words(await pat.get(f"{URL}/approvals/history?person=sam"))
    assert (await pat.get(f"{URL}/approvals/history?state=lost")).status_code == 422


async def test_what_waits_beyond_the_first_page_is_on_the_next(hub: Hub) -> None:
    pat = await signed_in(hub, "pat")
    for count in range(55):
        await asked(hub, {"table": f"t{count}", "sql": ""})
    async with hub.parts.database.write() as connection:
        await connection.execute(update(approval_requests).values(batch=approval_requests.c.id))
    page = await pat.get(f"{URL}/approvals")
    [more] = re.findall(r'href="([^"]+)" rel="next"', page.text)
    rest = await pat.get(f"{URL}{more}".replace("&amp;", "&"))
    assert len(re.findall('href="/approvals/[0-9a-f]{32}"', rest.text)) == 5
    assert (await pat.get(f"{URL}/approvals?after=made-up")).status_code == 400


async def test_a_yes_for_a_release_that_is_gone_is_said_to_start_nothing(hub: Hub, company: Company) -> None:
    id = await asked(hub)
    declared = with_overwriting()
    declared["tools"][0]["description"] = "Another one."
    company.deploy(SERVER, declared)
    await hub.parts.registry.refresh()
    assert "A yes to this one starts nothing" in words(await look(await signed_in(hub, "pat"), id))


async def test_who_is_not_signed_in_is_led_to_sign_in_and_back(hub: Hub) -> None:
    id = await asked(hub)
    answer = await Browser(URL, hub.public).get(f"{URL}/approvals/{id}")
    assert answer.headers["location"] == f"/sign-in?continue=/approvals/{id}"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "over"),
        (59, "in less than a minute"),
        (60, "in 1 minute"),
        (3600, "in 60 minutes"),
        (7200, "in 2 hours"),
        (3 * 86_400, "in 3 days"),
    ],
)
def test_how_long_it_is_is_said_in_words(seconds: int, said: str) -> None:
    assert left_words(1_000_000 + seconds * 1000, 1000) == said
