"""A hub that is killed while somebody decides: afterwards all of the decision is there, or nothing of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import httpx2
import pytest

from pegboard.core.bundle import EDGE, open_bundle
from pegboard.core.names import ServerName
from pegboard.core.token import Verifier
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.web.parts import Parts
from tests.hub.company import URL, Company, Hub, presto
from tests.hub.hub_process import DEADLINE_S, Process, arguments
from tests.hub.reviewing import PRESTO, signed_in
from tests.oauth import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed, pytest.mark.heavy, pytest.mark.timeout(1800)]

MOMENTS_MS = (0, 2, 5, 10, 20, 40, 80, None)
"""When the hub is killed, after the decision was sent; None: once it is acknowledged."""

NOTHING = (False,) * 6


class Round(NamedTuple):
    """One release whose review is decided on."""

    digest: str
    review: str


@asynccontextmanager
async def door(company: Company) -> AsyncIterator[Hub]:
    """A client at the public door of the hub that runs."""
    transport = httpx2.AsyncHTTPTransport(uds=str(company.home.hub_socket))
    async with httpx2.AsyncClient(transport=transport, base_url=URL, timeout=DEADLINE_S) as client:
        yield Hub(cast(Parts, None), client, client)


async def ask(hub: Hub, path: str, **query: str) -> dict[str, Any]:
    answer = await hub.api("sol", path, **query)
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.json())


async def waits(hub: Hub, company: Company, number: int) -> Round:
    """Declare a release that security reviews, and wait for its review."""
    declaration = presto()
    declaration["tools"][0]["description"] = f"Run SQL, for the time number {number}."
    digest = company.deploy(PRESTO, declaration)
    async with asyncio.timeout(DEADLINE_S):
        while (await ask(hub, f"servers/{PRESTO}"))["inside"]["waiting"] != digest:
            await asyncio.sleep(0.05)
    [review] = (await ask(hub, "reviews", server=PRESTO, state="open"))["reviews"]
    assert review["kind"] == Kind.SECURITY
    return Round(digest, review["id"])


async def approve(browser: Browser, page: httpx2.Response) -> bool:
    """Tick everything and approve; whether that was acknowledged."""
    boxes = {part.partition('"')[0]: "on" for part in page.text.split('name="')[1:] if part.startswith("item:")}
    try:
        answer = await browser.press(page, "approve", **boxes)
    except httpx2.TransportError:
        return False
    assert answer.headers["location"].endswith("done=granted"), answer.text
    return True


async def traces(hub: Hub, company: Company, found: Round) -> tuple[bool, ...]:
    """Where the decision is to be seen: review, server, history (approval and grant), bundles of edge and server."""
    server, review = await ask(hub, f"servers/{PRESTO}"), await ask(hub, f"reviews/{found.review}")
    entries = (await ask(hub, f"servers/{PRESTO}/history"))["entries"]
    told = [entry for entry in entries if found.review in json.dumps(entry)]
    return (
        review["state"] == "approved",
        server["release"] == found.digest and server["inside"]["waiting"] is None and server["lifecycle"] == "live",
        [entry["action"] for entry in told].count("approve") == 1,
        [entry["action"] for entry in told].count("grant") == 1,
        found.digest in bundled(company, EDGE),
        found.digest in bundled(company, PRESTO),
    )


def bundled(company: Company, consumer: str) -> list[str]:
    """The digests of the releases in a bundle that somebody may call."""
    path = company.home.edge_bundle if consumer == EDGE else company.home.bundle(ServerName.parse(consumer))
    keys = json.loads(company.home.bundle_keys.read_text())
    return [each.release for each in open_bundle(path.read_text(), Verifier(keys), consumer).servers if each.groups]


async def test_a_hub_that_is_killed_while_somebody_decides_has_all_of_the_decision_or_nothing(
    company: Company,
) -> None:
    process = Process(company)
    try:
        seen = set()
        process.start(*arguments(company))
        process.ready()
        for number, moment_ms in enumerate(MOMENTS_MS):
            async with door(company) as hub:
                found = await waits(hub, company, number)
                browser = await signed_in(hub, "sol")
                page = await browser.get(f"{URL}/reviews/{found.review}")
                assert await traces(hub, company, found) == NOTHING
                decision = asyncio.create_task(approve(browser, page))
                await (asyncio.sleep(moment_ms / 1000) if moment_ms is not None else asyncio.wait({decision}))
                assert process.process is not None
                process.process.send_signal(signal.SIGKILL)
                process.process.wait(DEADLINE_S)
                acknowledged = await decision
            process.start(*arguments(company))
            process.ready()
            async with door(company) as hub:
                there = await traces(hub, company, found)
                assert there in ((True,) * 6, NOTHING), (moment_ms, there)
                assert there[0] or not acknowledged
                seen.add((there[0], acknowledged))
                if not there[0]:
                    again = await signed_in(hub, "sol")
                    assert await approve(again, await again.get(f"{URL}/reviews/{found.review}"))
        assert (True, True) in seen
        assert (False, False) in seen
    finally:
        process.end()
