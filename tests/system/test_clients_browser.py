"""Operators look after clients in a real browser, through the edge: by keyboard, at the width of a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000
NAME = "Editor <b>\u202e" + "x" * 60


@pytest.fixture
def page(pegboard: Instance, browser: Browser) -> Iterator[Page]:
    """A browser in which pat, an operator, is signed in; it is as wide as a telephone."""
    opened = browser.new_page(viewport={"width": 375, "height": 800})
    opened.set_default_timeout(PATIENCE_MS)
    opened.goto(f"{pegboard.public_url}/clients")
    opened.click("button[value=pat]")
    opened.wait_for_url(f"{pegboard.public_url}/clients")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def software(pegboard: Instance) -> str:
    """A client that registered itself."""
    said = {"client_name": NAME, "redirect_uris": [f"https://editor.example.com/{'long/' * 40}"]}
    httpx2.post(f"{pegboard.public_url}/oauth/register", json=said).raise_for_status()
    headers = {"Authorization": f"Bearer {pegboard.token('pat', 'api')}"}
    listed = httpx2.get(f"{pegboard.public_url}/api/v1/clients", headers=headers).json()["clients"]
    return next(str(each["software"]) for each in listed if each["name"].startswith("Editor <b>"))


def test_a_client_is_blocked_by_keyboard_alone(pegboard: Instance, page: Page, software: str) -> None:
    page.goto(f"{pegboard.public_url}/clients?{urlencode({'software': software})}")
    page.focus("input[value=approved]")
    page.keyboard.press("ArrowDown")
    assert page.is_checked("input[value=blocked]")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("leaks prompts")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status]")
    assert page.inner_text("[role=status]").startswith("Blocked.")
    assert "leaks prompts" in page.inner_text("main")
    said = {"client_name": NAME, "redirect_uris": [f"https://editor.example.com/{'long/' * 40}"]}
    assert httpx2.post(f"{pegboard.public_url}/oauth/register", json=said).status_code == 403


def test_nothing_is_wider_than_a_telephone_and_no_name_is_markup(
    pegboard: Instance, page: Page, software: str
) -> None:
    for address in ("/clients", f"/clients?{urlencode({'software': software})}"):
        page.goto(f"{pegboard.public_url}{address}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert page.locator("main b").count() == 0
        assert "‹U+202E›" in page.inner_text("body")
