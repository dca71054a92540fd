"""The hub as a process: how it starts, how it refuses to, how it ends, and what survives its death."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.hub.company import API, URL, Company, intent, outcome
from tests.hub.hub_process import DEADLINE_S, Process, arguments


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    yield process
    process.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)])
def test_a_signal_ends_it_cleanly(hub: Process, company: Company, number: signal.Signals) -> None:
    process = hub.start(*arguments(company))
    hub.ready()
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 0
    assert not company.home.hub_socket.exists()
    assert not company.home.internal_socket.exists()
    lines = [json.loads(line) for line in hub.log().splitlines()]
    assert lines[-1]["message"] == "hub ended"


@pytest.mark.heavy
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
        pytest.param(
            ("--public-url", "https://pegboard.example.com"), "not a loopback address", marks=pytest.mark.heavy
        ),
        pytest.param(
            ("--public-url", URL, "--directory", "/nowhere/directory.toml"), "cannot be read", marks=pytest.mark.heavy
        ),
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
