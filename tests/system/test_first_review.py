"""The reviewer's tutorial: its commands do what it shows, between the steps that it has people do in a browser."""

from __future__ import annotations

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from tests.system.instance import REPOSITORY, Instance
from tests.system.pages import Command, commands, reader_at
from tests.system.test_runtime_up import until

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.heavy]

PAGE = (REPOSITORY / "docs" / "tutorials" / "your-first-review.md").read_text(encoding="utf-8")
SECTIONS = PAGE.split("\n## ")[1:]
PATIENCE_MS = 60_000
GROUP = "search-eng"
LONGEST_S = 20.0
"""Seconds from a decision to its effect on calls, on a machine that others use as well."""


def as_person(browser: Browser, url: str, person: str) -> Page:
    """A page of a browser in which a person has signed in on the way to an address."""
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.click(f"button[value={person}]")
    page.wait_for_url(url)
    return page


def ask(browser: Browser, url: str, groups: str, button: str) -> None:
    """The owner asks, as the page says."""
    page = as_person(browser, f"{url}/servers/prod/presto/access", "pat")
    field = page.locator("#groups")
    field.fill(groups if groups else field.input_value().replace(GROUP, ""))
    page.get_by_role("button", name="Look at what it changes").click()
    page.wait_for_url("**look=1*")
    page.locator("#why").fill("Search measures its latency there")
    page.get_by_role("button", name=button).first.click()
    page.wait_for_url("**done=*")


def approve(browser: Browser, url: str, person: str) -> None:
    """A reviewer finds what waits, ticks what holds and approves."""
    page = as_person(browser, f"{url}/reviews", person)
    page.locator("table").first.get_by_role("link").first.click()
    page.wait_for_url("**/reviews/*")
    for box in page.locator("input[name^='item:']").all():
        box.check()
    page.get_by_role("button", name="Approve").click()
    page.wait_for_url("**done=*")


def reaches(instance: Instance) -> bool:
    """Whether neither layer turns sam away."""
    url = f"{instance.public_url}/mcp/prod/presto"
    headers = {"authorization": f"Bearer {instance.token('sam')}", "accept": "application/json, text/event-stream"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    return httpx2.post(url, json=message, headers=headers).status_code != httpx2.codes.FORBIDDEN


def follow(instance: Instance, section: int) -> list[Command]:
    """Run the commands of a section."""
    found = commands(SECTIONS[section])
    for command in found:
        command.follow(REPOSITORY, reader_at(instance))
    return found


def test_the_tutorial_of_a_reviewer_does_what_it_shows(pegboard: Instance, browser: Browser) -> None:
    url = pegboard.public_url
    assert len(follow(pegboard, 0)) == 2
    ask(browser, url, "ads-eng finance data-infra platform search-eng", "Ask for it")
    assert follow(pegboard, 1)
    approve(browser, url, "sol")
    assert not reaches(pegboard)
    assert follow(pegboard, 2)
    approve(browser, url, "lea")
    until(lambda: all(reaches(pegboard) for _ in range(8)), LONGEST_S)  # each of the edge's workers has it
    assert len(follow(pegboard, 3)) == 2
    ask(browser, url, "", "Give back")
    until(lambda: not any(reaches(pegboard) for _ in range(8)), LONGEST_S)
    assert follow(pegboard, 4)
