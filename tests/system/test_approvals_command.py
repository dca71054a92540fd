"""A call at a terminal waits for its person's yes, in a whole instance: asked for, waited for, taken back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from pegboard.cli.app import run
from pegboard_hub.upkeep.hub_door import ask_at
from tests.oauth import Browser
from tests.system.edge_rig import until
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("instance")]

TOOL = "dev/scratch/echo"
REQUIRED = "/internal/v1/approvals/required"


@pytest.fixture(scope="module", autouse=True)
def _required(pegboard: Instance) -> Iterator[None]:
    """Ana's calls of echo wait for herself."""
    ask_at(pegboard.home.root, "POST", REQUIRED, {"tool": TOOL, "by": "caller", "why": "a test of the command"})
    yield
    ask_at(pegboard.home.root, "POST", f"{REQUIRED}/lift", {"tool": TOOL})


class Terminal:
    """Ana's terminal, without anybody who types."""

    def __init__(self, instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = instance.public_url
        self._capsys = capsys

    def line(self, *words: str) -> list[str]:
        return [*words, "--as", "ana", "--url", self._url]

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        status = run(self.line(*words, "--json"))
        return status, json.loads(self._capsys.readouterr().out)

    def echo(self, text: str) -> tuple[int, dict[str, Any]]:
        return self.run("call", "dev/scratch", "echo", "--arg", f"text={text}")


@pytest.fixture
def terminal(pegboard: Instance, capsys: pytest.CaptureFixture[str]) -> Terminal:
    found = Terminal(pegboard, capsys)
    until(lambda: found.echo("is it required?")[0] == 4, "calls wait")
    return found


def approve(instance: Instance, request: str) -> None:
    """Say yes on the page, as ana does in her browser."""

    async def decide() -> None:
        async with httpx2.AsyncClient(timeout=60) as http:
            browser = Browser(instance.public_url, http)
            await browser.sign_in("ana")
            page = await browser.get(f"{instance.public_url}/approvals/{request}")
            answer = await browser.press(page, "all")
            assert "done=approved" in answer.headers["location"]

    asyncio.run(decide())


def test_a_call_ends_with_status_4_and_the_same_one_goes_on_once_it_is_approved(
    pegboard: Instance, terminal: Terminal
) -> None:
    status, told = terminal.echo("once")
    assert (status, told["error"]["code"]) == (4, "approval_pending")
    request = told["approval"]["id"]
    assert told["approval"]["page"] == f"{pegboard.public_url}/approvals/{request}"
    assert request in {each["id"] for each in terminal.run("approvals")[1]["waiting"]}
    assert terminal.run("approvals", "show", request)[1]["arguments"]["text"] == "once"
    approve(pegboard, request)
    status, told = terminal.echo("once")
    assert (status, told["result"].get("isError", False)) == (0, False)
    until(lambda: terminal.run("approvals", "show", request)[1]["state"] == "done", "it is done")
    assert terminal.echo("once")[0] == 4


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_with_wait_it_waits_and_goes_on_by_itself(pegboard: Instance, terminal: Terminal, era: str) -> None:
    words = terminal.line("call", "dev/scratch", "echo", "--arg", f"text=waits {era}", "--wait", "--era", era)
    command = [sys.executable, "-m", "pegboard.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("Waiting for you")
            approve(pegboard, first.strip().rpartition("/")[2])
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert f"waits {era}" in out
    assert "Approved by" in err


def test_what_is_taken_back_runs_no_more(pegboard: Instance, terminal: Terminal) -> None:
    request = terminal.echo("back")[1]["approval"]["id"]
    approve(pegboard, request)
    assert terminal.run("approvals", "withdraw", request, "--why", "the wrong word")[0] == 0
    status, told = terminal.echo("back")
    assert status in (3, 4)
    assert terminal.run("approvals", "show", request)[1]["state"] == "withdrawn"
    assert (told.get("approval") or {}).get("id") != request or status == 3
    assert terminal.run("approvals", "history", "--state", "withdrawn")[1]["approvals"][0]["id"] == request
