"""A thousand replays at once claim once, also with several hubs on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from pegboard.core.approval import Answer, Ask, State
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.web.parts import Parts
from tests.hub.approvals_rig import Asking, decide, seen
from tests.hub.company import Company, Hub

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

REPLAYS = 1000


@asynccontextmanager
async def hubs(parts: Parts, company: Company) -> AsyncIterator[list[Approvals]]:
    """Hubs on one database: on a server three, each with connections of its own; else the one there is."""
    async with AsyncExitStack() as ended:
        found = [parts.approvals]
        for number in range(2 if company.database_url else 0):
            database = Database(company.database_url, name=f"pegboard hub-{number}")
            ended.push_async_callback(database.close)
            found.append(another(parts, database))
        yield found


def another(parts: Parts, database: Database) -> Approvals:
    return Approvals(
        database,
        parts.registry,
        parts.rotation.keys,
        parts.public_url,
        lambda: parts.reviewing.rights.roles,
        lambda: parts.identity.revocations.current,
        lambda: parts.stops.current,
    )


async def replayed(hubs: list[Approvals], presto: Asking, count: int, *, call_id: str = "") -> list[Answer]:
    """Ask the same at once, each time as another call, or always as the same."""
    channel = Channel(server=presto.server, release=presto.release)
    question = Ask.model_validate(await presto.question("ana"))
    asks = [question.model_copy(update={"call_id": call_id or f"replay-{number}"}) for number in range(count)]
    return await asyncio.gather(*(told(hubs[number % len(hubs)], channel, ask) for number, ask in enumerate(asks)))


async def told(hub: Approvals, channel: Channel, ask: Ask) -> Answer:
    """What the hub answers in the end: a server asks again where all connections to the database are in use."""
    while True:
        with suppress(StorageUnavailable):
            return await hub.ask(channel, ask)


@pytest.mark.both_databases(heavy=True)
async def test_of_a_thousand_replays_at_once_one_claims(hub: Hub, company: Company) -> None:
    presto = Asking.of(hub, company)
    asked = await presto.ask("ana")
    await decide(hub.parts.approvals, "sol", asked.actions[0].id)
    async with hubs(hub.parts, company) as several:
        answers = await replayed(several, presto, REPLAYS)
    assert sum(answer.claimed for answer in answers) == 1
    assert {answer.actions[0].id for answer in answers} == {asked.actions[0].id}
    request = await seen(hub.parts.approvals, asked.actions[0].id)
    assert [event.after for event in request.events].count(State.CLAIMED) == 1
    [winner] = [number for number, answer in enumerate(answers) if answer.claimed]
    assert request.call_id == f"replay-{winner}"


async def test_a_call_that_asks_a_hundred_times_at_once_has_one_claim_and_is_always_told_it(
    hub: Hub, company: Company
) -> None:
    presto = Asking.of(hub, company)
    asked = await presto.ask("ana")
    await decide(hub.parts.approvals, "sol", asked.actions[0].id)
    async with hubs(hub.parts, company) as several:
        answers = await replayed(several, presto, 100, call_id="one")
    assert all(answer.claimed for answer in answers)
    assert len((await seen(hub.parts.approvals, asked.actions[0].id)).events) == 3


async def test_a_hundred_first_questions_at_once_make_one_request(hub: Hub, company: Company) -> None:
    presto = Asking.of(hub, company)
    async with hubs(hub.parts, company) as several:
        answers = await replayed(several, presto, 100)
    assert len({answer.actions[0].id for answer in answers}) == 1


async def test_a_server_that_waits_at_one_hub_is_told_what_another_decides(hub: Hub, company: Company) -> None:
    presto = Asking.of(hub, company)
    asked = await presto.ask("ana")
    async with hubs(hub.parts, company) as several:
        channel = Channel(server=presto.server, release=presto.release)
        question = Ask.model_validate(await presto.question("ana", wait_s=50))
        following = asyncio.create_task(several[0].follow())
        waiting = asyncio.create_task(several[0].ask(channel, question))
        async with asyncio.timeout(30):
            while not several[0].held:
                await asyncio.sleep(0)
        await decide(several[-1], "sol", asked.actions[0].id)
        assert (await asyncio.wait_for(waiting, 30)).claimed
        following.cancel()
