"""The hub as a process: how it starts, how it refuses to, how it ends, and what survives its death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.common.database_url import VARIABLE
from tests.hub.company import API, URL, Company, intent, outcome

DEADLINE_S = 120


class Process:
    """A hub process that is ended when the test is."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._log = company.home.log("hub").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pegboard_hub.main", "--home", str(self._company.home.root)]
        url = {VARIABLE: self._company.database_url} if self._company.database_url else {}
        self.process = subprocess.Popen(
            [*command, *more], stderr=self._log, stdout=self._log, env={**os.environ, **url}
        )
        return self.process

    def ready(self) -> None:
        until = time.monotonic() + DEADLINE_S
        while not self.answers():
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until
            time.sleep(0.05)
        with self.door(self._company.home.hub_socket) as client:
            client.get("/readyz").raise_for_status()

    def has_read_status(self) -> None:
        """Wait until it knows what the supervisor says, which it reads beside its answers."""
        until = time.monotonic() + DEADLINE_S
        with self.door(self._company.home.hub_socket) as client:
            while "isolation: unknown" in client.get("/", headers={"accept": "text/html"}).text:
                assert time.monotonic() < until
                time.sleep(0.05)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(str(self._company.home.hub_socket)) == 0

    @staticmethod
    def door(path: Path) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url=URL, timeout=DEADLINE_S)

    def log(self) -> str:
        return self._company.home.log("hub").read_text()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(DEADLINE_S)
        self._log.close()


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    yield process
    process.end()


def arguments(company: Company) -> tuple[str, ...]:
    return ("--public-url", URL, "--grants", str(company.grants))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(hub: Process, company: Company, number: signal.Signals) -> None:
    process = hub.start(*arguments(company))
    hub.ready()
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0
    assert not company.home.hub_socket.exists()
    assert not company.home.internal_socket.exists()
    lines = [json.loads(line) for line in hub.log().splitlines()]
    assert lines[-1]["message"] == "hub ended"


def test_acknowledged_records_survive_its_violent_death(hub: Process, company: Company) -> None:
    token = company.open_channel("prod/presto", "r")
    process = hub.start(*arguments(company))
    hub.ready()
    now = int(time.time() * 1000)
    records = [record for n in range(50) for record in (intent(str(n), now), outcome(str(n), now))]
    with hub.door(company.home.internal_socket) as door:
        headers = {"Authorization": f"Bearer {token}"}
        answer = door.post("/internal/v1/records", json={"records": records}, headers=headers)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_S)
    assert answer.json()["accepted"] == 100
    hub.start(*arguments(company))
    hub.ready()
    with hub.door(company.home.hub_socket) as door:
        form = {"grant_type": "urn:pegboard:params:oauth:grant-type:demo-person", "person": "ana"}
        token = door.post("/oauth/token", data={**form, "surface": "cli", "resource": API}).json()["access_token"]
        calls = door.get("/api/v1/calls", headers={"Authorization": f"Bearer {token}"}).json()["calls"]
    assert len(calls) == 50
    assert {call["status"] for call in calls} == {"ok"}


def test_it_takes_url_and_grants_from_the_instances_file(hub: Process, company: Company) -> None:
    company.home.instance_file.write_text(json.dumps({"public_url": f"{URL}/", "grants": str(company.grants)}))
    hub.start()
    hub.ready()
    with hub.door(company.home.hub_socket) as door:
        metadata = door.get("/.well-known/oauth-protected-resource/mcp/prod/presto").json()
    assert metadata["resource"] == f"{URL}/mcp/prod/presto"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "neither --public-url nor"),
        (("--public-url", "https://pegboard.example.com"), "not a loopback address"),
        (("--public-url", URL, "--directory", "/nowhere/directory.toml"), "cannot be read"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_a_line(
    hub: Process, company: Company, more: tuple[str, ...], said: str
) -> None:
    assert hub.start(*more).wait(DEADLINE_S) == 1
    line = json.loads(hub.log().splitlines()[-1])
    assert line["level"] == "error"
    assert said in line["message"]


def test_a_damaged_database_ends_the_hub_with_one_line_that_says_so(company: Company, hub: Process) -> None:
    company.home.database.write_bytes(b"this is no database at all, and long enough to be one" * 40)
    assert hub.start(*arguments(company)).wait(DEADLINE_S) == 1
    [line] = hub.log().splitlines()
    assert f"the hub cannot start: the database {company.home.database} cannot be read" in line
