"""What is kept of submissions, and for how long; and that signatures outlive their keys."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, update

from pegboard.core.jose import Verifier
from pegboard.core.publishing import RELEASE_TYPE, State, Trouble
from pegboard_hub.identity.leaks import Leak, add_leak
from pegboard_hub.publishing.artifacts import GRACE_MS, Content
from pegboard_hub.publishing.model import artifact_parts, artifacts, deployments, submission_events, submissions
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.publishing.sweeping import KEPT_MS, KEPT_OF_A_SERVER
from pegboard_hub.upkeep.members import SIGNING_KEYS
from tests.hub.company import Company, Hub, opened
from tests.hub.publishing_rig import Builder, Project, found, released, submit, work

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


def project(number: int) -> Project:
    return Project(tools={"find_page": f"Find pages of the wiki, as of day {number}. Use it to see where it stands."})


@pytest.fixture
async def clock(hub: Hub) -> list[float]:
    now = [hub.parts.publishing._clock()]
    hub.parts.publishing._clock = lambda: now[0]
    return now


async def count(hub: Hub) -> int:
    async with hub.parts.database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(artifacts)) or 0)


async def rest(hub: Hub, id_: str, state: State = State.SUPERSEDED) -> None:
    """It is over, since it began."""
    async with hub.parts.database.write() as connection:
        await connection.execute(update(submissions).where(submissions.c.id == id_).values(state=state))


async def kept(hub: Hub, id_: str) -> bool:
    submission = await found(hub, id_)
    assert submission.artifact is not None
    digests = [submission.source, submission.artifact.project, str(submission.sbom)]
    there = [await hub.parts.publishing.fetch(digest) is not None for digest in digests]
    assert len(set(there)) == 1 or not there[0], "all of it, or none but what others need, too"
    return there[0]


async def test_what_is_handed_in_and_named_by_nothing_is_swept_after_a_while(hub: Hub, clock: list[float]) -> None:
    digest = await hub.parts.publishing.keep("wheel", Content.of(b"a wheel that nobody names"))
    await hub.parts.publishing.tidy()
    assert await hub.parts.publishing.fetch(digest) is not None, "its builder is about to name it"
    clock[0] += GRACE_MS / 1000 + 1
    await hub.parts.publishing.tidy()
    assert await hub.parts.publishing.fetch(digest) is None


async def test_what_failed_is_swept_after_a_week_and_its_story_stays(hub: Hub, clock: list[float]) -> None:
    id_ = (await submit(hub, "sam", "dev/wiki", project(0))).json()["id"]
    await Builder(hub).fail(Trouble(step="installing", what="no such package"))
    clock[0] += KEPT_MS / 1000 - 60
    await hub.parts.publishing.tidy()
    assert await count(hub) == 1
    clock[0] += 120
    await hub.parts.publishing.tidy()
    assert await count(hub) == 0
    assert (await found(hub, id_)).trouble is not None
    headers = {"Authorization": f"Bearer {await hub.token('sam')}"}
    again = await hub.public.post(f"/api/v1/submissions/{id_}/again", json={"namespace": "prod"}, headers=headers)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_kept")


@pytest.mark.parametrize("column", ["live", "candidate", "previous", "leaving"])
async def test_what_a_deployment_names_is_kept_whatever_its_age(hub: Hub, clock: list[float], column: str) -> None:
    first = await released(hub, "sam", "dev/wiki", project(0))
    await rest(hub, first)
    for number in range(1, KEPT_OF_A_SERVER + 1):
        await rest(hub, await released(hub, "sam", "dev/wiki", project(number)))
    named = {"server": "dev/wiki", "stage": "settled", "percent": 0, "since_ms": 0, "version": 1, "updated_at_ms": 0}
    async with hub.parts.database.write() as connection:
        await connection.execute(insert(deployments).values(**named, **{column: first}))
    clock[0] += KEPT_MS / 1000 + GRACE_MS / 1000
    await hub.parts.publishing.tidy()
    assert await kept(hub, first)


async def test_the_newest_releases_of_a_server_are_kept_and_older_ones_go(hub: Hub, clock: list[float]) -> None:
    ids = []
    for number in range(KEPT_OF_A_SERVER + 2):
        ids.append(await released(hub, "sam", "dev/wiki", project(number)))
        await rest(hub, ids[-1], State.ROLLED_BACK if number % 2 else State.SUPERSEDED)
    other = await released(hub, "sam", "dev/other", Project("other"))
    clock[0] += KEPT_MS / 1000 + GRACE_MS / 1000
    await hub.parts.publishing.tidy()
    assert [await kept(hub, id_) for id_ in ids] == [False] * 2 + [True] * KEPT_OF_A_SERVER
    assert await kept(hub, other), "it is on its way"


async def test_bytes_that_two_need_stay_while_one_does(hub: Hub, clock: list[float]) -> None:
    first = (await submit(hub, "sam", "dev/wiki", project(0))).json()["id"]
    await Builder(hub).fail(Trouble(step="installing", what="no such package"))
    clock[0] += KEPT_MS / 1000
    second = (await submit(hub, "sam", "dev/wiki", project(0))).json()["id"]
    clock[0] += GRACE_MS / 1000 + 1
    await hub.parts.publishing.tidy()
    assert (await found(hub, first)).source == (await found(hub, second)).source
    await Builder(hub).build(project(0))
    await work(hub)
    assert (await found(hub, second)).state is State.APPROVED


def believed(hub: Hub, submission: Submission) -> bool:
    try:
        word = Verifier(hub.parts.rotation.keys.release_jwks).verify(str(submission.signature), RELEASE_TYPE)
    except ValueError:
        return False
    return word["release"] == submission.release


async def test_once_the_key_leaked_every_release_is_signed_anew(hub: Hub, company: Company) -> None:
    ids = [await released(hub, "sam", "dev/wiki", project(number)) for number in range(3)]
    keys, publishing = hub.parts.rotation.keys, hub.parts.publishing
    assert await publishing.sign_anew() == 0
    old = keys.releases.kid
    add_leak(company.home.keys, Leak(at=0, by="the test", why="it leaked", kids={"releases": (old,)}))
    await hub.parts.rotation.step()
    assert keys.releases.kid != old
    assert not believed(hub, await found(hub, ids[0])), "what the old key signed is worth nothing"
    assert await publishing.sign_anew() == 3
    assert all([believed(hub, await found(hub, id_)) for id_ in ids])
    assert await publishing.sign_anew() == 0
    assert old not in company.home.release_keys.read_text()


async def test_nothing_is_signed_anew_that_is_not_what_was_checked(hub: Hub, company: Company) -> None:
    whole, changed, moved = [await released(hub, "sam", "dev/wiki", project(number)) for number in range(3)]
    source = (await found(hub, changed)).source
    other = (await found(hub, whole)).artifact
    assert other is not None
    async with hub.parts.database.write() as connection:
        put = update(artifact_parts).where(artifact_parts.c.digest == source)
        await connection.execute(put.values(content=b"another source"))
        await connection.execute(
            update(submissions).where(submissions.c.id == moved).values(artifact=other.model_dump(mode="json"))
        )
    old = hub.parts.rotation.keys.releases.kid
    add_leak(company.home.keys, Leak(at=0, by="the test", why="it leaked", kids={"releases": (old,)}))
    await hub.parts.rotation.step()
    assert await hub.parts.publishing.sign_anew() == 1
    signed = [id_ for id_ in (whole, changed, moved) if believed(hub, await found(hub, id_))]
    assert signed == [whole]
    for id_, fault in ((changed, "was changed where it is kept"), (moved, "is another than was checked")):
        async with hub.parts.database.read() as connection:
            what = await connection.scalar(
                select(submission_events.c.what)
                .where(submission_events.c.submission == id_)
                .order_by(submission_events.c.seq.desc())
                .limit(1)
            )
        assert fault in str(what)


async def test_a_restored_instance_signs_with_a_key_of_its_own(company: Company) -> None:
    async with opened(company) as hub:
        id_ = await released(hub, "sam", "dev/wiki", project(0))
    assert f"keys/{company.home.release_ring.name}" in SIGNING_KEYS
    company.home.release_ring.unlink()
    async with opened(company) as hub:
        assert not believed(hub, await found(hub, id_))
        assert await hub.parts.publishing.sign_anew() == 1
        assert believed(hub, await found(hub, id_))
