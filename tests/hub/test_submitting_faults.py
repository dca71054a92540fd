"""What happens around a submission (a full disk, bytes that change where they are kept) is told to its author, and
nothing of it is half there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text, update

from pegboard.core.publishing import Finding, Severity, State
from pegboard_hub.publishing.artifacts import PART, Content, Damaged
from pegboard_hub.publishing.examining import Checked
from pegboard_hub.publishing.model import artifact_parts, artifacts, submissions
from pegboard_hub.publishing.reading import Here
from pegboard_hub.publishing.submissions import MOST_LISTED
from pegboard_hub.publishing.working import MOST_FINDINGS
from tests.hub.company import Hub
from tests.hub.publishing_rig import Builder, Project, found, released, submit, work
from tests.hub.reviewing import decide_all

pytestmark = pytest.mark.anyio

WIKI = Project()
LARGE = WIKI.with_(more={"data.txt": os.urandom(700_000).hex()})


@contextmanager
def full(hub: Hub) -> Iterator[None]:
    """No room on the disk of the embedded database for anything more (https://www.sqlite.org/pragma.html)."""
    engine = hub.parts.database.engine.sync_engine

    def limit(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count={cursor.fetchone()[0]}")
        cursor.close()

    def unlimit(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA max_page_count=1073741823")
        cursor.close()

    event.listen(engine, "checkout", limit)
    try:
        yield
    finally:
        event.remove(engine, "checkout", limit)
        event.listen(engine, "checkout", unlimit)


async def kept(hub: Hub) -> int:
    async with hub.parts.database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(artifacts)) or 0)


async def change(hub: Hub, digest: str) -> None:
    """What is kept changes under everybody's hands, as disks do."""
    async with hub.parts.database.write() as connection:
        of_it = artifact_parts.c.digest == digest
        await connection.execute(update(artifact_parts).where(of_it).values(content=b"something else"))


async def test_a_disk_that_is_full_keeps_nothing_of_a_submission_and_says_so(hub: Hub) -> None:
    with full(hub):
        answer = await submit(hub, "sam", "dev/wiki", LARGE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert answer.json()["error"]["what_to_do"]
        assert await hub.parts.publishing.listed("dev/wiki") == []
        assert await kept(hub) == 0
    assert (await submit(hub, "sam", "dev/wiki", LARGE)).status_code == 202


async def test_a_builder_that_hands_in_to_a_full_disk_tries_again(hub: Hub) -> None:
    assert (await submit(hub, "sam", "dev/wiki", WIKI)).status_code == 202
    large = Content.of(os.urandom(2 * PART))
    with full(hub):
        answer = await Builder(hub).put(large.digest, "wheel", large.file.read())
        assert answer.status_code == 503
    large.file.seek(0)
    assert (await Builder(hub).put(large.digest, "wheel", large.file.read())).status_code == 204
    assert await hub.parts.publishing.fetch(large.digest) is not None


async def test_a_source_that_changed_where_it_is_kept_is_not_built(hub: Hub) -> None:
    id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
    await change(hub, (await found(hub, id_)).source)
    order = await Builder(hub).claim()
    assert order is not None
    with pytest.raises(Damaged):
        await Builder(hub).source(order)
    assert await hub.parts.publishing.claim("another", gone=["builder-of-the-test"]) is None
    failed = await found(hub, id_)
    assert failed.state is State.FAILED
    assert failed.trouble is not None
    assert "has changed on the disk of the hub's database" in failed.trouble.what
    assert failed.trouble.mend == "Submit it again."
    assert (await found(hub, await released(hub, "sam", "dev/wiki", WIKI))).state is State.APPROVED


async def test_an_artifact_that_changed_where_it_is_kept_is_not_signed(hub: Hub) -> None:
    id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
    await Builder(hub).build(WIKI)
    built = await found(hub, id_)
    assert built.artifact is not None
    await change(hub, built.artifact.project)
    await work(hub)
    failed = await found(hub, id_)
    assert (failed.state, failed.signature) == (State.FAILED, None)
    assert failed.trouble is not None
    assert "has changed on the disk" in failed.trouble.what
    assert "Submit it again." in failed.trouble.mend
    assert (await found(hub, await released(hub, "sam", "dev/wiki", WIKI))).state is State.APPROVED


@pytest.mark.both_databases
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
async def test_bytes_go_in_and_out_in_parts_and_are_the_same(hub: Hub, size: int) -> None:
    content = os.urandom(size)
    digest = await hub.parts.publishing.keep("wheel", Content.of(content))
    assert await hub.parts.publishing.fetch(digest) == content
    parts = [part async for part in hub.parts.publishing.parts(digest)]
    assert [len(part) for part in parts[:-1]] == [PART] * max(0, len(parts) - 1)
    answer = await hub.internal.get(f"/internal/v1/runtime/artifacts/{digest}", headers=Builder(hub).headers)
    assert (answer.content, answer.headers["content-length"]) == (content, str(size))
    async with hub.parts.database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM artifact_parts")) == -(-size // PART)


async def test_what_waits_for_reviewers_is_approved_however_many_failed_after_it(hub: Hub) -> None:
    id_ = await released(hub, "sam", "prod/wiki", WIKI)
    waits = await found(hub, id_)
    assert waits.state is State.IN_REVIEW
    async with hub.parts.database.write() as connection:
        row = (await connection.execute(select(submissions).where(submissions.c.id == id_))).one()._asdict()
        later = {"state": State.FAILED, "release": None, "signature": None}
        rows = [
            row | later | {"id": f"failed-{number}", "created_at_ms": waits.created_at_ms + 1 + number}
            for number in range(MOST_LISTED)
        ]
        await connection.execute(insert(submissions), rows)
    await decide_all(hub, "prod/wiki")
    assert (await found(hub, id_)).state is State.APPROVED


async def test_of_a_hundred_thousand_findings_some_are_kept_and_all_are_counted(hub: Hub) -> None:
    one = Finding(code="PB101", severity=Severity.NOTE, place="pegboard.toml", what="it says little", fix="Say more")

    class Many(Here):
        async def check(self, *_: object) -> Checked:
            return Checked((one,) * (MOST_FINDINGS + 1))

    with pytest.warns(UserWarning, match="without limits"):
        hub.parts.publishing.reading = Many()
    id_ = await released(hub, "sam", "dev/wiki", WIKI)
    assert len((await found(hub, id_)).findings) == MOST_FINDINGS
    assert f"{MOST_FINDINGS + 1} notes" in [each.what for each in await hub.parts.publishing.events(id_)]
