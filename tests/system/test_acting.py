"""A surface acts for a person on the whole stack: both layers let it through, and every record names both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acting import ACCESS_TOKEN, Acting
from tests.attacks.wire import modern
from tests.oauth import Browser, claims_of
from tests.system.instance import REPOSITORY, Instance

pytestmark = [pytest.mark.system, pytest.mark.anyio, pytest.mark.xdist_group("instance")]

DEADLINE_S = 30.0

GUIDE = (REPOSITORY / "docs" / "guides" / "let-a-surface-act.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)


def at_the_machine(pegboard: Instance, *words: str) -> str:
    """`pegboard surfaces …`, or another command of the operator's."""
    command = [sys.executable, "-m", "pegboard.cli", *words, "--home", str(pegboard.home.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60) as found:
        yield found


@pytest.fixture
def chat(pegboard: Instance, http: httpx2.AsyncClient, tmp_path: Path) -> Any:
    found = Acting(pegboard.public_url, http, "system-chat", "chat")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(found.jwks))
    said = found.registration()
    words = [word for group in said["groups"] for word in ("--group", group)]
    words += ["--server", "prod/*", "--redirect", said["redirect_uris"][0]]
    at_the_machine(
        pegboard,
        "surfaces",
        "register",
        "system-chat",
        "--surface",
        "chat",
        "--keys",
        str(keys),
        *words,
        "--why",
        "a test",
    )
    yield found
    at_the_machine(pegboard, "surfaces", "remove", "system-chat", "--why", "the test is over")


@pytest.fixture
async def ana(pegboard: Instance, http: httpx2.AsyncClient) -> Browser:
    browser = Browser(pegboard.public_url, http)
    await browser.sign_in("ana")
    return browser


def until(so: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := so():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


def calls_of(pegboard: Instance, person: str, **query: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {pegboard.token(person, 'api')}"}
    answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params=query, headers=headers, timeout=60)
    found: list[dict[str, Any]] = answer.json()["calls"]
    return found


async def test_a_call_by_a_surface_passes_both_layers_and_names_both_in_the_record(
    pegboard: Instance, chat: Acting, ana: Browser
) -> None:
    tokens = await chat.sign_in(ana)
    answer = await chat.exchange(tokens["access_token"], ACCESS_TOKEN)
    token = answer.json()["access_token"]
    called = modern(pegboard, token, "tools/call", {"name": "run_query", "arguments": {"sql": "SELECT 1"}})
    assert called.status_code == 200, called.text
    mine = until(
        lambda: [each for each in calls_of(pegboard, "ana", surface="chat") if each["act"] == "system-chat"],
        "the call is in the ledger",
    )
    assert (mine[0]["person"], mine[0]["client_id"], mine[0]["status"]) == ("ana", "system-chat", "ok")
    refused = await chat.exchange(tokens["access_token"], ACCESS_TOKEN, server="dev/scratch")
    assert refused.json()["error"] == "invalid_target"
    shown = at_the_machine(pegboard, "surfaces", "show", "system-chat", "--json")
    errors = [(each["person"], each["error"]) for each in json.loads(shown)["exchanges"]]
    assert errors == [("ana", "invalid_target"), ("ana", "")]


async def test_what_a_person_takes_back_and_an_operator_stops_holds_at_both_layers_soon(
    pegboard: Instance, chat: Acting, ana: Browser
) -> None:
    await chat.let_in(ana)
    token = await chat.for_("ana")
    assert modern(pegboard, token, "tools/list").status_code == 200
    at_the_machine(pegboard, "stop", "client", "system-chat", "--why", "it leaks")
    try:
        stopped = until(
            lambda: (r := modern(pegboard, token, "tools/list")).status_code == 403 and r, "the stop holds"
        )
        assert stopped.json()["error"]["data"]["reason"] == "client_stopped"
    finally:
        at_the_machine(pegboard, "resume", "client", "system-chat")
    until(lambda: modern(pegboard, token, "tools/list").status_code == 200, "it goes on")
    page = await ana.get(f"{pegboard.public_url}/acting?client=system-chat")
    await ana.press(page, "end")
    until(lambda: modern(pegboard, token, "tools/list").status_code == 401, "the token is void")


@pytest.mark.heavy
async def test_a_bot_acts_as_the_guide_says(
    pegboard: Instance, ana: Browser, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    def followed(command: str) -> str:
        here = command.replace("http://localhost:8400", pegboard.public_url)
        here = here.replace("pegboard surfaces", f"{sys.executable} -m pegboard.cli surfaces")
        here = here.replace("python examples", f"{sys.executable} {REPOSITORY}/examples")
        surroundings = {**os.environ, "PEGBOARD_HOME": str(pegboard.home.root)}
        done = subprocess.run(
            ["/bin/sh", "-ec", here], cwd=tmp_path, capture_output=True, text=True, env=surroundings, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    make_key, register, act, look, replace = COMMANDS
    followed(make_key)
    try:
        assert f"{pegboard.public_url}/acting?client=ads-bot" in followed(register)
        bot = Acting(
            pegboard.public_url, http, "ads-bot", "bot", key=json.loads((tmp_path / "ads-bot.json").read_text())
        )
        await bot.let_in(ana)
        told = json.loads(followed(act))
        assert claims_of(told["access_token"])["act"] == {"sub": "ads-bot"}
        shown = followed(look)
        assert "needs no other" in shown
        assert "#data-help" in shown
        followed(replace)
        assert (await bot.exchange(bot.statement("ana"))).json()["error"] == "invalid_client"
    finally:
        at_the_machine(pegboard, "surfaces", "remove", "ads-bot", "--why", "the test is over")
