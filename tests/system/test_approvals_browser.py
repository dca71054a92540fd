"""Approvals in a real browser: wide and narrow, light and dark, with scripts and without."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from pegboard.core.approval import Block, Preview, State
from pegboard_hub.identity.sessions.model import sessions
from tests.hub.approving import EVERYTHING, OVERWRITE
from tests.system.approvals_rig import Rig, served_approvals
from tests.system.chromium import LOOKS, looked_at
from tests.tools.node import NodeTools, NodeToolsError, provide

pytestmark = pytest.mark.system

PATIENCE_MS = 60_000
HOSTILE = {
    "table": "fl\u0430ghts\u202e_daily",
    "sql": "SELECT 1;" + " " * 400 + "\n" * 80 + "DROP TABLE flights; -- \u200bok שלום\n" + "-- filler\n" * 300,
    "<img src=x onerror=alert(1)>": ["</ol><script>alert(1)</script>"],
}
DRY_RUN = Preview(
    what="Overwrites flights_daily: 365 rows become 366",
    cost="1.2 TB scanned",
    blocks=(Block(title="Rows", kind="diff", text="@@ flights_daily @@\n-2013-12-31  1,412\n+2013-12-31  1,413"),),
)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with served_approvals() as found:
        yield found


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    try:
        return provide()
    except NodeToolsError as error:
        pytest.skip(str(error))


def at(browser: Browser, rig: Rig, person: str, path: str, width: int = 1280, **how: object) -> Page:
    """A page of a new browser in which somebody is signed in."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **how)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{rig.url}/sign-in?continue={path}")
    page.get_by_role("button", name=person).first.click()
    page.wait_for_url(f"{rig.url}/approvals**")
    return page


def states(rig: Rig, ids: list[str]) -> list[State]:
    found = [rig.run(rig.parts.approvals.find(EVERYTHING, id)) for id in ids]
    return [each.state for each in found if each is not None]


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_every_page_is_well_wide_and_narrow_light_and_dark(
    rig: Rig, browser: Browser, tools: NodeTools, width: int, colours: str
) -> None:
    one = rig.ask(OVERWRITE | {"table": f"one_{width}_{colours}"}, person="pat", preview=DRY_RUN).actions[0].id
    many = rig.ask(*[HOSTILE | {"n": n, "of": f"{width} {colours}"} for n in range(3)], preview=DRY_RUN).actions
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    for person, paths in {
        "Pat": [
            "/approvals",
            f"/approvals/{many[0].id}",
            f"/approvals/{many[0].id}?alone=1",
            "/approvals/history",
            f"/approvals/{one}/live",
            f"/approvals/{one}/withdraw",
        ],
        "Ana": ["/approvals", f"/approvals/{many[0].id}", f"/approvals/{many[0].id}/withdraw"],
        "Gus": ["/approvals", f"/approvals/{one}"],
    }.items():
        page = at(browser, rig, person, "/approvals", width, color_scheme=colours)
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))  # type: ignore[misc]
        for path in paths:
            page.goto(f"{rig.url}{path}")
            looked_at(page, axe)
            assert page.evaluate("document.images.length") == 1
        assert not [each for each in said if "404" not in each]
        page.context.close()


def test_eight_are_proposed_and_five_approved_on_a_phone_without_a_script(rig: Rig, browser: Browser) -> None:
    tables = [{"tables": [f"tmp_{n}"]} for n in range(8)]
    previews = [Preview(what=f"Drops tmp_{n}") for n in range(8)]
    asked = rig.ask(*tables, tool="drop_tables", person="fay", previews=previews)
    ids = [each.id for each in asked.actions]
    phone = {"java_script_enabled": False, "is_mobile": True, "has_touch": True}
    page = at(browser, rig, "Pat", f"/approvals/{ids[0]}", 375, **phone)
    assert "8 actions wait for your yes" in page.inner_text("h1")
    for n in (0, 1, 2, 4, 7):
        page.get_by_role("checkbox", name=f"Drops tmp_{n}").tap()
    page.get_by_label("Why").fill("the others are in use")
    page.get_by_role("button", name="Approve the ticked ones").tap()
    page.wait_for_url("**/live?done=some")
    assert states(rig, ids) == [State.REJECTED if n in (3, 5, 6) else State.APPROVED for n in range(8)]
    page.context.close()


def test_both_see_without_reloading_what_the_other_does(rig: Rig, browser: Browser) -> None:
    caller, approver = at(browser, rig, "Gus", "/approvals"), at(browser, rig, "Pat", "/approvals")
    id = rig.ask(OVERWRITE | {"table": "live"}, person="gus", preview=DRY_RUN).actions[0].id
    link = approver.locator(f"#results a[href='/approvals/{id}']")
    expect(link).to_be_visible()
    caller.goto(f"{rig.url}/approvals/{id}")
    expect(caller.locator("#results h2")).to_contain_text("Waiting for somebody of platform")
    link.click()
    approver.get_by_role("button", name="Approve", exact=True).click()
    expect(caller.locator("#results h2")).to_have_text("Approved by Pat")
    expect(caller.locator("#announced")).to_have_text("Approved by Pat")
    expect(approver.locator("#results h2")).to_have_text("Approved by you")
    rig.ask(OVERWRITE | {"table": "live"}, person="gus", call_id="call-live", process="alive")
    expect(caller.locator("#results h2")).to_have_text("Running")
    expect(approver.locator("#results h2")).to_have_text("Running")
    for page in (caller, approver):
        page.context.close()


@pytest.mark.parametrize("width", [1280, 375])
def test_the_number_of_what_waits_moves_no_link_beside_it(rig: Rig, browser: Browser, width: int) -> None:
    rig.ask(OVERWRITE | {"table": f"number_{width}"}, person="gus", preview=DRY_RUN)
    page = at(browser, rig, "Pat", "/approvals", width)
    places = set()
    for path, numbers in (("/approvals", 1), ("/nothing", 0)):
        page.goto(f"{rig.url}{path}")
        expect(page.locator(".top nav .count")).to_have_count(numbers)
        places.add(str([link.bounding_box() for link in page.locator(".top nav > a").all()]))
    assert len(places) == 1
    page.context.close()


@pytest.mark.heavy
def test_a_list_that_moves_takes_the_focus_from_nobody_and_says_when_it_is_old(rig: Rig, browser: Browser) -> None:
    first = rig.ask({"t": "focus"}, person="lea", tool="drop_tables").actions[0].id
    page = at(browser, rig, "Pat", "/approvals")
    page.locator(f"#row-{first}").focus()
    page.route(re.compile(r"/approvals\?"), lambda route: route.abort())
    expect(page.locator("#offline")).to_be_visible()
    page.unroute(re.compile(r"/approvals\?"))
    expect(page.locator("#offline")).to_be_hidden()
    second = rig.ask({"t": "focus"}, person="gus", tool="drop_tables").actions[0].id
    expect(page.locator(f"#row-{second}")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == f"row-{first}"
    page.context.close()


def test_nothing_that_somebody_types_is_lost_by_signing_in_again(rig: Rig, browser: Browser) -> None:
    ids = [each.id for each in rig.ask({"t": 1}, {"t": 2}, person="sam", tool="drop_tables").actions]
    page = at(browser, rig, "Pat", f"/approvals/{ids[0]}")
    rig.run(forget(rig))
    page.locator("input[name^='tick:']").nth(1).check()
    page.get_by_label("Why").fill("Line one\nline two: „ä“")
    page.get_by_role("button", name="Approve the ticked ones").click()
    page.wait_for_url("**/sign-in?again=1**")
    assert states(rig, ids) == [State.REQUESTED] * 2
    page.get_by_role("button", name="Pat").first.click()
    page.wait_for_url(re.compile(f"/approvals/{ids[0]}"))
    expect(page.get_by_label("Why")).to_have_value("Line one\nline two: „ä“")
    expect(page.locator("input[name^='tick:']").nth(1)).to_be_checked()
    page.get_by_role("button", name="Approve the ticked ones").click()
    page.wait_for_url("**/live?done=some")
    assert states(rig, ids) == [State.REJECTED, State.APPROVED]
    page.context.close()


async def forget(rig: Rig) -> None:
    """Let everybody have said who they are longer ago than counts."""
    async with rig.parts.database.write() as connection:
        await connection.execute(update(sessions).values(authenticated_at_ms=0))


def test_letters_from_right_to_left_move_nothing_beside_them(rig: Rig, browser: Browser) -> None:
    """What stands to the left in the text stands to the left on the page."""
    sql = "SELECT 'שלום' = 'עולם' OR 1 = 1"
    id = rig.ask({"sql": sql}, person="lea").actions[0].id
    page = at(browser, rig, "Pat", "/approvals")
    page.goto(f"{rig.url}/approvals/{id}?alone=1")
    measure = "spans => spans.map(span => span.getBoundingClientRect().left)"
    lefts = page.locator(".source li span").evaluate_all(measure)
    assert lefts == sorted(lefts)
    assert page.locator(".source li").inner_text() == sql
    page.context.close()
