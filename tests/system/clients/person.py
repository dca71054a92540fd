"""A person at a real Chromium, whom clients send there to sign in."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

PATIENCE_MS = 60_000
CLOSING_S = 10
PAGE_CLOSING_S = 1
MOST_PAGES = 5
Arrived = Callable[[], Awaitable[object]]
GO_ON, SIGN_IN, CONSENT = "go on", "sign-in", "consent"
"""Pages that ask something. `GO_ON` is a click for whom another site's page leads here, and who is signed in."""


class Person:
    """Somebody of the demo directory, in one browser."""

    def __init__(self, context: BrowserContext, public_url: str, sub: str) -> None:
        self.context = context
        self.url = public_url
        self._buttons = {
            GO_ON: 'a.button:text-is("Go on")',
            SIGN_IN: f'button[name="person"][value="{sub}"]',
            CONSENT: 'button[name="answer"][value="allow"]',
        }

    async def follow(self, authorization_url: str) -> list[str]:
        """Open what a client asked to be opened, and say yes; gives which pages asked for something on the way."""
        page = await self.context.new_page()
        # The client may answer the last step with a page that closes itself, or with none.
        await page.goto(authorization_url, wait_until="commit")
        asked = await self.answer(
            page, lambda: page.wait_for_url(self._is_away, wait_until="commit", timeout=PATIENCE_MS)
        )
        # A client waits for the connections to its page; but one that closes itself meanwhile is not waited for here.
        with anyio.move_on_after(PAGE_CLOSING_S):
            await page.close()
        return asked

    async def answer(self, page: Page, arrived: Arrived) -> list[str]:
        """Say yes to the pages of the instance that ask something, until the client has what it wanted."""
        asked: list[str] = []
        for _ in range(MOST_PAGES):
            question = await self._next(page, arrived)
            if question is None:
                return asked
            asked.append(question)
            await page.click(self._buttons[question], no_wait_after=True)
        raise AssertionError(f"the client got no answer after {asked}: {page.url}")

    async def _next(self, page: Page, arrived: Arrived) -> str | None:
        """The next page that asks for something; None once the client has what it wanted."""
        waits = {
            question: asyncio.ensure_future(page.wait_for_selector(button, timeout=PATIENCE_MS))
            for question, button in self._buttons.items()
        }
        away = asyncio.ensure_future(arrived())
        done, rest = await asyncio.wait([away, *waits.values()], return_when=asyncio.FIRST_COMPLETED)
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if away in done:
            away.result()
            return None
        found = next(question for question, wait in waits.items() if wait in done)
        waits[found].result()
        return found

    def _is_away(self, url: str) -> bool:
        return not url.startswith(f"{self.url}/")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The machine's Chromium. It is ended also where a test ran out of time, which cancels everything else."""
    playwright = await async_playwright().start()
    try:
        found = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield found
        finally:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await found.close()
    finally:
        with anyio.CancelScope(shield=True):
            await playwright.stop()


@asynccontextmanager
async def person(public_url: str, sub: str = "ana") -> AsyncIterator[Person]:
    """A person whose browser knows nobody yet."""
    async with chromium() as browser:
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        yield Person(context, public_url, sub)
