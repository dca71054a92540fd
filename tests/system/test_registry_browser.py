"""The registry's pages in a real browser, through the real edge: with scripts and without, wide and narrow."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.system.chromium import LOOKS, looked_at
from tests.system.instance import Instance
from tests.tools.node import NodeTools, NodeToolsError, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000
SQL = "SELECT carrier, count(*) AS flown FROM flights GROUP BY 1 ORDER BY 2 DESC LIMIT 3"

PATHS = [
    "/servers",
    "/servers?q=zebra",
    "/servers?sort=nothing",
    "/servers/prod/presto",
    "/servers/prod/presto/tools",
    "/servers/prod/presto/connect",
    "/servers/prod/presto/security",
    "/servers/prod/presto/releases",
    "/servers/prod/presto/history",
    "/servers/prod/presto/try?tool=run_query",
    "/servers/new",
    "/teams",
    "/teams/platform",
    "/history",
    "/history/1",
]


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    try:
        return provide()
    except NodeToolsError as error:
        pytest.skip(str(error))


def signed_in(browser: Browser, url: str, person: str, **how: Any) -> Page:
    """A new browser of a person who is signed in."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, **how).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/sign-in?continue=/servers")
    page.get_by_role("button", name=person).first.click()
    page.wait_for_url(f"{url}/servers")
    return page


def lists(page: Page, *servers: str) -> None:
    """Wait until the list has these servers and no others."""
    expect(page.locator("#results h2")).to_have_text(servers)


def test_the_list_follows_what_one_types_and_the_address_with_it(pegboard: Instance, browser: Browser) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana")
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    lists(page, "dev/scratch", "prod/presto")
    page.get_by_label("Search", exact=True).press_sequentially("get_revenue", delay=20)
    # What was typed so far may have been asked for, too: the address is that of the last answer.
    expect(page).to_have_url(re.compile(r"/servers\?surface=cli&q=get_revenue$"))
    lists(page, "prod/presto")
    expect(page.locator("#announced")).to_have_text(re.compile("found"))
    assert page.evaluate("document.activeElement.id") == "q"
    page.get_by_role("link", name="prod/presto").click()
    page.wait_for_url(re.compile("/servers/prod/presto"))
    page.go_back()
    expect(page.get_by_label("Search", exact=True)).to_have_value("get_revenue")
    lists(page, "prod/presto")
    page.get_by_label("Namespace", exact=True).select_option("dev")
    expect(page.get_by_text("No server fits.")).to_be_visible()
    assert told == []
    page.context.close()


def test_what_the_hub_does_not_answer_is_said_and_mended_by_asking_again(
    pegboard: Instance, browser: Browser
) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana")
    page.route(re.compile(r"/servers\?"), lambda route: route.abort())
    page.get_by_label("Search", exact=True).fill("presto")
    expect(page.locator("#offline")).to_be_visible()
    page.unroute(re.compile(r"/servers\?"))
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#offline")).to_be_hidden()
    lists(page, "prod/presto")
    page.context.close()


def test_a_sign_in_that_is_over_leads_to_the_sign_in_page(pegboard: Instance, browser: Browser) -> None:
    """With the demo directory pages are open; what needs a sign-in leads there, and back."""
    page = signed_in(browser, pegboard.public_url, "Ana")
    page.context.clear_cookies()
    page.goto(f"{pegboard.public_url}/servers/prod/presto/try?tool=run_query")
    assert "/sign-in?continue=" in page.url
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_tool_is_tried_through_the_edge_and_stands_in_the_ledger(
    pegboard: Instance, browser: Browser, scripts: bool
) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana", java_script_enabled=scripts)
    page.get_by_label("Search", exact=True).fill("presto")
    if not scripts:
        page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile("q=presto"))
    lists(page, "prod/presto")
    page.get_by_role("link", name="prod/presto").click()
    page.get_by_role("link", name="Tools", exact=True).click()
    page.get_by_role("link", name="Try it run_query").click()
    page.get_by_label("sql").fill(SQL)
    page.get_by_role("button", name="Call it").click()
    page.get_by_role("heading", name="Result").wait_for()
    assert page.locator("table.rows tbody tr").count() == 3
    assert "flown" in page.locator("table.rows thead").inner_text()
    ledger = page.get_by_role("link", name="see it in the ledger")
    ledger.click()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.locator("table tbody tr").count():
        assert time.monotonic() < deadline, "the call is not in the ledger"
        page.wait_for_timeout(500)
        page.reload()
    row = page.locator("table tbody tr").inner_text()
    assert "web" in row
    assert "run_query" in row
    assert "allowed" in row
    page.context.close()


def test_a_tool_that_may_change_things_is_called_by_the_second_click(pegboard: Instance, browser: Browser) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana")
    page.goto(f"{pegboard.public_url}/servers/dev/scratch/try?tool=note")
    page.get_by_label("text").fill("<b>hello</b>")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("heading", name="Call it for real?").wait_for()
    expect(page.get_by_role("alert")).to_be_focused()
    page.get_by_role("button", name="Call it").click()
    page.get_by_role("heading", name="Result").wait_for()
    assert page.get_by_text("of at most 100 notes kept").first.is_visible()
    page.context.close()


def test_a_draft_is_registered_and_a_conflict_loses_nothing(pegboard: Instance, browser: Browser) -> None:
    url = pegboard.public_url
    mine, theirs = signed_in(browser, url, "Ana"), signed_in(browser, url, "Ana")
    mine.get_by_role("link", name="Register a server").click()
    for label, text in (
        ("Name", "from-a-browser"),
        ("Description", "first"),
        ("Support channel", "#x"),
        ("Why", "y"),
    ):
        mine.get_by_label(label, exact=label == "Name").fill(text)
    mine.get_by_role("button", name="Register the draft").click()
    mine.get_by_text("Nobody can call it, and few know of it.").wait_for()
    for page, words in ((mine, "of mine"), (theirs, "of theirs")):
        page.goto(f"{url}/servers/dev/from-a-browser/edit")
        page.get_by_label("Description").fill(words)
        page.get_by_label("Why").fill("y")
    theirs.get_by_role("button", name="Save").click()
    theirs.wait_for_url(re.compile("/servers/dev/from-a-browser$"))
    mine.get_by_role("button", name="Save").click()
    mine.get_by_role("heading", name="Theirs, as it is now").wait_for()
    assert mine.get_by_text("of theirs").is_visible()
    assert mine.get_by_role("textbox", name="Description").input_value() == "of mine"
    mine.get_by_role("button", name="Save").click()
    mine.wait_for_url(re.compile("/servers/dev/from-a-browser$"))
    assert mine.get_by_text("of mine").is_visible()
    for page in (mine, theirs):
        page.context.close()


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_every_page_can_be_read_by_everybody(
    pegboard: Instance, browser: Browser, tools: NodeTools, colours: str, width: int
) -> None:
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    page = signed_in(browser, pegboard.public_url, "Pat", color_scheme=colours)
    page.set_viewport_size({"width": width, "height": 900})
    for path in PATHS:
        page.goto(pegboard.public_url + path)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        looked_at(page, axe)
    page.context.close()


def test_the_way_through_a_servers_pages_goes_by_keyboard_alone(pegboard: Instance, browser: Browser) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana")
    page.goto(f"{pegboard.public_url}/servers/prod/presto")
    page.get_by_role("link", name="Tools", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/tools"))
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("each => each.open")
    page.context.close()


def test_on_paper_nothing_is_cut_off(pegboard: Instance, browser: Browser) -> None:
    page = signed_in(browser, pegboard.public_url, "Ana")
    page.goto(f"{pegboard.public_url}/servers/prod/presto/tools")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.locator(".schema").first.is_visible()
    cut = (
        "[...document.querySelectorAll('pre, td, p')].filter(each => each.scrollWidth > each.clientWidth + 1).length"
    )
    assert page.evaluate(cut) == 0
    page.context.close()
