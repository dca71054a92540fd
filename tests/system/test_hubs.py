"""Two hubs of one home on a real PostgreSQL, behind real Envoy: either does everything, and one of them may die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pegboard_hub.demo.wire import Wire
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.storage.postgresql import LEADER
from pegboard_hub.upkeep.hub_door import HubDoor
from tests.leaks import holding
from tests.oauth import Browser, StockClient
from tests.ports import free_port
from tests.postgres import Postgres, rows
from tests.postgres import running as running_postgres
from tests.system.instance import EXPECTED, REPOSITORY, Instance, running
from tests.system.survival.kills import innermost, process

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("hubs"), pytest.mark.heavy]

PASSWORD = "not-to-be-shown-1f7c"
HUBS = {"hub", "hub-2"}
EFFECT_S = 60.0
"""Seconds after which what must come to be has not: not how long it may take."""

TAKEN_OVER_S = 30.0
"""Seconds after which another hub leads, on a machine that others use as well."""


@dataclass(frozen=True)
class Site:
    """A running instance with two hubs, and its database."""

    pegboard: Instance
    database: str

    def leader(self) -> str:
        """The hub that leads; empty while none does."""
        found = rows(self.database, LEADER)
        return str(found[0][0]).removeprefix("pegboard ") if found else ""

    @asynccontextmanager
    async def at(self, hub: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of one hub alone, past the edge."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.pegboard.home.hub_door(hub)))
        async with httpx2.AsyncClient(transport=transport, timeout=EFFECT_S) as client:
            yield client


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_postgres() as postgres:
        postgres.listen(free_port(), PASSWORD)
        yield from _site(postgres)


def _site(postgres: Postgres) -> Iterator[Site]:
    with postgres.database(empty=True) as url:
        variables = {"PEGBOARD_DATABASE_URL": url}
        with running("--hubs", "2", expected=EXPECTED | HUBS, variables=variables) as pegboard:
            yield Site(pegboard, url)


async def until(holds: Callable[[], Awaitable[bool]] | Callable[[], bool], limit_s: float = EFFECT_S) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not within the limit.
    """
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def test_what_was_signed_in_at_one_hub_is_known_to_the_other_and_revoked_there(site: Site) -> None:
    url = site.pegboard.public_url
    async with site.at("hub") as one, site.at("hub-2") as other, httpx2.AsyncClient(timeout=EFFECT_S) as http:
        browser, client = Browser(url, one), StockClient(url, one)
        tokens = await client.connect(browser, "dev/scratch", "ana")
        elsewhere = StockClient(url, other, client_id=client.client_id)
        answer = await elsewhere.refresh(tokens["refresh_token"])
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        wire = Wire(http, url)
        assert (await wire.modern(tokens["access_token"], "tools/list", server="dev/scratch")).status == 200
        assert (await elsewhere.revoke(tokens["refresh_token"])).status_code == 200

        async def refused() -> bool:
            return (await wire.modern(tokens["access_token"], "tools/list", server="dev/scratch")).status == 401

        await until(refused)
        assert (await client.refresh(tokens["refresh_token"])).status_code == 400


async def test_when_the_leader_dies_requests_go_on_and_another_leads(site: Site) -> None:
    pegboard, url = site.pegboard, site.pegboard.public_url
    await until(lambda: bool(site.leader()))
    leader = site.leader()
    assert leader in HUBS
    reads, calls, failed, cut = 0, 0, list[str](), list[str]()
    ended = asyncio.Event()
    async with httpx2.AsyncClient(timeout=EFFECT_S) as http:
        wire = Wire(http, url)
        api, call = await wire.token("ana", "api"), await wire.token("ana", "dev/scratch")

        async def read(path: str) -> None:
            nonlocal reads
            while not ended.is_set():
                try:
                    answer = await http.get(f"{url}{path}", headers={"Authorization": f"Bearer {api}"})
                except httpx2.RemoteProtocolError:
                    cut.append(path)  # it had begun to answer when it was killed: nobody can take that back
                    continue
                reads += 1
                if answer.status_code != 200:
                    failed.append(f"{path}: {answer.status_code} {answer.text[:200]}")

        async def do() -> None:
            nonlocal calls
            while not ended.is_set():
                reply = await wire.call(call, "echo", {"text": "x"}, "dev/scratch")
                calls += 1
                if reply.status != 200:
                    failed.append(f"call: {reply.status} {reply.message}")

        work = [asyncio.create_task(each) for each in (read("/api/v1/servers"), read("/sign-in"), do())]
        await until(lambda: reads > 20)
        before = pegboard.home.edge_bundle.stat().st_mtime_ns
        restarts = process(pegboard.home, leader)["restarts"]
        os.kill(innermost(pegboard.home, leader), signal.SIGKILL)
        await until(lambda: site.leader() not in ("", leader) or _signed_since(pegboard, before), TAKEN_OVER_S)
        await until(lambda: _signed_since(pegboard, before))
        at_kill = reads
        await until(lambda: reads > at_kill + 50)
        await until(lambda: process(pegboard.home, leader)["restarts"] > restarts)
        await until(lambda: process(pegboard.home, leader)["state"] == "live")
        ended.set()
        await asyncio.gather(*work)
        assert failed == []
        assert len(cut) == len(set(cut)), "only what was under way at the kill may be cut"

        # What servers recorded meanwhile comes to the ledger through the door of the hub that leads now.
        async def all_told() -> bool:
            found = rows(site.database, "SELECT count(*) FROM calls WHERE server = 'dev/scratch' AND tool = 'echo'")
            return int(found[0][0]) >= calls

        await until(all_told)

        # And what is revoked at the one that came back is in force.
        async with site.at(leader) as back:
            client = StockClient(url, back)
            tokens = await client.connect(Browser(url, back), "dev/scratch", "fay")
            assert (await wire.modern(tokens["access_token"], "tools/list", server="dev/scratch")).status == 200
            await client.revoke(tokens["refresh_token"])

            async def refused() -> bool:
                return (await wire.modern(tokens["access_token"], "tools/list", server="dev/scratch")).status == 401

            await until(refused)


async def test_a_stop_at_any_hub_holds_while_the_leading_one_is_down(site: Site) -> None:
    pegboard, url = site.pegboard, site.pegboard.public_url
    await until(lambda: bool(site.leader()))
    leader = site.leader()
    other = (HUBS - {leader}).pop()
    async with httpx2.AsyncClient(timeout=20) as http, site.at(other) as door:
        wire = Wire(http, url)
        api, mine = await wire.token("pat", "api"), await wire.token("pat", "dev/scratch")
        theirs = await wire.token("sam", "dev/scratch")
        assert (await wire.call(theirs, "echo", {"text": "x"}, "dev/scratch")).status == 200
        restarts = process(pegboard.home, leader)["restarts"]
        os.kill(innermost(pegboard.home, leader), signal.SIGKILL)
        body = {"kind": "person", "name": "sam", "why": "rehearsed"}
        answer = await door.post(f"{url}/api/v1/stops", json=body, headers={"Authorization": f"Bearer {api}"})
        assert answer.status_code == 201, answer.text
        # What this hub refuses by itself waits for nobody.
        form = {"grant_type": DEMO_GRANT, "person": "sam", "surface": "cli", "resource": f"{url}/api"}
        assert (await door.post(f"{url}/oauth/token", data=form)).json()["error"] == "access_denied"
        await until(lambda: site.leader() not in ("", leader) or _back(pegboard, leader, restarts))

        async def refused() -> bool:
            reply = await wire.call(theirs, "echo", {"text": "x"}, "dev/scratch")
            return (reply.refusal or {}).get("reason") == "person_stopped"

        led = time.monotonic()
        await until(refused)
        assert time.monotonic() - led < 20  # two, where a machine has nothing else to do
        assert (await wire.call(mine, "echo", {"text": "x"}, "dev/scratch")).status == 200
        await until(lambda: process(pegboard.home, leader)["restarts"] > restarts)
        await until(lambda: process(pegboard.home, leader)["state"] == "live")
        with HubDoor(pegboard.home) as machine:
            machine.ask("POST", "/internal/v1/stops/resume", {"kind": "person", "name": "sam"})

        async def again() -> bool:
            return (await wire.call(theirs, "echo", {"text": "x"}, "dev/scratch")).status == 200

        await until(again)


def _back(pegboard: Instance, hub: str, restarts: int) -> bool:
    """Whether a hub that was killed was started again, and may lead as well as another."""
    return bool(process(pegboard.home, hub)["restarts"] > restarts)


def _signed_since(pegboard: Instance, before_ns: int) -> bool:
    return pegboard.home.edge_bundle.stat().st_mtime_ns > before_ns


def test_the_password_is_the_hubs_alone(site: Site) -> None:
    home = site.pegboard.home
    assert PASSWORD in site.database
    assert PASSWORD not in site.pegboard.said
    shown = f"data is kept in postgresql://127.0.0.1:{site.database.rpartition(':')[2].partition('/')[0]}/"
    assert shown in site.pegboard.said
    secret = PASSWORD.encode()
    assert holding(home.root, [secret]) == set()
    processes = json.loads(home.status.read_text())["processes"]
    for each in processes:
        environment = Path(f"/proc/{each['pid']}/environ").read_bytes()
        command = Path(f"/proc/{each['pid']}/cmdline").read_bytes()
        assert (secret in environment) == (each["name"] in HUBS), each["name"]
        assert secret not in command


def test_status_and_doctor_name_database_and_hubs(site: Site) -> None:
    shown = ask("status", site, with_url=False)
    assert "hub-2" in shown
    assert "data is kept in postgresql://127.0.0.1" in shown
    found = ask("doctor", site, with_url=True)
    assert "postgresql://127.0.0.1" in found
    assert "leads" in found
    assert PASSWORD not in shown + found


def test_a_scrape_tells_of_every_hub_whichever_it_meets(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.pegboard.home.scrape_token.read_text().strip()}"}
    for _ in range(3):
        page = httpx2.get(f"{site.pegboard.public_url}/metrics", headers=headers).text
        families = list(text_string_to_metric_families(page))
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        for name in ("pegboard_hub_requests", "pegboard_hub_database_seconds"):
            [family] = [each for each in families if each.name == name]
            assert {sample.labels["hub"] for sample in family.samples} == HUBS
    assert httpx2.get(f"{site.pegboard.public_url}/metrics/hub").status_code == 401


def ask(verb: str, site: Site, *, with_url: bool) -> str:
    """What a command says of the instance."""
    variables = {"PEGBOARD_DATABASE_URL": site.database} if with_url else {}
    command = [sys.executable, "-m", "pegboard.cli", verb, "--home", str(site.pegboard.home.root)]
    environment = {**os.environ, **variables, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=120)
    return done.stdout + done.stderr
