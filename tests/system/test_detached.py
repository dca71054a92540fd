"""A detached instance: it returns once it is up, comes back when it is killed, and is ended by `down` alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard_hub.runtime import procfs
from tests.system.runtime_kit import alive, short_folder, write_project
from tests.system.test_runtime_up import REPOSITORY, Place, until

pytestmark = [pytest.mark.system, pytest.mark.heavy]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    found = Place(short_folder())
    write_project(found.folder / "one", "one")
    found.grant("one")
    yield found
    run(found, "down")
    shutil.rmtree(found.folder)


@pytest.fixture
def detached(place: Place) -> Place:
    if status(place)["running"] is False:
        started = run(place, "up", "--detach")
        assert started.returncode == 0, started.stdout + started.stderr
        assert "prod/one is live" in started.stdout
        assert "pegboard" in started.stdout
    return place


def run(place: Place, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A command in another terminal. Its output is read to the end, so nothing it left behind may hold on to it."""
    command = [sys.executable, "-m", "pegboard.cli", *arguments]
    variables = {name: value for name, value in place.variables().items() if name not in without}
    return subprocess.run(command, env=variables, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


def status(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(place, "status", "--json").stdout)
    return found


def all_live(place: Place) -> bool:
    return run(place, "status").returncode == 0


def answers(place: Place) -> bool:
    try:
        return httpx2.get(f"http://localhost:{place.port}/readyz").status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def test_up_detach_returns_once_everything_is_live_and_status_shows_each_process(detached: Place) -> None:
    assert answers(detached)
    found = status(detached)
    assert {each["name"]: each["state"] for each in found["processes"]} == dict.fromkeys(
        ("hub", "edge", "prober", "prod/one"), "live"
    )
    assert all(each["version"] and each["pid"] and each["since"] for each in found["processes"])
    shown = run(detached, "status").stdout
    assert all(word in shown for word in ("supervisor", "keeper", "hub", "prod/one", "Envoy", "isolation is"))


def test_a_killed_supervisor_comes_back_with_everything_it_keeps(detached: Place) -> None:
    before = status(detached)
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    new: list[dict[str, Any]] = []

    def another_has_the_home() -> bool:
        new.append(status(detached))
        return new[-1]["supervisor"]["pid"] not in (None, before["supervisor"]["pid"])

    until(another_has_the_home, 60)
    ended = {each["pid"] for each in before["processes"]}
    assert not ended & {each["pid"] for each in new[-1]["processes"]}, (
        "the word of the one that ended is not believed"
    )
    until(lambda: all_live(detached) and answers(detached), 60)
    after = status(detached)
    assert after["keeper"]["restarts"] == before["keeper"]["restarts"] + 1
    assert not any(alive(each["pid"]) for each in before["processes"])


def test_a_killed_keeper_comes_back_and_nobody_notices(detached: Place) -> None:
    until(lambda: status(detached)["keeper"]["pid"] is not None)
    before = status(detached)
    os.kill(before["keeper"]["pid"], signal.SIGKILL)
    until(lambda: status(detached)["keeper"]["pid"] not in (None, before["keeper"]["pid"]))
    assert status(detached)["supervisor"] == before["supervisor"]


def test_why_a_process_ended_stays_in_the_status_after_it_came_back(detached: Place) -> None:
    [one] = [each for each in status(detached)["processes"] if each["name"] == "hub"]
    os.kill(one["pid"], signal.SIGKILL)

    def is_back() -> bool:
        [found] = [each for each in status(detached)["processes"] if each["name"] == "hub"]
        return bool(found["state"] == "live" and found["pid"] != one["pid"])

    until(is_back, 60)
    assert "hub: was ended by SIGKILL, at " in run(detached, "status").stdout


def test_a_second_up_on_the_same_home_is_refused_and_disturbs_nothing(detached: Place) -> None:
    before = status(detached)
    second = run(detached, "up", "--detach")
    assert second.returncode != 0
    assert "already runs on this home" in second.stdout
    assert "pegboard down" in second.stdout
    assert "left nothing running" not in second.stdout
    assert "goes on" in second.stdout
    assert status(detached)["supervisor"] == before["supervisor"]
    assert answers(detached)


def test_a_detached_start_names_the_command_as_it_was_called(place: Place) -> None:
    run(place, "down")
    program = Path(sys.executable).with_name("pegboard").relative_to(REPOSITORY)
    variables = place.variables()
    started = subprocess.run(
        [program, "up", "--detach"], env=variables, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert started.returncode == 0, started.stdout + started.stderr
    commands = [line.split("pegboard ")[0] for line in started.stdout.splitlines() if " --as " in line]
    assert commands
    assert all(before.endswith(f"{program.parent}/") for before in commands)


def test_down_ends_everything_and_is_harmless_where_nothing_runs(detached: Place) -> None:
    found = status(detached)
    pids = [found["supervisor"]["pid"], found["keeper"]["pid"], *(each["pid"] for each in found["processes"])]
    ended = run(detached, "down")
    assert ended.returncode == 0
    assert "nothing is left running" in ended.stdout
    assert not any(alive(pid) for pid in pids)
    again = run(detached, "down")
    assert again.returncode == 0
    assert "Nothing ran" in again.stdout
    seen = run(detached, "status")
    assert seen.returncode == 5
    assert "Nothing runs" in seen.stdout


def test_down_does_not_trust_a_process_id_that_a_file_names(place: Place) -> None:
    run(place, "down")
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        place.home.lock.write_text(f"{stranger.pid}\n")
        assert procfs.flock_holder(place.home.lock) is None
        assert "Nothing ran" in run(place, "down").stdout
        assert stranger.poll() is None
    finally:
        stranger.communicate()


def test_a_start_that_names_no_grants_goes_on_with_those_of_the_last_one(place: Place) -> None:
    run(place, "down")
    noted = place.home.instance_file
    unsaid = ("PEGBOARD_GRANTS",)
    assert run(place, "up", "--detach", "--stops-max-age", "60").returncode == 0
    run(place, "down")
    before = json.loads(noted.read_text())
    assert before["stops_max_age_s"] == 60
    again = run(place, "up", "--detach", without=unsaid)
    assert again.returncode == 0, again.stdout
    assert f"grants are those of {place.folder / 'grants.toml'}" in again.stdout
    assert json.loads(noted.read_text()) == before
    run(place, "down")
    noted.write_text("{")
    refused = run(place, "up", "--detach", without=unsaid)
    assert refused.returncode != 0
    assert "say with --grants" in refused.stdout + refused.stderr
    assert run(place, "up", "--detach").returncode != 0  # it might open to anyone what a login has kept
    assert run(place, "up", "--detach", "--sign-in", "demo").returncode == 0


def test_a_detached_start_that_fails_says_why_and_leaves_nothing(place: Place) -> None:
    run(place, "down")
    grants = place.folder / "grants.toml"
    good = grants.read_text()
    grants.write_text("[servers.nonsense]\n")
    try:
        failed = run(place, "up", "--detach")
    finally:
        grants.write_text(good)
    assert failed.returncode != 0
    assert "nonsense" in failed.stdout
    assert "left nothing running" in failed.stdout
    assert status(place)["running"] is False


def test_a_disk_that_takes_no_writes_is_named_and_down_still_ends_everything(detached: Place) -> None:
    found = status(detached)
    pids = [found["supervisor"]["pid"], found["keeper"]["pid"], *(each["pid"] for each in found["processes"])]
    with read_only(detached.home.root):
        until(lambda: status(detached)["stale"], 30)
        seen = run(detached, "status")
        assert seen.returncode == 1
        assert f"The disk of {detached.home.root} takes no writes" in seen.stdout
        assert "takes no writes" in run(detached, "doctor", "--offline").stdout
        ended = run(detached, "down")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert not any(alive(pid) for pid in pids)
        refused = run(detached, "up", "--detach")
        assert refused.returncode == 1
        assert "Read-only file system" in refused.stderr
    assert run(detached, "up", "--detach").returncode == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder whose file system takes no writes any more; files that are open for writing stay so."""
    if os.geteuid() != 0:
        pytest.skip("a mount needs root")
    for command in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
        done = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_down_litters_no_folder_that_is_not_pegboard_s_and_up_refuses_it(place: Place) -> None:
    strange = place.folder / "strange"
    (strange / "photos").mkdir(parents=True)
    run(place, "down", "--home", str(strange))
    for detach in ([], ["--detach"]):
        refused = run(place, "up", "--home", str(strange), *detach)
        assert refused.returncode == 1
        assert "no home of Pegboard's and not empty: it has photos" in refused.stderr
    assert [path.name for path in strange.iterdir()] == ["photos"]
    assert strange.stat().st_mode & 0o777 == 0o755


def test_status_and_down_create_no_home_where_there_is_none(place: Place) -> None:
    nowhere = place.folder / "nowhere"
    for verb in ("status", "down"):
        said = run(place, verb, "--home", str(nowhere))
        assert "no" in said.stdout
        assert not nowhere.exists()
