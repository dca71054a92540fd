"""A hub that is killed at any stage of a rollout goes on from there, and nothing is ever half-live."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator

import httpx2
import pytest

from pegboard_hub.publishing.orders import DESIRED, OBSERVED, Desired
from tests.hub.company import OPERATOR, Company
from tests.hub.hub_process import Process, arguments
from tests.hub.rolling import SERVER, Machine, declared, payload_of, rig_of

pytestmark = [pytest.mark.anyio, pytest.mark.heavy, pytest.mark.timeout(600)]

LIMIT_S = 60


class Life:
    """A hub that is started again whenever it was killed, and a runtime that does what it says."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.process = Process(company)
        self.machine = Machine(None)  # type: ignore[arg-type]

    def start(self) -> None:
        self.process.start(*arguments(self.company))
        self.process.ready()

    def kill(self) -> None:
        assert self.process.process is not None
        os.kill(self.process.process.pid, signal.SIGKILL)
        self.process.process.wait(LIMIT_S)

    def turn(self) -> None:
        """One turn of the runtime; a hub that is away is asked again later."""
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        try:
            with self.process.door(self.company.home.internal_socket) as client:
                told = Desired.model_validate_json(client.get(DESIRED, headers=headers).raise_for_status().content)
                word = self.machine.observed(told).model_dump_json()
                client.post(OBSERVED, content=word, headers=headers).raise_for_status()
        except httpx2.HTTPError:
            pass

    def row(self) -> dict[str, object]:
        """The deployment, as anybody who opens the file finds it."""
        with sqlite3.connect(f"file:{self.company.home.database}?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            database.execute("begin")  # all of it as it was at one moment
            found = database.execute("select * from deployments where server = ?", [SERVER]).fetchone()
            states = dict(database.execute("select id, state from submissions").fetchall())
            release = database.execute("select release from servers where name = ?", [SERVER]).fetchone()[0]
            live = found["live"] if found else None
            # Nothing is half-live, whenever it was killed.
            assert [id_ for id_, state in states.items() if state == "live"] == ([live] if live else [])
            digests = dict(database.execute("select id, release from submissions").fetchall())
            assert release == (digests[live] if live else None)
        return dict(found) if found else {}

    def until(self, **wanted: object) -> None:
        """Wait until the deployment is so; the runtime works meanwhile."""
        deadline = time.monotonic() + LIMIT_S
        while not wanted.items() <= self.row().items():
            assert time.monotonic() < deadline, (wanted, self.row(), self.process.log()[-2000:])
            self.turn()
            time.sleep(0.02)

    def until_begun(self) -> None:
        """Wait until a release comes up, before a runtime has said anything of it."""
        deadline = time.monotonic() + LIMIT_S
        while self.row().get("stage") != "starting":
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def endpoints(self) -> dict[str, int]:
        """What the edge is told."""
        bundle = json.loads(payload_of(self.company.home.edge_bundle.read_text()))
        found = [each for each in bundle["servers"] if each["server"] == SERVER]
        return {each["release"]: each["percent"] for of in found for each in of.get("endpoints", ())}


@pytest.fixture
def life(company: Company) -> Iterator[Life]:
    found = Life(company)
    yield found
    found.process.end()


async def approve(company: Company, version: int) -> None:
    async with rig_of(company) as rig:
        await rig.approve(version)


async def test_a_hub_that_is_killed_at_each_stage_comes_to_the_end_all_the_same(company: Company, life: Life) -> None:
    first, second = f"sub{1:029x}", f"sub{2:029x}"
    await approve(company, 1)
    life.start()
    life.until_begun()
    life.kill()
    life.start()
    life.until(stage="settled", live=first)
    life.kill()
    await approve(company, 2)
    life.start()
    life.until(stage="starting", candidate=second)
    life.kill()
    assert life.endpoints() == {declared(1).digest: 100}
    life.start()
    life.until(stage="watching", live=second, previous=first)
    life.kill()
    life.start()
    # It is told where everybody goes before anybody has asked, and goes back by itself where a replica fails.
    assert life.endpoints() == {declared(2).digest: 100, declared(1).digest: 0}
    life.machine.broken[declared(2).digest] = "out of memory"
    life.until(stage="settled", live=first)
    life.kill()
    life.start()
    life.until(stage="settled", live=first)
    deadline = time.monotonic() + LIMIT_S
    while life.endpoints().get(declared(1).digest) != 100:
        assert time.monotonic() < deadline
        life.turn()
