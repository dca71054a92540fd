"""A real browser: Chromium as it is on this machine, and what every page must be in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

LOOKS = [
    (375, "dark"),
    *(pytest.param(*look, marks=pytest.mark.heavy) for look in ((1280, "light"), (1280, "dark"), (375, "light"))),
]
"""Widths of a window and schemes of colours in which every page is looked at: the hardest in every run."""

expect.set_options(timeout=60_000)

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def looked_at(page: Page, axe: str) -> None:
    """Let axe look at a page, and nothing be wider than the window."""
    page.evaluate(axe)
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", WCAG)
    faults = [(each["id"], each["help"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
    assert not faults, page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
