"""The grants file changes while `pegboard up` runs: servers come and go, and a fault of one is that one's alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.runtime import procfs
from tests.system.runtime_kit import alive, short_folder, status_of, write_project
from tests.system.test_runtime_up import GRANT, REPOSITORY, Place, hear, until

pytestmark = [pytest.mark.system, pytest.mark.heavy]

TWO = "prod/two"
CHOSEN = ["off", *(["user"] if os.geteuid() == 0 else []), *(["bubblewrap"] if shutil.which("bwrap") else [])]
MODES = ["auto", *(pytest.param(mode, marks=pytest.mark.heavy) for mode in CHOSEN)]


class Company(Place):
    """A place whose isolation a test chooses, with one server that needs no secret."""

    mode = "auto"

    def variables(self) -> dict[str, str]:
        return {**super().variables(), "PEGBOARD_ISOLATION": self.mode}

    def write(self, name: str, more: str = "") -> Path:
        folder = write_project(self.folder / name, name)
        manifest = folder / "pegboard.toml"
        manifest.write_text(more + manifest.read_text().partition("[secrets]")[0])
        return folder

    def status(self) -> tuple[int, dict[str, Any]]:
        """What `pegboard status` says, and its exit status."""
        command = [sys.executable, "-m", "pegboard.cli", "status", "--json"]
        ended = subprocess.run(command, env=self.variables(), cwd=REPOSITORY, capture_output=True, check=False)
        return ended.returncode, json.loads(ended.stdout)

    def ask(self, server: str) -> int:
        """The status of a call through the edge."""
        url = f"http://localhost:{self.port}"
        form = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": f"{url}/mcp/{server}"}
        answer = httpx2.post(f"{url}/oauth/token", data=form, timeout=60)
        if answer.status_code != httpx2.codes.OK:
            return answer.status_code
        headers = {
            "authorization": f"Bearer {answer.json()['access_token']}",
            "accept": "application/json, text/event-stream",
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        return httpx2.post(f"{url}/mcp/{server}", json=message, headers=headers, timeout=60).status_code


@pytest.fixture
def company() -> Iterator[Company]:
    found = Company(short_folder())
    found.write("one")
    found.grant("one")
    yield found
    shutil.rmtree(found.folder)


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_granted_runs_at_once_and_one_that_is_withdrawn_ends(company: Company, mode: str) -> None:
    company.mode = mode
    company.write("two")
    with company.running() as (process, _):
        one = status_of(company.home)["prod/one"]
        for _ in range(2):  # the second time its release is there
            company.grant("one", "two")
            hear(process, f"{TWO} is live")
            until(lambda: company.ask(TWO) == 200)
            two = status_of(company.home)[TWO]
            assert two["state"] == "live"
            inside = [two["pid"], *procfs.tree(two["pid"])]
            assert channels(company.home) == {"prod/one", TWO}
            company.grant("one")
            hear(process, f"{TWO} is withdrawn and has ended")
            assert not any(alive(pid) for pid in inside)
            assert company.ask(TWO) in (400, 404)
            until(lambda: TWO not in status_of(company.home))
            assert channels(company.home) == {"prod/one"}
        until(lambda: company.status()[0] == 0)
        assert company.ask("prod/one") == 200
        assert status_of(company.home)["prod/one"]["pid"] == one["pid"]
        if os.geteuid() == 0 and mode != "off":
            owners = [company.home.spool(ServerName("prod", name)).stat().st_uid for name in ("one", "two")]
            assert len({0, *owners}) == 3, "each has its own user"


def channels(home: Home) -> set[str]:
    return {each["server"] for each in json.loads(home.channels.read_text()).values()}


def test_a_fault_of_one_is_said_everywhere_harms_nobody_and_is_tried_again_when_its_source_changes(
    company: Company,
) -> None:
    with company.running() as (process, _):
        company.grant("one", "two")
        hear(process, f"{TWO} is NOT deployed")
        until(lambda: TWO in company.status()[1]["faults"])  # written every second
        code, found = company.status()
        assert code == 1
        assert found["faults"][TWO].startswith("is NOT deployed")
        until(lambda: "It is not deployed" in httpx2.get(f"http://localhost:{company.port}").text)
        assert company.ask("prod/one") == 200
        company.write("two", 'egress = ["db:5432"]\n')
        hear(process, "egress to db:5432 is asked for and not granted")
        assert company.ask("prod/one") == 200
        with (company.folder / "grants.toml").open("a") as grants:
            grants.write('egress = ["db:5432"]\n')
        hear(process, f"{TWO} is live")
        until(lambda: company.status()[0] == 0 and company.status()[1]["faults"] == {})
        company.grant("one", "two")
        hear(process, f"{TWO}: its egress changed in the grants file, in force from its next start on")


@pytest.mark.heavy
def test_a_server_that_is_withdrawn_while_it_is_built_leaves_nothing(company: Company) -> None:
    company.write("two")
    with company.running() as (process, _):
        company.grant("one", "two")
        hear(process, f"{TWO}: ")
        company.grant("one")
        hear(process, f"{TWO} is withdrawn and has ended")
        until(lambda: company.status()[0] == 0)
        assert TWO not in status_of(company.home)


@pytest.mark.heavy
def test_a_file_that_is_half_written_ends_no_server(company: Company) -> None:
    grants = company.folder / "grants.toml"
    company.write("two")
    company.grant("one", "two")
    whole = grants.read_text()
    with company.running() as (process, _):
        before = {name: each["pid"] for name, each in status_of(company.home).items()}
        grants.write_text(whole + GRANT.format(name="three").partition("groups")[0] + "groups = [")
        hear(process, "the last good one stays in force")
        grants.write_text(whole)
        hear(process, "good again")
        assert {name: each["pid"] for name, each in status_of(company.home).items()} == before
