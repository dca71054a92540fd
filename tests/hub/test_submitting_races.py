"""Whoever is at it at the same moment: each submission goes one way, each order is one builder's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from pegboard.core.publishing import NEXT, State
from pegboard_hub.publishing.errors import ClaimLost
from pegboard_hub.publishing.orders import Told
from tests.hub.company import Company, Hub, opened
from tests.hub.publishing_rig import Builder, Project, build, found, released, states, submit, work
from tests.hub.reviewing import decide_all, server

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


def project(number: int) -> Project:
    return Project(tools={"find_page": f"Find pages of the wiki, as of day {number}. Use it to see where it stands."})


async def two_hubs(company: Company, ended: AsyncExitStack) -> list[Hub]:
    """Two of one PostgreSQL; of the embedded database there is one."""
    return [await ended.enter_async_context(opened(company)) for _ in range(2 if company.database_url else 1)]


async def test_many_submit_at_once_and_each_source_is_one_submission(company: Company) -> None:
    async with AsyncExitStack() as ended:
        hubs = await two_hubs(company, ended)
        tokens = [await hub.token("sam") for hub in hubs]
        answers = await asyncio.gather(
            *(
                submit(hubs[n % len(hubs)], "sam", "prod/wiki", project(n % 3), token=tokens[n % len(hubs)])
                for n in range(12)
            )
        )
        assert {each.status_code for each in answers} <= {200, 202}, [each.text for each in answers]
        known = await hubs[0].parts.publishing.listed("prod/wiki")
        waiting = [each for each in known if each.state is State.SUBMITTED]
        assert len(waiting) == 1, "only the newest is built"
        assert {each.json()["id"] for each in answers} == {each.id for each in known}


async def test_of_many_builders_each_has_an_order_of_its_own(company: Company) -> None:
    async with AsyncExitStack() as ended:
        hubs = await two_hubs(company, ended)
        for number in range(5):
            name = f"wiki-{'abcde'[number]}x"
            assert (await submit(hubs[0], "sam", f"dev/{name}", Project(name))).status_code == 202
        # The internal door is the leader's; another hub may believe for a moment that it leads.
        orders = await asyncio.gather(
            *(hubs[n % len(hubs)].parts.publishing.claim(f"builder-{n}") for n in range(12))
        )
        given = [each.id for each in orders if each is not None]
        assert len(given) == 5
        assert len(set(given)) == 5


async def test_a_late_result_and_the_next_claim_meet_and_one_of_them_counts(hub: Hub) -> None:
    publishing = hub.parts.publishing
    clock = [publishing._clock()]
    publishing._clock = lambda: clock[0]
    for number in range(6):
        id_ = (await submit(hub, "sam", "dev/wiki", project(number))).json()["id"]
        builder = Builder(hub, "slow")
        order = await builder.claim()
        assert order is not None
        made = build(order, await builder.source(order), project(number))
        await builder.hand_in(made)
        clock[0] += 61
        told = Told(builder="slow", attempt=1, result=made.result)
        jobs = [publishing.result(order.id, told), publishing.claim("next")]
        if number % 2:
            jobs.reverse()
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        lost = any(isinstance(each, ClaimLost) for each in outcomes)
        claimed = any(getattr(each, "id", "") == id_ for each in outcomes)
        assert lost is claimed, outcomes
        assert (await found(hub, id_)).state is (State.SUBMITTED if claimed else State.BUILT)
        if claimed:
            await Builder(hub, "next").tell(order.model_copy(update={"attempt": 2}), made.result)
        await work(hub)


async def test_a_yes_and_a_newer_submission_meet_and_one_release_waits_or_is_approved(hub: Hub) -> None:
    await released(hub, "sam", "prod/wiki", project(0))
    for number in range(1, 4):
        newer = (await submit(hub, "sam", "prod/wiki", project(number))).json()["id"]
        await Builder(hub).build(project(number))
        await asyncio.gather(work(hub), _decided(hub))
        every = await hub.parts.publishing.listed("prod/wiki")
        in_review = [each for each in every if each.state is State.IN_REVIEW]
        waiting = server(hub, "prod/wiki").waiting
        assert [each.release for each in in_review] == ([waiting.digest] if waiting else [])
        assert (await found(hub, newer)).state in (State.IN_REVIEW, State.APPROVED)
        for each in every:
            path = [State(state) for state in await states(hub, each.id)]
            assert all(after in NEXT[before] for before, after in pairwise(path)), path


async def _decided(hub: Hub) -> None:
    """A reviewer whose review may be superseded under their hands."""
    try:
        await decide_all(hub, "prod/wiki")
    except (AssertionError, KeyError, IndexError):
        return  # the page says that it is not asked for any more, and has no such button


async def test_two_hubs_at_one_step_take_it_once(company: Company) -> None:
    async with AsyncExitStack() as ended:
        hubs = await two_hubs(company, ended)
        id_ = (await submit(hubs[0], "sam", "prod/wiki", project(0))).json()["id"]
        await Builder(hubs[0]).build(project(0))
        await asyncio.gather(*(hub.parts.publishing.step() for hub in (*hubs, *hubs)))
        await asyncio.gather(*(work(hub) for hub in hubs))
        assert await states(hubs[0], id_) == ["submitted", "built", "checked", "in review"]
        assert len(await hubs[0].parts.publishing.events(id_)) == 5  # one of them is the builder's
