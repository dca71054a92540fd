"""A server is released again and again on a whole instance, and people who call it all the while lose no call."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.oauth import Browser
from tests.system.instance import Instance, running
from tests.system.releasing import OWNER, PEOPLE, Project, calling, grants

pytestmark = [
    pytest.mark.system,
    pytest.mark.heavy,
    pytest.mark.anyio,
    pytest.mark.xdist_group("releasing"),
    pytest.mark.timeout(900),
]

TIDE = "dev/tide"
BACK_S = 5.0
"""What an owner waits for at most until the last release answers again."""

WATCHED = "[rollout]\nwatch_minutes = 10\n"
STEPS = "[rollout]\nsteps = [40, 70]\nstep_minutes = 10\nwatch_minutes = 0.1\n"
BUSY = 6
"""Calls a minute, of an hour, in which such steps say something."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def instance(folder: Path) -> Iterator[Instance]:
    with running("--grants", str(grants(folder)), expected={"hub", "edge", "prober"}) as found:
        yield found


@pytest.fixture(scope="module")
def tide(instance: Instance, folder: Path) -> Project:
    """Its first release is live."""
    project = Project(instance, folder)
    secret = instance.home.root / "secrets" / "dev.tide" / "token"
    secret.parent.mkdir(parents=True, mode=0o700)
    secret.write_text("secret-one1", encoding="utf-8")
    project.version("v1", WATCHED + '[secrets]\nTOKEN = "file:token"\n')
    assert "dev/tide is live" in project.submit("dev")
    return project


def deployment(tide: Project, server: str = TIDE) -> dict[str, Any]:
    """As the API tells its owner: a command would take a second of its own to start."""
    headers = {"authorization": f"Bearer {tide.instance.token(OWNER, 'api')}"}
    door = f"{tide.instance.public_url}/api/v1/servers/{server}/deployment"
    return dict(httpx2.get(door, headers=headers, timeout=60).raise_for_status().json())


def act(tide: Project, action: str, why: str) -> None:
    """Have something done with the deployment, as its owner's program does it."""
    headers = {"authorization": f"Bearer {tide.instance.token(OWNER, 'api')}"}
    door = f"{tide.instance.public_url}/api/v1/servers/{TIDE}/deployment/{action}"
    httpx2.post(door, headers=headers, json={"why": why}, timeout=60).raise_for_status()


async def until(tide: Project, holds: Callable[[dict[str, Any]], bool], limit_s: float = 300.0) -> dict[str, Any]:
    """The deployment once it is so."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(limit_s):
            while not holds(found := await asyncio.to_thread(deployment, tide)):
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"was not so within {limit_s:.0f} s; last: {json.dumps(found, indent=1)}")
    return found


async def page(instance: Instance, person: str, path: str) -> str:
    """What somebody reads on a page."""
    async with httpx2.AsyncClient(timeout=60) as http:
        browser = Browser(instance.public_url, http)
        await browser.sign_in(person)
        return " ".join(re.sub(r"<[^>]+>", " ", (await browser.get(instance.public_url + path)).text).split())


async def decide(instance: Instance, person: str, review: str) -> None:
    """Tick everything, and approve it, as a reviewer does in their browser."""
    async with httpx2.AsyncClient(timeout=60) as http:
        browser = Browser(instance.public_url, http)
        await browser.sign_in(person)
        found = await browser.get(f"{instance.public_url}/reviews/{review}")
        boxes = dict.fromkeys(re.findall(r'name="(item:\w+)"', found.text), "on")
        answer = await browser.press(found, "approve", **boxes)
        assert answer.status_code == 303, answer.text[:2000]


async def test_a_switch_and_the_way_back_lose_no_call_and_mix_no_lists(instance: Instance, tide: Project) -> None:
    async with calling(instance, TIDE, ("ana", "pat")) as book:
        await book.until("v1")
        tide.version("v2", WATCHED + '[secrets]\nTOKEN = "file:token"\n')
        told = await asyncio.to_thread(tide.submit, "dev", "the second")
        assert "watching" in told
        await book.until("v2")
        token = await asyncio.to_thread(instance.token, OWNER, "api")
        pressed = time.monotonic()
        async with httpx2.AsyncClient(timeout=60, headers={"authorization": f"Bearer {token}"}) as http:
            door = f"{instance.public_url}/api/v1/servers/{TIDE}/deployment/rollback"
            (await http.post(door, json={"why": "it is worse"})).raise_for_status()
        done = time.monotonic() - pressed
        back = await book.until("v1", pressed, era="modern") - pressed
        await book.until("v1", time.monotonic() + 1)
        print(f"rolled back in {done:.2f} s, answered after {back:.2f} s; longest turn {book.longest:.2f} s")
    assert book.failed == []
    assert book.mixed == []
    assert back < BACK_S
    for person in ("ana", "pat"):
        assert book.order(f"{person} modern") == ["v1", "v2", "v1"], "nobody goes back and forth"
    assert "rolled back" in tide.pegboard("releases", TIDE)
    assert "it is worse" in tide.pegboard("history", TIDE)


async def test_a_restart_takes_a_changed_secret_up_and_loses_no_call(instance: Instance, tide: Project) -> None:
    secret = instance.home.root / "secrets" / "dev.tide" / "token"
    before = {each["id"] for each in deployment(tide)["replicas"]}
    secret.write_text("secret-two2", encoding="utf-8")
    async with calling(instance, TIDE, ("ana", "pat"), legacy=(False,)) as book:
        await book.until("v1")
        await asyncio.to_thread(tide.pegboard, "restart", TIDE, "--why", "its secret changed")

        def renewed(found: dict[str, Any]) -> bool:
            return {each["id"] for each in found["replicas"]}.isdisjoint(before)

        await until(tide, renewed)
        await book.until("v1")
    assert book.failed == []
    assert '"secret": "two2"' in tide.pegboard("call", TIDE, "release_of", "--json")
    assert "its secret changed" in tide.pegboard("history", TIDE)


async def test_a_breach_at_a_step_of_percent_goes_back_with_its_reason_and_who_will_not_wait_goes_on(
    instance: Instance, tide: Project
) -> None:
    async with calling(instance, TIDE, legacy=(False,), rate=6, arguments={"gauge": True}) as book:
        await until(tide, lambda found: found["calls_per_minute"] >= BUSY)
        tide.version("v3", STEPS, broken=True)
        told = await asyncio.to_thread(tide.submit, "dev", "a broken one", status=1)
        assert "40 percent" in told
        assert "of its calls fail" in told
        # The next one is good: its step stands on the page, and whoever looked at the figures takes no further one.
        tide.version("v4", STEPS)
        going = asyncio.create_task(asyncio.to_thread(tide.submit, "dev", "a good one"))
        at_step = await until(tide, lambda found: found["stage"] == "stepping")
        assert at_step["percent"] == 40
        assert "40 percent of the callers have it" in await page(instance, OWNER, f"/servers/{TIDE}/deployment")
        await asyncio.to_thread(act, tide, "promote", "looked at the figures")
        told = await going
        assert "40 percent" in told
        assert "looked at the figures" in told
        for person in PEOPLE:
            await book.until("v4", era=person)
    assert book.failed == []
    assert book.mixed == []
    assert book.tool_errors, "somebody met the broken one"
    for person in PEOPLE:
        order = book.order(f"{person} modern")
        assert order in (["v1", "v4"], ["v1", "v3", "v1", "v4"]), order
    untouched = [person for person in PEOPLE if "v3" not in book.order(f"{person} modern")]
    assert untouched, "the others never met it"


async def test_a_rollout_that_is_paused_waits_until_it_is_resumed(instance: Instance, tide: Project) -> None:
    await until(tide, lambda found: found["stage"] == "settled")
    async with calling(instance, TIDE, ("ana",), legacy=(False,)) as book:
        tide.version("v5", WATCHED)
        with tide.held("v5", TIDE):
            going = asyncio.create_task(asyncio.to_thread(tide.submit, "dev", "to be held"))
            await until(tide, lambda found: found["stage"] == "starting")
            await asyncio.to_thread(act, tide, "pause", "an incident elsewhere")
        held = await until(tide, lambda found: bool(found["candidate"]) and found["candidate"]["ready"] > 0)
        assert held["paused"]
        assert "Why: An incident elsewhere." in await page(instance, OWNER, f"/servers/{TIDE}/deployment")
        assert not book.since(0)["v5"]
        await asyncio.to_thread(tide.pegboard, "pause", TIDE, "--end")
        await going
        await book.until("v5")
        await asyncio.to_thread(tide.pegboard, "promote", TIDE, "--why", "looked at the figures")
    assert book.failed == []
    assert deployment(tide)["stage"] == "settled"


async def test_replicas_come_with_calls_under_way_and_go_again(instance: Instance, tide: Project) -> None:
    await until(tide, lambda found: found["stage"] == "settled")
    tide.version("v6", "[replicas]\nmin = 1\nmax = 3\nin_flight = 1\n[rollout]\nwatch_minutes = 0\n")
    await asyncio.to_thread(tide.submit, "dev", "to be scaled")

    def ready(found: dict[str, Any]) -> int:
        mine = [each for each in found["replicas"] if each["release"] == found["live"]["release"]]
        return sum(each["state"] == "ready" for each in mine)

    async with calling(instance, TIDE, legacy=(False,), rate=20, arguments={"seconds": 3}) as book:
        wide = await until(tide, lambda found: ready(found) == 3)
    assert wide["scale"]["max"] == 3
    assert book.failed == []
    await until(tide, lambda found: ready(found) == len(found["replicas"]) == 1)


async def test_a_server_that_sleeps_answers_a_cold_call(instance: Instance, tide: Project) -> None:
    tide.version("v7", "[replicas]\nmin = 0\nmax = 1\nidle_minutes = 0.05\n[rollout]\nwatch_minutes = 0\n")
    await asyncio.to_thread(tide.submit, "dev", "to sleep")
    await until(tide, lambda found: {each["state"] for each in found["replicas"]} == {"asleep"})
    began = time.monotonic()
    assert '"version": "v7"' in await asyncio.to_thread(tide.pegboard, "call", TIDE, "release_of", "--json")
    print(f"a cold call took {time.monotonic() - began:.1f} s")


async def test_a_legacy_session_ends_its_calls_where_it_began_and_goes_on_at_the_next_release(
    instance: Instance, tide: Project
) -> None:
    async with calling(instance, TIDE, ("ana", "pat"), legacy=(True,)) as book:
        await book.until("v7")
        tide.version("v8", "[rollout]\nwatch_minutes = 0\n")
        await asyncio.to_thread(tide.submit, "dev", "for sessions")
        await book.until("v8")
        async with asyncio.timeout(300):
            while any(book.order(f"{person} legacy")[-1] != "v8" for person in ("ana", "pat")):
                await asyncio.sleep(0.2)
    assert book.failed == []
    assert book.mixed == []
    for person in ("ana", "pat"):
        assert book.order(f"{person} legacy") == ["v7", "v8"]


async def test_production_waits_for_its_reviewers_and_then_goes_on_by_itself(
    instance: Instance, tide: Project
) -> None:
    told = await asyncio.to_thread(tide.pegboard, "promote", TIDE, "--to", "prod", "-m", "to production", status=4)
    assert "in review" in told.replace("_", " ")
    listed = json.loads(tide.pegboard("reviews", "list", "--json", person="sol"))
    waiting = {each["kind"]: each["id"] for each in listed["reviews"] if each["server"] == "prod/tide"}
    await decide(instance, "sol", waiting["security"])
    for kind in sorted(waiting.keys() - {"security"}):
        await decide(instance, "lea" if kind == "privacy" else "sol", waiting[kind])
    async with asyncio.timeout(300):
        while True:
            found = await asyncio.to_thread(deployment, tide, "prod/tide")
            if found["live"] is not None:
                break
            await asyncio.sleep(0.2)
    assert '"version": "v8"' in tide.pegboard("call", "prod/tide", "release_of", "--json", person="ana")


async def test_what_ends_is_announced_closed_and_kept(instance: Instance, tide: Project) -> None:
    why = "prod/tide has all of it"
    tide.pegboard("deprecate", TIDE, "--on", "90d", "--successor", "prod/tide", "--why", why)
    async with asyncio.timeout(30):
        while why not in (said := await asyncio.to_thread(tide.pegboard, "call", TIDE, "release_of", person="ana")):
            await asyncio.sleep(0.2)
    assert "prod/tide" in said
    for legacy in (False, True):
        assert await notice(instance, legacy), f"legacy: {legacy}"
    shown = await page(instance, "ana", f"/servers/{TIDE}")
    assert why in shown
    assert "prod/tide" in shown
    headers = {"authorization": f"Bearer {instance.token('ana', TIDE)}"}
    tide.pegboard("retire", TIDE, "--yes", "--why", "it moved")
    async with asyncio.timeout(30):
        while True:
            async with httpx2.AsyncClient(timeout=60, headers=headers) as http:
                answer = await http.post(f"{instance.public_url}/mcp/{TIDE}", json={})
            if answer.status_code == 404:
                break
            await asyncio.sleep(0.2)
    await until(tide, lambda found: not [each for each in found["replicas"] if each["state"] != "stopping"])
    assert "it moved" in tide.pegboard("history", TIDE)
    assert "v8" in tide.pegboard("releases", TIDE, "--json") or "1.0." in tide.pegboard("releases", TIDE)


async def notice(instance: Instance, legacy: bool) -> bool:
    """Whether a result says that the server ends."""
    from pegboard_hub.demo.wire import Wire

    async with httpx2.AsyncClient(timeout=60) as http:
        wire = Wire(http, instance.public_url)
        token = await wire.token("ana", TIDE)
        params = {"name": "release_of", "arguments": {}}
        if legacy:
            session = (await wire.initialize(token, TIDE)).headers["mcp-session-id"]
            await wire.legacy(token, "notifications/initialized", {}, TIDE, session)
            answer = await wire.legacy(token, "tools/call", params, TIDE, session)
        else:
            answer = await wire.modern(token, "tools/call", params, TIDE)
        return "prod/tide" in json.dumps((answer.result.get("_meta") or {}).get("pegboard.dev/notice", ""))
