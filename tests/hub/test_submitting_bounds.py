"""How much authors may ask for: whoever goes beyond reads the number, the limit, and whom to ask."""

from __future__ import annotations

import os

import httpx2
import pytest
from sqlalchemy import insert, select, update

from pegboard.core.publishing import State
from pegboard_hub.publishing.model import artifact_uses, deployments, submissions
from pegboard_hub.publishing.serving import serve
from pegboard_hub.registry.history import PEGBOARD
from tests.hub.company import Company, Hub
from tests.hub.publishing_rig import Builder, Project, found, released, submit

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

WIKI = Project()


async def limited(hub: Hub, company: Company, **limits: int) -> None:
    """The operator says how much."""
    lines = "".join(f"{name} = {value}\n" for name, value in limits.items())
    company.grants.write_text(f"{company.grants.read_text()}\n[publishing.limits]\n{lines}")
    await hub.parts.registry.refresh()


def told(answer: httpx2.Response) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["layer"]) == (409, "too_many", "hub")
    return f"{error['message']} {error['what_to_do']}"


def numbered(number: int, size: int = 0) -> Project:
    more = {"data.bin": os.urandom(size).hex()[:size]} if size else {}
    return Project(tools={"find_page": f"Find pages, as of day {number}. Use it to see where it stands."}, more=more)


async def test_submissions_of_an_hour_are_counted_for_whoever_submits(hub: Hub, company: Company) -> None:
    await limited(hub, company, per_hour=2)
    for number in range(2):
        await released(hub, "sam", "dev/wiki", numbered(number))
    words = told(await submit(hub, "sam", "dev/wiki", numbered(2)))
    assert words.startswith("That would be 3 submissions by sam within an hour, and 2 is the most.")
    assert "ask the operator to raise per_hour in [publishing.limits] of the grants file" in words
    assert (await submit(hub, "sam", "dev/wiki", numbered(1))).status_code == 200, "the same again is none"
    other = Project("ads-tool", said={"owner": '"ads-eng"'})
    assert (await submit(hub, "ana", "dev/ads-tool", other)).status_code == 202


@pytest.mark.parametrize(
    ("limit", "words"),
    [("server_waiting", "dev/wiki to be built"), ("team_waiting", "search-eng"), ("person_waiting", "by sam to be")],
)
async def test_builds_that_wait_are_counted_of_server_team_and_person(
    hub: Hub, company: Company, limit: str, words: str
) -> None:
    await limited(hub, company, **{limit: 1})
    assert (await submit(hub, "sam", "dev/wiki", numbered(0))).status_code == 202
    await Builder(hub).claim()
    assert words in told(await submit(hub, "sam", "dev/wiki", numbered(1)))


async def test_memory_where_nobody_reviews_is_bounded_of_a_server_and_of_a_team(hub: Hub, company: Company) -> None:
    await limited(hub, company, memory_mb=2048, team_memory_mb=3000)
    greedy = WIKI.with_(said={"replicas": "{ max = 5 }"})
    words = told(await submit(hub, "sam", "dev/wiki", greedy))
    assert words.startswith("That would be 2,560 MiB of memory for dev/wiki where nobody reviews")
    assert "and 2,048 is the most" in words
    assert "raise memory_mb" in words
    first = await released(hub, "sam", "dev/wiki", WIKI.with_(said={"replicas": "{ max = 4 }"}))
    await live(hub, first)
    words = told(await submit(hub, "sam", "dev/other", Project("other", said={"replicas": "{ max = 2 }"})))
    assert "3,072 MiB of memory for servers of search-eng" in words
    assert "raise team_memory_mb" in words
    assert (await submit(hub, "sam", "dev/other", Project("other"))).status_code == 202
    assert (await submit(hub, "sam", "prod/wiki", greedy)).status_code == 202, "its reviewers look at it"


async def test_what_is_over_makes_room_for_what_is_new_and_what_can_be_gone_back_to_stays(
    hub: Hub, company: Company
) -> None:
    await limited(hub, company, stored_mb=1)
    size = 600_000  # of which the archive has half
    ids = [await released(hub, "sam", "dev/wiki", numbered(number, size)) for number in range(3)]
    for id_ in ids[:2]:
        await state(hub, id_, State.SUPERSEDED)
    await live(hub, ids[2], previous=ids[0])
    for number in (3, 4, 5):
        ids.append(await released(hub, "sam", "dev/wiki", numbered(number, size)))
        await state(hub, ids[-1], State.FAILED)
    await hub.parts.publishing.tidy()
    async with hub.parts.database.read() as connection:
        used = set(await connection.scalars(select(artifact_uses.c.submission)))
    assert used == {ids[0], ids[2], ids[5]}, "what can be gone back to, what is live, and the newest that is over"


async def test_what_is_needed_is_more_than_is_kept_and_nothing_is_swept_for_it(hub: Hub, company: Company) -> None:
    await limited(hub, company, stored_mb=1)
    for number in range(2):
        await state(hub, await released(hub, "sam", "dev/wiki", numbered(number, 700_000)), State.APPROVED)
    words = told(await submit(hub, "sam", "dev/wiki", numbered(3, 700_000)))
    assert "MiB of dev/wiki that are kept" in words
    assert "1 is the most" in words
    assert "raise stored_mb" in words


async def state(hub: Hub, id_: str, now: State) -> None:
    async with hub.parts.database.write() as connection:
        await connection.execute(update(submissions).where(submissions.c.id == id_).values(state=now))


async def live(hub: Hub, id_: str, previous: str | None = None) -> None:
    """It takes the calls, as far as tables and registry say."""
    submission = await found(hub, id_)
    file = hub.parts.registry.grants_file
    assert file is not None
    async with hub.parts.registry.changing() as changing:
        await serve(changing, file, submission, PEGBOARD, "deploy", "it is ready")
    await state(hub, id_, State.LIVE)
    row = {"stage": "settled", "percent": 0, "since_ms": 0, "version": 1, "updated_at_ms": 0, "previous": previous}
    async with hub.parts.database.write() as connection:
        await connection.execute(insert(deployments).values(server=submission.server, live=id_, **row))
