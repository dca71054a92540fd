"""The page that explains, in a real browser: by keyboard alone, at the width of a desk and of a telephone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


def test_a_call_is_explained_by_keyboard_alone(pegboard: Instance, page: Page) -> None:
    page.goto(f"{pegboard.public_url}/explain?as=fay")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "ask-server"
    page.keyboard.type("prod/presto")
    page.keyboard.press("Tab")
    page.keyboard.type("get_revenue_metrics")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict")
    assert page.inner_text("#verdict") == "Refused by the server."
    assert page.input_value("#ask-tool") == "get_revenue_metrics"


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize(
    "question",
    ["", "server=prod/presto&tool=run_query", "server=prod/nothing", f"server=prod/presto&tool={'x' * 250}"],
)
def test_nothing_is_wider_than_the_window(pegboard: Instance, page: Page, width: int, question: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{pegboard.public_url}/explain?as=pat&{question}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_outcome_is_said_in_words_and_every_field_has_a_name(pegboard: Instance, page: Page) -> None:
    page.goto(f"{pegboard.public_url}/explain?as=gus&server=prod/presto&tool=run_query")
    marks = {mark.strip() for mark in page.locator(".stage li .mark").all_inner_texts()}
    assert marks == {"✓ holds", "✗ fails", "? depends", "· not reached"}
    for label in ("Server", "Tool", "Person", "Called from", "Channel (of a bot)"):
        assert page.get_by_label(label, exact=True).count() == 1
