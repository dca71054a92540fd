"""`pegboard up` from start to end: everything comes up, what fails says why, and nothing is left."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from pegboard.cli.app import app, get_command
from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight, procfs
from pegboard_hub.runtime.progress import Progress, ProgressHandler
from tests.ports import free_port
from tests.system.runtime_kit import ONE, alive, short_folder, status_of, write_project

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
"""Seconds after which what must come to be has not: not how long it may take."""

READY = "Running. Ctrl-C stops everything."

GRANT = """
[servers."prod/{name}"]
source = "{name}"
groups = ["ads-eng"]
surfaces = ["cli"]
"""


@dataclass
class Place:
    """Where one test's instance lives."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def home(self) -> Home:
        return Home.open(self.folder / "home")

    def grant(self, *names: str) -> None:
        (self.folder / "grants.toml").write_text("".join(GRANT.format(name=name) for name in names))

    def variables(self) -> dict[str, str]:
        own = {
            "PEGBOARD_HOME": str(self.folder / "home"),
            "PEGBOARD_PORT": str(self.port),
            "PEGBOARD_GRANTS": str(self.folder / "grants.toml"),
            "PEGBOARD_SECRET_PROD__ONE__KEY": "one's own",
        }
        return {**os.environ, **own}

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end: for starts that fail."""
        command = [*UP, *options]
        return subprocess.run(
            command, env=self.variables(), cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S
        )

    @contextmanager
    def running(self, command: list[str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The process once everything is up, and what it said until then."""
        process = subprocess.Popen(
            command or UP,
            env=self.variables(),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            said = ""
            while READY not in said:
                line = process.stdout.readline()
                assert line, f"it ended: {said}"
                said += line
            yield process, said
        finally:
            with process:
                if process.poll() is None:
                    process.terminate()


MAKE_UP = ["make", "-o", "install", "up", "UP=--no-story"]
"""As a person types it, but for the installation: other tests are running from what it would renew."""

UP = [sys.executable, "-m", "pegboard.cli", "up", "--no-story"]


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place(short_folder())
    write_project(found.folder / "one", "one")
    found.grant("one")
    yield found
    shutil.rmtree(found.folder)


def until(holds: Callable[[], object], limit: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.05)


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)])
def test_it_serves_says_how_servers_are_kept_apart_and_leaves_nothing(place: Place, number: signal.Signals) -> None:
    with place.running() as (process, said):
        assert "isolation is " in said
        assert f"http://localhost:{place.port}" in said
        assert httpx2.get(f"http://localhost:{place.port}/healthz").json() == {"status": "ok"}
        assert {name: each["state"] for name, each in status_of(place.home).items()} == {
            "hub": "live",
            "prod/one": "live",
            "edge": "live",
            "prober": "live",
        }
        started = list(procfs.tree(process.pid))
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    assert gone(started)
    assert not place.home.status.exists()


@pytest.mark.heavy
def test_each_killed_process_comes_back_and_killing_the_supervisor_ends_them_all(place: Place) -> None:
    with place.running() as (process, _):
        for name, each in status_of(place.home).items():
            os.kill(each["pid"], signal.SIGKILL)
            until(lambda name=name: status_of(place.home)[name]["restarts"] == 1)
            until(lambda name=name: status_of(place.home)[name]["state"] == "live")
        assert httpx2.get(f"http://localhost:{place.port}/healthz").json() == {"status": "ok"}
        started = list(procfs.tree(process.pid))
        process.kill()
        process.wait(30)
    until(lambda: gone(started))
    with place.running():  # what the killed one left does not stand in the way of the next
        assert httpx2.get(f"http://localhost:{place.port}/healthz").json() == {"status": "ok"}


@pytest.mark.heavy
def test_a_second_ctrl_c_does_not_wait_for_a_server_that_does_not_stop(place: Place) -> None:
    with place.running() as (process, _):
        stubborn = status_of(place.home)[str(ONE)]["pid"]
        started = list(procfs.tree(process.pid))
        for pid in procfs.tree(stubborn):
            os.kill(pid, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "stopping" in process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130
        until(lambda: gone(started))


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ending_make_ends_what_make_started(place: Place, number: signal.Signals) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    with place.running(MAKE_UP) as (make, _):
        started = list(procfs.tree(make.pid))
        assert len(started) > 4
        make.send_signal(number)
        make.wait(PATIENCE_S)
        until(lambda: gone(started))


def test_ctrl_c_at_make_ends_everything(place: Place) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    with place.running(MAKE_UP) as (make, _):
        started = list(procfs.tree(make.pid))
        os.killpg(make.pid, signal.SIGINT)  # as a terminal does: to the whole group
        make.wait(PATIENCE_S)
        until(lambda: gone(started))


@pytest.mark.heavy
def test_a_server_that_cannot_be_deployed_or_started_does_not_keep_the_others_down(place: Place) -> None:
    write_project(place.folder / "two", "two", describe="import sys; sys.exit('tool x says nothing about access')")
    write_project(place.folder / "four", "four")
    place.grant("one", "two", "three", "four")
    with place.running() as (_, said):
        assert "prod/two is NOT deployed: its tools cannot be read: tool x says nothing about access" in said
        assert "prod/three is NOT deployed" in said
        assert "prod/four is NOT started" in said
        assert "secrets.API_KEY: put it into the variable PEGBOARD_SECRET_PROD__FOUR__KEY" in said
        welcome = said[said.index("Pegboard is up") :]
        assert "Not as it should be:\n" in welcome
        assert "\n  prod/three is NOT deployed" in welcome
        assert "\n  prod/two is NOT deployed: its tools cannot be read" in welcome
        assert status_of(place.home)[str(ONE)]["state"] == "live"


@pytest.mark.heavy
def test_with_other_grants_than_the_demos_there_is_no_story_and_the_commands_fit(place: Place) -> None:
    with place.running([*UP[:-1]]) as (_, said):
        assert "story" not in said
        port = f"PEGBOARD_PORT={place.port} "
        commands = [line.partition(port)[2].partition(" ")[2] for line in said.splitlines() if port in line]
        assert commands == ["servers --as ana", "tools prod/one --as ana", "explain --server prod/one --as gus"]
        assert "Not as it should be" not in said
        assert "Presto" not in said
    with place.running([*UP[:-1], "--story"]) as (_, said):
        assert "The story is about the demo's servers" in said
        assert said.count("story") == 1


@pytest.mark.heavy
def test_the_same_home_on_another_port_starts_without_alarm(place: Place) -> None:
    with place.running():
        pass
    place.port = free_port()
    with place.running() as (_, said):
        assert all(line.startswith("[") for line in said[: said.index("Pegboard is up")].splitlines() if line)
        assert "not used" not in said
        assert f"edge is live at http://localhost:{place.port}" in said


def test_trouble_that_the_parts_log_looks_like_the_other_lines(capsys: pytest.CaptureFixture[str]) -> None:
    handler = ProgressHandler(Progress(quiet=True))
    logger = logging.getLogger("pegboard_hub.edge.standing")
    logger.addHandler(handler)
    try:
        logger.warning("the bundle %s is not used", "edge.jws")
        logger.info("nothing to worry about")
    finally:
        logger.removeHandler(handler)
    assert re.fullmatch(r"\[ *\d+\.\d s\] edge: the bundle edge\.jws is not used\n", capsys.readouterr().out)


def hear(process: subprocess.Popen[str], words: str, limit: float = PATIENCE_S) -> str:
    """What the process says from here up to a line with `words`. One that does not say them is ended."""
    assert process.stdout is not None
    ender = threading.Timer(limit, process.kill)
    ender.start()
    said = ""
    try:
        while words not in said:
            line = process.stdout.readline()
            assert line, f"it never said {words!r}, but: {said}"
            said += line
    finally:
        ender.cancel()
    return said


@pytest.mark.heavy
def test_what_the_hub_says_of_a_changed_grants_file_reaches_the_terminal(place: Place) -> None:
    grants = place.folder / "grants.toml"
    good = grants.read_text()
    with place.running() as (process, said):
        assert "grants:" not in said
        grants.write_text(good.replace("groups", "gruops"))
        line = hear(process, "did you mean").splitlines()[-1]
        assert re.fullmatch(r"\[ *\d+\.\d s\] grants: the file has a fault, so the last good one stays in .*", line)
        assert "servers.prod/one.gruops: unknown key; did you mean 'groups'?" in line
        grants.write_text(good.replace("ads-eng", "finanse") + GRANT.format(name="three"))
        said = hear(process, "grants: prod/one: group 'finanse' has no member here; did you mean 'finance'?")
        assert "grants: the file is good again and in force" in said
        assert "prod/three is NOT deployed" in said
        grants.write_text(good)
        hear(process, "grants: no longer so: prod/one: group 'finanse'")
        grants.write_text("# none\n")
        hear(process, "grants: names no server: prod/one is withdrawn")


def test_a_taken_port_names_the_port_its_holder_and_the_mend(place: Place) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", place.port))
        holder.listen()
        ended = place.up()
    assert ended.returncode == 1
    assert f"port {place.port}: is taken by process {os.getpid()}" in ended.stderr
    assert "with the same options and another port" in ended.stderr
    assert f"--port {place.port + 1}" in ended.stderr
    assert f"PEGBOARD_PORT={place.port + 1}" in ended.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--public-url=foo", "'foo' is not an origin, for example http://localhost:8400."),
        ("--public-url=http://localhost:8400/mcp", "is not an origin"),
        ("--public-url=http://me@localhost:8400", "it names a user"),
        ("--public-url=http://localhost:99999", "is not an origin"),
        ("--public-url=ftp://localhost", "is not an origin"),
        ("--public-url=https://pegboard.example.com", "is not a loopback address"),
        ("--bind=0.0.0.0", "is not a loopback address"),
        ("--bind=::", "is not a loopback address"),
        ("--bind=pegboard.example.com", "is no IP address"),
        ("--port=80", "greater than or equal to 1024"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_there(place: Place, option: str, said: str) -> None:
    # In this process: what is refused starts nothing.
    ended = CliRunner().invoke(get_command(app), ["up", "--no-story", option], env=place.variables())
    assert ended.exit_code == 2
    assert said in " ".join(ended.output.split())
    assert not (place.folder / "home").exists()


def test_a_second_up_on_the_same_home_is_refused(place: Place) -> None:
    held = preflight.lock(place.home)
    try:
        ended = place.up()
    finally:
        os.close(held)
    assert ended.returncode == 1
    assert f"already runs on this home, as process {os.getpid()}" in ended.stderr


def test_a_home_that_cannot_be_written_is_refused(place: Place) -> None:
    (place.folder / "home").write_text("a file, where a folder should be")
    ended = place.up()
    assert ended.returncode == 1
    assert "choose a folder you may write to, with PEGBOARD_HOME=… or --home" in ended.stderr


def test_a_grants_file_that_is_not_there_is_refused(place: Place) -> None:
    (place.folder / "grants.toml").unlink()
    ended = place.up()
    assert ended.returncode == 1
    assert "grants.toml: cannot be read" in ended.stderr
    assert "name another with --grants" in ended.stderr


@pytest.mark.heavy
def test_a_hub_that_does_not_start_ends_everything_and_shows_its_log(place: Place) -> None:
    (place.home.keys / "token-signing.jwk.json").write_text("no key")
    (place.home.keys / "token-signing.jwk.json").chmod(0o600)
    ended = place.up()
    assert ended.returncode == 1
    assert "hub does not start" in ended.stderr
    assert not place.home.status.exists()
