"""The pipeline as a whole, for metrics and `pegboard doctor`: what waits, what stands still, who is silent."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
from sqlalchemy import delete, insert, update

from pegboard_hub.publishing.model import artifact_parts, artifact_uses, artifacts, submissions
from pegboard_hub.publishing.overview import Measures, overview
from pegboard_hub.upkeep.checks.running import _pipeline
from pegboard_hub.upkeep.doctor import CHECKS, examine, gather
from pegboard_hub.upkeep.finding import Finding, State
from tests.hub.company import OPERATOR, Company
from tests.hub.rolling import SERVER, Rig, declared, rig_of

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        await found.live(1)
        yield found


async def change(rig: Rig, id_: str, **values: object) -> None:
    async with rig.hub.parts.database.write() as connection:
        await connection.execute(update(submissions).where(submissions.c.id == id_).values(**values))


async def still(rig: Rig, now_ms: int) -> list[tuple[str, str]]:
    async with rig.hub.parts.database.read() as connection:
        return [(each.server, each.state) for each in (await overview(connection, now_ms)).still]


async def test_what_should_go_on_by_itself_and_does_not_stands_still_and_what_is_held_or_asked_does_not(
    rig: Rig,
) -> None:
    second = await rig.approve(2)
    now = int(rig.clock() * 1000)
    for state, stands in (("built", True), ("checked", True), ("approved", True), ("in review", False)):
        await change(rig, second, state=state, updated_at_ms=now - 6 * MINUTE_MS)
        assert await still(rig, now) == ([(SERVER, state)] if stands else [])
        await change(rig, second, updated_at_ms=now - 4 * MINUTE_MS)
        assert await still(rig, now) == []
    await change(rig, second, state="approved", updated_at_ms=now - 6 * MINUTE_MS)
    assert (await rig.post("pat", "deployment/pause", why="not today")).status_code == 200
    assert await still(rig, now) == []


async def test_metrics_say_what_waits_and_when_each_runtime_spoke_and_a_hub_that_does_not_lead_says_nothing(
    rig: Rig,
) -> None:
    now = int(rig.clock() * 1000)
    second = await rig.approve(2)
    await change(rig, second, state="submitted", updated_at_ms=now - 90_000)
    meter = rig.hub.parts.meter
    await Measures(rig.hub.parts.database, meter, lambda: True).look(now)
    page = meter.page().decode()
    assert 'pegboard_submissions{state="submitted"} 1.0' in page
    assert "pegboard_builds_oldest_seconds 90.0" in page
    assert 'pegboard_runtime_heard_timestamp_seconds{runtime="machine"}' in page
    await Measures(rig.hub.parts.database, meter, lambda: False).look(now)
    page = meter.page().decode()
    assert "pegboard_builds_oldest_seconds 0.0" in page
    assert "pegboard_runtime_heard_timestamp_seconds{" not in page


async def test_the_operators_door_names_what_stands_still_what_is_down_and_what_runtimes_note(rig: Rig) -> None:
    rig.machine.broken[declared(1).digest] = "out of memory"
    rig.machine.notes[declared(1).digest] = ("somebody changed it",)
    await rig.look()
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    answer = await rig.hub.internal.get("/internal/v1/publishing/overview", headers=headers)
    assert answer.json() == {
        "still": [],
        "unwell": {SERVER: "its replicas end, or do not answer; those who look after it see why on its page"},
        "notes": {SERVER: ["somebody changed it"]},
    }
    assert (await rig.hub.internal.get("/internal/v1/publishing/overview")).status_code == 401
    found = list(_pipeline(answer.json(), time.time()))
    assert [each.state for each in found] == [State.WARNING, State.WARNING]
    assert "pegboard deployment prod/weather" in found[0].mend


def look_at(company: Company) -> list[Finding]:
    facts = gather(company.home.root, None, None, offline=True)
    return [finding for _, finding in examine(facts, {"artifacts": CHECKS["artifacts"]})]


async def test_doctor_reads_what_is_deployed_and_says_what_is_gone_or_spoilt(rig: Rig, company: Company) -> None:
    company.home.instance_file.write_text(json.dumps({"public_url": company.settings.public_url}))
    one = (await rig.now()).live
    good = "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603"  # of "ab"
    async with rig.hub.parts.database.write() as connection:
        await connection.execute(delete(artifact_uses))  # the rig's releases have no bytes
        row = {"kind": "wheel", "size": 2, "at_ms": 1}
        await connection.execute(insert(artifacts).values(digest=good, **row))
        await connection.execute(insert(artifact_parts).values(digest=good, part=0, content=b"ab"))
        await connection.execute(insert(artifact_uses).values(submission=one, digest=good))
    assert [each.state for each in look_at(company)] == [State.WELL]
    with closing(sqlite3.connect(company.home.database)) as connection, connection:
        connection.execute("UPDATE artifact_parts SET content = x'6163'")
    [found] = look_at(company)
    assert found.state is State.MEND
    assert found.found == f"{SERVER}: the artifact {good[:12]} is not what it was"
    with closing(sqlite3.connect(company.home.database)) as connection, connection:
        connection.execute("DELETE FROM artifact_parts")
        connection.execute("DELETE FROM artifacts")
    assert look_at(company)[0].found.endswith("is not there")
    assert "restore a backup" in look_at(company)[0].mend
