"""A server that is dead or hangs is told as such, and is in nobody's way: at the real edge, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.runtime import procfs
from tests.system.instance import REPOSITORY, Instance, running

pytestmark = [pytest.mark.system, pytest.mark.heavy]

SCRATCH = "dev/scratch"
PRESTO = "prod/presto"
AT_ONCE_S = 2.0
"""Far more than a list takes, and less than any wait for a server that hangs would add up to."""


@pytest.fixture(scope="module")
def pegboard() -> Iterator[Instance]:
    """An instance of these tests' own: they break it."""
    with running() as instance:
        yield instance


class Asking:
    """A person at the edge."""

    def __init__(self, instance: Instance) -> None:
        self.url = instance.public_url
        self.headers = {"authorization": f"Bearer {instance.token('ana', 'api')}"}
        self.longest = 0.0

    def get(self, path: str) -> Any:
        began = time.monotonic()
        answer = httpx2.get(f"{self.url}/api/v1/{path}", headers=self.headers, timeout=30)
        self.longest = max(self.longest, time.monotonic() - began)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listed(self) -> dict[str, dict[str, Any]]:
        return {each["server"]: each for each in self.get("servers")["servers"]}

    def until(self, holds: Callable[[dict[str, dict[str, Any]]], bool], limit_s: float) -> dict[str, dict[str, Any]]:
        """Ask again and again, until a list shows it; nobody's list is shorter meanwhile."""
        deadline = time.monotonic() + limit_s
        while True:
            listed = self.listed()
            assert set(listed) == {SCRATCH, PRESTO}
            assert [tool["name"] for tool in listed[SCRATCH]["tools"]] == ["echo", "note"]
            if holds(listed):
                return listed
            assert time.monotonic() < deadline, listed
            time.sleep(0.1)


def pid_of(instance: Instance, name: str) -> int:
    status = json.loads(instance.home.status.read_text())
    return int(next(each["pid"] for each in status["processes"] if each["name"] == name) or 0)


@contextmanager
def stopped(instance: Instance, name: str) -> Iterator[None]:
    """A process, and all below it, that does nothing."""
    pids = list(procfs.tree(pid_of(instance, name)))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # somebody ended it meanwhile
                os.kill(pid, signal.SIGCONT)


def command(instance: Instance, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "pegboard.cli", *words, "--as", "ana"],
        env={**os.environ, "PEGBOARD_PUBLIC_URL": instance.public_url},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def test_a_server_that_hangs_is_down_with_the_reason_and_holds_up_no_list(pegboard: Instance) -> None:
    ana = Asking(pegboard)
    ana.until(lambda listed: listed[SCRATCH]["status"] == "live", 20)
    with stopped(pegboard, SCRATCH):
        found = ana.until(lambda listed: listed[SCRATCH]["status"] == "down", 28)
        assert found[SCRATCH]["status_why"] == "it timed out after 2 s"
        assert abs(time.time() * 1000 - found[SCRATCH]["status_since"]) < 20_000
        assert found[PRESTO]["status"] == "live"
        assert pegboard.token("ana", SCRATCH)
    ana.until(lambda listed: listed[SCRATCH]["status"] == "live", 20)
    history = ana.get(f"servers/{SCRATCH}/health")["transitions"]
    assert [entry["state"] for entry in history][:3] == ["live", "down", "live"]
    assert ana.longest < AT_ONCE_S


def test_a_server_whose_process_is_dead_stays_in_every_list_with_its_tools(pegboard: Instance) -> None:
    ana = Asking(pegboard)
    environment = pegboard.home.environment(ServerName.parse(SCRATCH))
    away = environment.with_name("env.away")
    environment.rename(away)
    try:
        os.kill(pid_of(pegboard, SCRATCH), signal.SIGKILL)
        found = ana.until(lambda listed: listed[SCRATCH]["status"] == "down", 20)
        assert found[SCRATCH]["status_why"].startswith("its process ")
        assert found[SCRATCH]["status_since"] is not None
        assert found[PRESTO]["status"] == "live"
        assert str(pegboard.home.root) not in json.dumps(found)
        lines = command(pegboard, "servers").splitlines()
        assert any(SCRATCH in line and "echo" in line for line in lines), lines
        page = httpx2.get(f"{pegboard.public_url}/", params={"as": "ana"}).text
        assert SCRATCH in page
        assert '<code><bdi class="theirs">echo</bdi></code>' in page
        own = httpx2.get(f"{pegboard.public_url}/servers/{SCRATCH}", params={"as": "ana"})
        assert own.status_code == 200
    finally:
        away.rename(environment)
    ana.until(lambda listed: listed[SCRATCH]["status"] == "live", 30)
    assert ana.longest < AT_ONCE_S


def test_while_the_prober_hangs_every_state_is_unknown_and_everything_is_served(pegboard: Instance) -> None:
    ana = Asking(pegboard)
    ana.until(lambda listed: {each["status"] for each in listed.values()} == {"live"}, 20)
    with stopped(pegboard, "prober"):
        found = ana.until(lambda listed: {each["status"] for each in listed.values()} == {"unknown"}, 40)
        assert {each["status_why"] for each in found.values()} == {"the prober has not reported since"}
        assert "unknown since" in command(pegboard, "servers")
        assert "hi" in command(pegboard, "call", SCRATCH, "echo", "--arg", "text=hi")
        os.kill(pid_of(pegboard, "prober"), signal.SIGKILL)
        ana.until(lambda listed: {each["status"] for each in listed.values()} == {"live"}, 30)
    assert ana.longest < AT_ONCE_S


def test_a_prober_that_was_killed_goes_on_where_it_was(pegboard: Instance) -> None:
    ana = Asking(pegboard)
    before = ana.until(lambda listed: {each["status"] for each in listed.values()} == {"live"}, 20)
    old = pid_of(pegboard, "prober")
    os.kill(old, signal.SIGKILL)
    after = ana.until(lambda _: pid_of(pegboard, "prober") not in (old, 0), 20)
    time_of = {server: each["status_since"] for server, each in before.items()}
    checked = ana.get(f"servers/{SCRATCH}/health")["checked_at"]
    ana.until(lambda _: ana.get(f"servers/{SCRATCH}/health")["checked_at"] > checked, 30)
    assert {server: each["status_since"] for server, each in after.items()} == time_of
    assert {server: each["status_since"] for server, each in ana.listed().items()} == time_of
