"""A release that changes what is reviewed, from its declaration to its reviews in a real Chromium to a call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from tests.system.runtime_kit import short_folder
from tests.system.test_grants_live import Company
from tests.system.test_runtime_up import hear, until

pytestmark = pytest.mark.system

TWO = "prod/two"
PATIENCE_MS = 60_000
LONGEST_S = 20.0
"""Seconds from the last approval to the first call that goes through, on a machine that others use as well."""

DESCRIBE = """
import json, pathlib, sys, tomllib
manifest = tomllib.loads((pathlib.Path(sys.argv[2]) / "pegboard.toml").read_text())
tools = [{{"name": "look", "description": "{description}", "policy": "granted"}}]
policies = {{"granted": "permit (principal, action, resource);"}}
print(json.dumps({{"manifest": manifest, "tools": tools, "policies": policies}}))
"""


@pytest.fixture
def company() -> Iterator[Company]:
    found = Company(short_folder())
    found.write("one")
    found.grant("one")
    yield found
    shutil.rmtree(found.folder)


def declare(company: Company, description: str, manifest: str = "") -> None:
    """What the next release of prod/two declares."""
    folder = company.folder / "two"
    shutil.rmtree(folder, ignore_errors=True)
    company.write("two", manifest)
    (folder / "src" / "pegboard" / "describe.py").write_text(DESCRIBE.format(description=description))


def approve(browser: Browser, url: str, person: str, width: int) -> Page:
    """Find what waits, tick what holds, and approve it, by keyboard alone but for the links."""
    page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=True)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/reviews")
    page.click(f"button[value={person}]")
    page.wait_for_url(f"{url}/reviews")
    page.locator("table").first.get_by_role("link").first.click()
    page.wait_for_url("**/reviews/*")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in page.locator("input[name^='item:']").all():
        box.focus()
        page.keyboard.press("Space")
    page.get_by_role("button", name="Approve").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**done=*")
    return page


@pytest.mark.heavy
def test_a_release_that_changes_a_tool_is_reachable_once_two_reviewers_approve_it(
    company: Company, browser: Browser
) -> None:
    declare(company, "Looks.")
    with company.running() as (process, _):
        url = f"http://localhost:{company.port}"
        company.grant("one", "two")
        hear(process, f"{TWO} is live")
        until(lambda: company.ask(TWO) == httpx2.codes.OK)
        company.grant("one")
        hear(process, f"{TWO} is withdrawn and has ended")
        declare(company, "Looks, and deletes what it saw.", 'sensitivity = "restricted"\n')
        company.grant("one", "two")
        hear(process, f"{TWO} runs; it waits for security and privacy")
        assert company.ask(TWO) != httpx2.codes.OK
        assert company.status()[1]["closed"] == {TWO: "it waits for security and privacy"}
        first = approve(browser, url, "sol", 1280)
        assert "still wanted" in first.inner_text("[role=status]")
        assert "deletes what it saw" in first.inner_text("#main")
        assert company.ask(TWO) != httpx2.codes.OK
        last = approve(browser, url, "lea", 375)
        until(lambda: company.ask(TWO) == httpx2.codes.OK, LONGEST_S)
        assert "what all reviews approved holds now" in last.inner_text("[role=status]")
