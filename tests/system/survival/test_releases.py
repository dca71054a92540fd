"""Hub, edge, supervisor or replica is killed at each stage of a rollout: what serves goes on, never half-live."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.common.home import Home
from tests.ports import free_port
from tests.system.instance import REPOSITORY, Instance
from tests.system.releasing import Book, Project, calling, grants
from tests.system.survival.kills import innermost, process

pytestmark = [
    pytest.mark.system,
    pytest.mark.heavy,
    pytest.mark.anyio,
    pytest.mark.xdist_group("survival-releases"),
    pytest.mark.timeout(1800),
]

TIDE = "dev/tide"
LIMIT_S = 180.0
STEPS = "[rollout]\nsteps = [50]\nstep_minutes = 0.15\nwatch_minutes = 0.15\n"
BUSY = 400
"""Calls a minute with which such a step says something, also after some that were lost."""

CALLERS = ("ana", "pat", "fay", "sam")
BACK_AGAIN_S = 30.0
"""Within which a killed process serves again on a machine that has much else to do."""


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    """One that comes back when its supervisor is killed."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    port = free_port()
    place = ["--home", str(folder / "home")]
    command = [sys.executable, "-m", "pegboard.cli"]
    up = [*command, "up", "--detach", "--no-story", *place, "--port", str(port), "--grants", str(grants(folder))]
    started = subprocess.run(up, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        yield Instance(f"http://localhost:{port}", Home.open(folder / "home"), None, folder / "up.log")  # type: ignore[arg-type]
    finally:
        subprocess.run([*command, "down", *place], cwd=REPOSITORY, capture_output=True, timeout=120, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tide(instance: Instance) -> Iterator[Project]:
    """Three releases take over from one another in turn: one that left a moment ago would be ready at once."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    project = Project(instance, folder)
    for version in ("v1", "v2", "v3"):
        project.version(version, STEPS)
        project.submit("dev", version)
    yield project
    shutil.rmtree(folder, ignore_errors=True)


class Rollout:
    """One release that takes over from the other, and what the tables say of it."""

    def __init__(self, instance: Instance, tide: Project) -> None:
        self.home, self.tide = instance.home, tide

    def row(self) -> dict[str, Any]:
        """The deployment, as anybody who opens the file finds it: whole, whenever."""
        with closing(sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            database.execute("begin")
            row = dict(database.execute("select * from deployments where server = ?", [TIDE]).fetchone())
            of = {
                each["id"]: dict(each)
                for each in database.execute("select id, state, release from submissions where server = ?", [TIDE])
            }
            [serves] = database.execute("select release from servers where name = ?", [TIDE]).fetchone()
        live = row["live"]
        assert [id_ for id_, each in of.items() if each["state"] == "live"] == [live]
        assert serves == of[live]["release"]
        row["releases"] = {name: of[row[name]]["release"] if row[name] else None for name in ("live", "candidate")}
        return row

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The deployment once it is so."""
        async with asyncio.timeout(LIMIT_S):
            while not holds(found := self.row()):
                await asyncio.sleep(0.05)
        return found

    async def busy(self) -> None:
        """Have it called so often that a step of percent is taken."""
        async with calling(self.tide.instance, TIDE, CALLERS, legacy=(False,), rate=10), asyncio.timeout(LIMIT_S):
            while True:
                told = await asyncio.to_thread(self.tide.pegboard, "deployment", TIDE, "--json")
                if json.loads(told)["calls_per_minute"] >= BUSY:
                    break

    async def begin(self) -> asyncio.Task[str]:
        """Have a release take over that does not run; gives the command, which takes longer than some stages."""
        row = await self.until(lambda row: row["stage"] == "settled")
        listed = await asyncio.to_thread(self.tide.pegboard, "releases", TIDE, "--json")
        runs = (row["live"], row["leaving"])
        other = next(each["id"] for each in _submissions(json.loads(listed)) if each["id"] not in runs)
        words = ("promote", TIDE, "--release", other, "--why", "in turn")
        return asyncio.create_task(asyncio.to_thread(self.tide.pegboard, *words))

    def name_of(self, victim: str) -> str:
        """Its process, as the supervisor calls it."""
        if victim in ("hub", "edge", "supervisor"):
            return victim
        release = self.row()["releases"][victim]
        names = [each["name"] for each in _status(self.home)["processes"] if each["name"].startswith(f"{TIDE}~")]
        return next(name for name in names if name.split("~")[1].startswith(release[:8]))


def _submissions(found: Any) -> list[dict[str, Any]]:
    return list(found["submissions"] if isinstance(found, dict) else found)


def _status(home: Home) -> dict[str, Any]:
    return dict(json.loads(home.status.read_text(encoding="utf-8")))


STAGES = ("starting", "stepping", "watching")
VICTIMS = ("hub", "edge", "live", "candidate", "supervisor")
LOST = {"hub": 0, "candidate": 2, "live": 12, "edge": 40, "supervisor": 400}
"""Calls that may be lost at most: those that were under way at the process that was killed, and at an edge or a whole
instance those until it is back."""


@pytest.mark.parametrize("victim", VICTIMS)
async def test_whatever_is_killed_while_a_release_takes_over_the_one_that_serves_goes_on(
    instance: Instance, tide: Project, victim: str
) -> None:
    rollout = Rollout(instance, tide)
    await rollout.busy()
    for stage in STAGES:
        if stage == "watching" and victim == "candidate":
            continue  # there is none any more
        async with calling(instance, TIDE, CALLERS, legacy=(False,)) as book:
            command = await rollout.begin()
            await rollout.until(lambda row, stage=stage: row["stage"] == stage)
            if victim == "candidate":
                await _comes_up(rollout)
            _kill(rollout, victim)
            killed = time.monotonic()
            await _answered(book, killed)
            await asyncio.gather(command, return_exceptions=True)  # who was killed may have been about to answer it
            print(f"{victim} killed at {stage}: {len(book.failed)} calls lost, {time.monotonic() - killed:.1f} s")
            end = await rollout.until(lambda row: row["stage"] == "settled")
            served = end["releases"]["live"]
            await _answered(book, time.monotonic())
        assert len(book.failed) <= LOST[victim], book.failed
        assert book.mixed == []
        told = await asyncio.to_thread(tide.pegboard, "deployment", TIDE, "--json")
        assert json.loads(told)["live"]["release"] == served


async def _comes_up(rollout: Rollout) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                name = rollout.name_of("candidate")
                if process(rollout.home, name)["pid"]:
                    return
            except (StopIteration, TypeError, KeyError):
                pass
            await asyncio.sleep(0.05)


def _kill(rollout: Rollout, victim: str) -> None:
    if victim == "supervisor":
        os.kill(_status(rollout.home)["supervisor"]["pid"], signal.SIGKILL)
    else:
        os.kill(innermost(rollout.home, rollout.name_of(victim)), signal.SIGKILL)


async def _answered(book: Book, since: float) -> None:
    """Everybody who calls was answered by a call that ended since then."""
    async with asyncio.timeout(LIMIT_S):
        while sum(any(at >= since for at, _ in calls) for calls in book.met.values()) < 4:
            await asyncio.sleep(0.05)
