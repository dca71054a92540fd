"""A server's page in a real browser: at the width of a desk and of a telephone, and copied from by keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def page(pegboard: Instance, browser: Browser) -> Page:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_MS)
    opened.goto(f"{pegboard.public_url}/servers/prod/presto/connect?as=ana")
    return opened


@pytest.mark.parametrize("width", [1280, 375])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_command_is_selected_whole_by_tab(page: Page) -> None:
    page.get_by_text("Add to Cursor").focus()
    field = page.locator("#claude-code-command")
    for _ in range(10):
        page.keyboard.press("Tab")
        if field.evaluate("each => each === document.activeElement"):
            break
    selected = field.evaluate("each => each.value.slice(each.selectionStart, each.selectionEnd)")
    assert selected.startswith("claude mcp add --scope user --transport http pegboard-prod-presto http://localhost:")


def test_every_field_has_a_name(page: Page) -> None:
    unnamed = "[...document.querySelectorAll('.copied input, .copied textarea')].filter(each => !each.labels.length)"
    assert page.evaluate(f"{unnamed}.length") == 0
