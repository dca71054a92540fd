"""Reviews as people do them, on the pages of a hub in process: for tests of every kind."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.web.pages.browser import Visitor
from tests.folders import new_folder
from tests.hub.company import URL, Company, Hub, found_company, opened, presto
from tests.oauth import Browser

PRESTO = "prod/presto"
DRAFT = {
    "description": "Search the wiki",
    "owner": "search-eng",
    "support_channel": "#search",
    "sensitivity": "internal",
}


@asynccontextmanager
async def reviewed_company() -> AsyncIterator[tuple[Hub, Company]]:
    """A company whose prod/presto waits for reviews when its release differs, and its hub."""
    root = new_folder()
    company = found_company(root, reviewed=True)
    async with opened(company) as hub:
        yield hub, company
    shutil.rmtree(root)


def regroup(hub: Hub, person: str, *groups: str) -> None:
    """Put a person of the demo directory into other groups, as their company would."""
    demo = hub.parts.identity.demo
    assert demo is not None
    demo.directory.people[person] = demo.directory.people[person].model_copy(update={"groups": groups})


def changed(**manifest: Any) -> dict[str, Any]:
    """A release of prod/presto whose tool says something else."""
    declaration = presto(**manifest)
    declaration["tools"][0]["description"] = "Run SQL.\nAlso deletes."
    return declaration


async def signed_in(hub: Hub, person: str) -> Browser:
    browser = Browser(URL, hub.public)
    await browser.sign_in(person)
    return browser


def words(page: httpx2.Response) -> str:
    """What one reads on a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


def server(hub: Hub, name: str = PRESTO) -> RegisteredServer:
    return hub.parts.registry.current.servers[name]


async def open_ones(hub: Hub, name: str = PRESTO) -> dict[Kind, Review]:
    found = await hub.parts.reviewing.listed(server=name, states=[State.OPEN])
    return {review.kind: review for review in found}


async def release(hub: Hub, company: Company, declaration: dict[str, Any]) -> str:
    """A release that the runtime declares; gives its digest."""
    digest = company.deploy(PRESTO, declaration)
    assert await hub.parts.registry.refresh()
    return digest


async def decide(
    hub: Hub, person: str, review: Review, verdict: str = "approve", *, without: Collection[str] = (), **fields: str
) -> httpx2.Response:
    """Tick everything, and decide as a person does; of the access all that is asked for, `without` some fields."""
    browser = await signed_in(hub, person)
    page = await browser.get(f"{URL}/reviews/{review.id}")
    for field in without:
        ticked = f'name="{field}" checked'
        assert ticked in page.text
        page = httpx2.Response(200, text=page.text.replace(ticked, f'name="{field}"'), request=page.request)
    boxes = dict.fromkeys(re.findall(r'name="(item:\w+)"', page.text), "on")
    answer = await browser.press(page, verdict, **{**boxes, **fields})
    return await browser.get(f"{URL}{answer.headers['location']}") if answer.status_code == 303 else answer


async def ask(hub: Hub, person: str, name: str, access: Access, why: str = "they need it") -> httpx2.Response:
    """Look at what it would change, and ask for it, as an owner does."""
    browser = await signed_in(hub, person)
    query = {"look": "1", "groups": " ".join(access.groups), "channels": " ".join(access.channels)}
    query |= {f"surfaces:{surface}": "on" for surface in access.surfaces}
    page = await browser.get(str(httpx2.URL(f"{URL}/servers/{name}/access", params=query)))
    [button] = [
        b
        for b in ("Submit", "Ask for it", "Give access", "Give back", "Ask for it no more")
        if f"<button>{b}</button>" in page.text
    ]
    answer = await browser.press(page, button, why=why)
    return await browser.get(f"{URL}{answer.headers['location']}") if answer.status_code == 303 else answer


async def send_form(hub: Hub, browser: Browser, path: str, **fields: str) -> httpx2.Response:
    """Send a form without having been shown it: its token is made of the browser's own cookie."""
    token = Visitor(None, browser.cookies[hub.parts.identity.cookie.name]).form_token(path)
    return await browser._send("POST", URL + path, {"form_token": token, **fields})


async def move(hub: Hub, person: str, name: str, action: str, why: str = "because") -> None:
    """Change a server's lifecycle, as an owner does."""
    fields = {"action": action, "version": str(server(hub, name).version), "why": why}
    answer = await send_form(hub, await signed_in(hub, person), f"/servers/{name}/lifecycle", **fields)
    assert answer.status_code == 303, words(answer)


async def register(hub: Hub, name: str = "prod/wiki", by: str = "sam", **record: Any) -> None:
    async with hub.parts.registry.changing() as changing:
        await changing.register(name, DRAFT | record, Actor(by), "a new one")


async def ask_genai(hub: Hub, review: Review) -> None:
    sol = await signed_in(hub, "sol")
    await sol.press(await sol.get(f"{URL}/reviews/{review.id}"), "Ask for it", why="It summarises")


async def page_of(hub: Hub, name: str, kind: Kind) -> str:
    return f"{URL}/reviews/{(await open_ones(hub, name))[kind].id}"


async def decide_all(hub: Hub, name: str) -> None:
    """Approve everything that is open."""
    for kind, review in (await open_ones(hub, name)).items():
        await decide(hub, "lea" if kind is Kind.PRIVACY else "sol", review)
