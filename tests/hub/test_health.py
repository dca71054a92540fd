"""Servers are looked at by a process of their own, and everybody may know how they are doing, since when, and why."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.health import store
from pegboard_hub.health.prober import Prober
from pegboard_hub.health.report import Answer, Report, Target
from pegboard_hub.health.service import CHECKED_EVERY_MS, KEPT_MS, MOST_ENTRIES, SILENT_MS
from pegboard_hub.registry.status import LOOKED_MS
from pegboard_hub.storage.errors import StorageUnavailable
from tests.folders import new_folder
from tests.hub.company import Company, Hub, beside, opened

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

PROBER = "prober-token-of-the-test"
PRESTO = "prod/presto"
SCRATCH = "dev/scratch"
MINUTE = 60_000
FAULT = "it timed out after 2 s"


@pytest.fixture
def company(company: Company) -> Company:
    company.home.prober_digest.write_text(hashlib.sha256(PROBER.encode()).hexdigest())
    supervised(company)
    return company


def supervised(company: Company, **changes: Any) -> None:
    """The supervisor says that both servers are live for a minute, or what else `changes` says of them."""
    now = time.time()
    each = {name: {"name": name, "state": "live", "since": now - 60} for name in (PRESTO, SCRATCH)}
    processes = [each[name] | changes.get(name.partition("/")[2], {}) for name in each]
    company.report(at=now, isolation={"mode": "off"}, servers={PRESTO: "x", SCRATCH: "y"}, processes=processes)


def now_ms() -> int:
    return int(time.time() * 1000)


async def tell(
    hub: Hub, *transitions: tuple[str, str, int, str], token: str = PROBER, **more: Any
) -> httpx2.Response:
    """Report transitions (server, state, when, why), each server looked at just now."""
    told = [{"server": s, "state": state, "at_ms": at, "why": why} for s, state, at, why in transitions]
    report = {"transitions": told, "checked": {each["server"]: now_ms() for each in told}, **more}
    headers = {"authorization": f"Bearer {token}"}
    return await hub.internal.post("/internal/v1/health", json=report, headers=headers)


async def health(hub: Hub, server: str = PRESTO, **query: Any) -> dict[str, Any]:
    response = await hub.api("fay", f"servers/{server}/health", **query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_everybody_signed_in_is_told_the_state_since_when_and_why(hub: Hub) -> None:
    began, ended = now_ms() - 30 * MINUTE, now_ms() - 5 * MINUTE
    assert (await tell(hub, (PRESTO, "live", began, ""), (PRESTO, "down", ended, FAULT))).status_code == 200
    found = await health(hub)
    assert (found["state"], found["since"], found["why"]) == ("down", ended, FAULT)
    assert now_ms() - found["checked_at"] < MINUTE
    assert found["transitions"] == [
        {"at": ended, "state": "down", "why": FAULT},
        {"at": began, "state": "live", "why": ""},
    ]


async def test_history_comes_in_pages_and_a_made_up_cursor_is_named(hub: Hub) -> None:
    times = [now_ms() - place * MINUTE for place in range(5, 0, -1)]
    await tell(hub, *((PRESTO, "down" if at % 2 else "flapping", at, FAULT) for at in times))
    seen, cursor = [], None
    while True:
        page = await health(hub, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [entry["at"] for entry in page["transitions"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == times[::-1]
    refused = await hub.api("fay", f"servers/{PRESTO}/health", cursor="1 or 1=1")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("cursor: ")


async def test_a_report_that_comes_again_counts_once(hub: Hub) -> None:
    at = now_ms() - MINUTE
    for _ in range(2):
        await tell(hub, (PRESTO, "down", at, FAULT))
    assert len((await health(hub))["transitions"]) == 1


async def test_a_dead_server_is_still_listed_with_its_tools_and_what_is_wrong(hub: Hub) -> None:
    ended = now_ms() - 5 * MINUTE
    await tell(hub, (PRESTO, "down", ended, FAULT), (SCRATCH, "live", ended, ""))
    listed = {each["server"]: each for each in (await hub.api("ana", "servers")).json()["servers"]}
    presto = listed[PRESTO]
    assert [tool["name"] for tool in presto["tools"]] == ["run_query", "get_revenue_metrics"]
    assert (presto["status"], presto["status_since"], presto["status_why"]) == ("down", ended, FAULT)
    assert listed[SCRATCH]["status"] == "live"
    page = await hub.page(**{"as": "ana"})
    assert 'class="state down">down' in page
    assert FAULT in page
    assert "get_revenue_metrics" in page
    own = (await hub.public.get(f"/servers/{PRESTO}", params={"as": "ana"})).text
    assert FAULT in own
    tools = (await hub.public.get(f"/servers/{PRESTO}/tools", params={"as": "ana"})).text
    assert "get_revenue_metrics" in tools


@pytest.mark.parametrize(
    ("process", "told", "state", "why"),
    [
        ({}, "live", "live", ""),
        ({}, "down", "down", FAULT),
        ({}, "flapping", "flapping", FAULT),
        ({"state": "starting"}, "live", "starting", ""),
        ({"state": "down", "last_error": "was ended by SIGKILL"}, "live", "down", "its process was ended by SIGKILL"),
        (
            {"state": "down", "last_error": "cannot be started: /srv/x"},
            "down",
            "down",
            "its process cannot be started",
        ),
    ],
)
async def test_supervisor_and_prober_make_one_state(
    company: Company, process: dict[str, Any], told: str, state: str, why: str
) -> None:
    supervised(company, presto=process)
    async with opened(company) as hub:
        await tell(hub, (PRESTO, told, now_ms(), "" if told == "live" else FAULT))
        found = await health(hub)
    assert (found["state"], found["why"]) == (state, why)


async def test_a_process_started_again_between_two_looks_is_live_since_then(company: Company) -> None:
    async with opened(company) as hub:
        await tell(hub, (PRESTO, "live", now_ms() - 60 * MINUTE, ""))
        assert now_ms() - (await health(hub))["since"] < 2 * MINUTE


class Clock:
    """The time of day, which tests turn on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead_s)


async def test_a_silent_prober_makes_every_state_unknown_and_says_since_when(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with opened(company) as hub:
        hub.parts.health._clock = hub.parts.status._clock = time.time  # they were bound before the clock was ours
        await tell(hub, (PRESTO, "live", now_ms(), ""))
        heard = now_ms()
        clock.ahead_s = SILENT_MS / 1000 + 1
        supervised(company)  # which goes on
        for server in (PRESTO, SCRATCH):
            found = await health(hub, server)
            assert (found["state"], found["prober"]) == ("unknown", "silent")
            assert found["why"] == "the prober has not reported since"
            assert abs(found["since"] - heard) < SILENT_MS / 2
        await tell(hub)
        assert (await health(hub))["state"] == "live"


async def test_a_server_that_the_prober_no_longer_looks_at_is_unknown(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with opened(company) as hub:
        hub.parts.health._clock = hub.parts.status._clock = time.time
        await tell(hub, (PRESTO, "live", now_ms(), ""), (SCRATCH, "live", now_ms(), ""))
        clock.ahead_s = LOOKED_MS / 1000 + 1
        supervised(company)
        await tell(hub, checked={SCRATCH: now_ms()})
        assert (await health(hub))["why"] == "the prober has not looked at it since"
        assert (await health(hub))["state"] == "unknown"
        assert (await health(hub, SCRATCH))["state"] == "live"


async def test_what_was_told_survives_the_hub_and_the_prober_goes_on_with_it(company: Company) -> None:
    since = now_ms() - 5 * MINUTE
    async with opened(company) as hub:
        await tell(hub, (PRESTO, "down", since, FAULT))
    async with opened(company) as hub:
        assert (await health(hub))["since"] == since
        answer = Answer.model_validate((await tell(hub)).json())
        assert Target(server=PRESTO, state="down", since_ms=since, why=FAULT) in (answer.servers or ())
        assert Answer.model_validate((await tell(hub, targets=answer.targets)).json()).servers is None


async def test_after_a_silence_the_prober_begins_anew(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    async with opened(company) as hub:
        hub.parts.health._clock = time.time
        await tell(hub, (PRESTO, "live", now_ms(), ""))
        clock.ahead_s = SILENT_MS / 1000 + 1
        answer = Answer.model_validate((await tell(hub)).json())
        assert {target.state for target in answer.servers or ()} == {"unknown"}


async def test_a_disk_that_takes_no_writes_makes_nothing_unknown_and_the_prober_tells_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def full() -> AsyncIterator[None]:
        raise StorageUnavailable("the disk is full")
        yield

    told = (PRESTO, "down", now_ms(), FAULT)
    with monkeypatch.context() as patch:
        patch.setattr(hub.parts.database, "write", full)
        assert (await tell(hub, told)).status_code == 503
    assert (await health(hub))["state"] == "down"
    assert (await health(hub))["transitions"] == []
    assert (await tell(hub, told)).status_code == 200
    assert len((await health(hub))["transitions"]) == 1


async def test_what_the_supervisor_says_is_read_in_the_background(hub: Hub, company: Company) -> None:
    async with beside(hub.parts.status.keep()):
        async with asyncio.timeout(60):
            while not hub.parts.status._kept_until:
                await asyncio.sleep(0.01)
        company.home.status.unlink()
        assert hub.parts.status.read().known, "whoever asks is answered from memory"
        async with asyncio.timeout(60):
            while hub.parts.status.read().known:
                await asyncio.sleep(0.05)


async def test_a_replica_learns_what_the_prober_told_another(company: Company) -> None:
    at = now_ms() - MINUTE
    async with opened(company) as hub, opened(company) as replica:
        await tell(hub, (PRESTO, "down", at, FAULT))
        await replica.parts.health._catch_up()
        assert (await health(replica))["since"] == at
        await tell(hub, (PRESTO, "live", at + 1000, ""))
        await replica.parts.health._catch_up()
        assert (await health(replica))["state"] == "live"


async def test_history_is_bounded_in_age_and_number_and_a_last_entry_stays(hub: Hub) -> None:
    old = now_ms() - KEPT_MS - MINUTE
    newest = now_ms() - 1000  # asked once: two entries of one millisecond would be one
    many = [(PRESTO, "down", newest - place, FAULT) for place in range(MOST_ENTRIES + 20)]
    await tell(hub, (SCRATCH, "down", old - 1, FAULT), (SCRATCH, "live", old, ""), *many)
    await hub.parts.health.tidy()
    assert [entry["at"] for entry in (await health(hub, SCRATCH))["transitions"]] == [old]
    kept = await hub.parts.health.history(PRESTO, None, 1000)
    assert [entry.at_ms for entry in kept] == sorted((at for _, _, at, _ in many), reverse=True)[:MOST_ENTRIES]


async def test_a_server_that_is_not_there_any_more_leaves_nothing(hub: Hub, company: Company) -> None:
    await tell(hub, (PRESTO, "down", now_ms(), FAULT), (SCRATCH, "live", now_ms(), ""))
    hub.parts.health._registered = lambda: {SCRATCH}
    await hub.parts.health.tidy()
    assert await hub.parts.health.history(PRESTO, None, 10) == []
    assert set(hub.parts.health.word().servers) == {SCRATCH}
    async with hub.parts.database.read() as connection:
        assert set(await store.load(connection)) == {SCRATCH}


async def test_drafts_and_names_nobody_has_are_answered_alike(hub: Hub) -> None:
    assert (await hub.api("ana", "servers/prod/nothing/health")).status_code == 404
    assert (await hub.api("ana", "servers/PROD/..%2f/health")).status_code == 404
    assert (await hub.public.get(f"/api/v1/servers/{PRESTO}/health")).status_code == 401


async def test_metrics_count_servers_by_state_and_looks_by_outcome(hub: Hub, company: Company) -> None:
    company.home.scrape_digest.write_text(hashlib.sha256(b"scrape").hexdigest())
    await tell(
        hub, (PRESTO, "down", now_ms(), FAULT), looks={"timeout": 3, "ok": 4}, seconds=[0.01, 2.0], oldest_ms=1500
    )
    page = (await hub.public.get("/metrics", headers={"authorization": "Bearer scrape"})).text
    for line in (
        'pegboard_hub_health_servers{state="down"} 1.0',
        'pegboard_hub_health_servers{state="live"} 1.0',
        'pegboard_hub_health_looks_total{outcome="timeout"} 3.0',
        "pegboard_hub_health_look_seconds_count 2.0",
        "pegboard_hub_health_oldest_look_seconds 1.5",
    ):
        assert line in page


# The prober itself, against real sockets.

WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n" + b'{"status":"ok"}'


class Sockets:
    """Servers that answer whatever they are told to, on the sockets of a home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.says: dict[str, bytes | None] = {}
        self._open: dict[str, asyncio.Server] = {}
        self.asked = 0
        self.at_once = 0
        self.most = 0

    async def open(self, name: str, says: bytes | None = WELL) -> None:
        """Listen as `name`; None never answers."""
        self.says[name] = says
        path = self.home.socket(ServerName.parse(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                with suppress(OSError, asyncio.IncompleteReadError):
                    await reader.readuntil(b"\r\n\r\n")
                    said = self.says[name]
                    if said is None:
                        await reader.read()  # until the other side gives up
                    else:
                        writer.write(said)
            finally:
                self.at_once -= 1
                writer.close()

        self._open[name] = await asyncio.start_unix_server(answer, path)

    def close(self, name: str) -> None:
        self._open.pop(name).close()

    def close_all(self) -> None:
        for name in list(self._open):
            self.close(name)


class HubOfTheTest:
    """Takes reports, and says whom to look at."""

    def __init__(self, *servers: str) -> None:
        self.servers = servers
        self.states: dict[str, tuple[str, str]] = {}
        self.reports: list[Report] = []
        self.takes = True

    async def __call__(self, report: Report) -> Answer:
        if not self.takes:
            raise httpx2.ConnectError("no hub")
        self.reports.append(report)
        for each in report.transitions:
            self.states[each.server] = (each.state, each.why)
        digest = str(hash(self.servers))
        there = report.targets == digest
        return Answer(targets=digest, servers=None if there else tuple(Target(server=s) for s in self.servers))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.02)


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    root = new_folder()
    found = Sockets(Home.open(root / "home"))
    yield found
    found.close_all()
    shutil.rmtree(root)


@asynccontextmanager
async def probing(sockets: Sockets, hub: HubOfTheTest, **options: Any) -> AsyncIterator[None]:
    running = asyncio.create_task(Prober(sockets.home, hub, every_s=0.1, **options).run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prober that does everything sooner."""
    monkeypatch.setattr("pegboard_hub.health.prober.SOON_S", 0.01)
    monkeypatch.setattr("pegboard_hub.health.prober.TELL_S", 0.2)


@pytest.mark.usefixtures("quick")
async def test_the_prober_tells_how_each_server_is_doing(sockets: Sockets) -> None:
    hub = HubOfTheTest("dev/well", "dev/hangs", "dev/refuses", "dev/fails", "dev/absent", "dev/unready")
    await sockets.open("dev/well")
    await sockets.open("dev/hangs", None)
    await sockets.open("dev/refuses")
    sockets.close("dev/refuses")
    await sockets.open("dev/fails", b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    body = b'{"status":"bundle_unusable"}'
    await sockets.open("dev/unready", b"HTTP/1.1 503 No\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    async with probing(sockets, hub):
        await hub.until(lambda: len(hub.states) == 6)
    assert hub.states == {
        "dev/well": ("live", ""),
        "dev/hangs": ("down", "it timed out after 2 s"),
        "dev/refuses": ("down", "it refused the connection"),
        "dev/fails": ("down", "it answered 500"),
        "dev/absent": ("down", "it has no socket"),
        "dev/unready": ("down", "it is not ready: its grants do not verify, or are too old"),
    }


@pytest.mark.usefixtures("quick")
async def test_a_server_that_comes_back_is_live_again_and_one_that_leaves_is_not_looked_at(sockets: Sockets) -> None:
    hub = HubOfTheTest("dev/one")
    async with probing(sockets, hub):
        await hub.until(lambda: hub.states.get("dev/one") == ("down", "it has no socket"))
        await sockets.open("dev/one")
        await hub.until(lambda: hub.states["dev/one"] == ("live", ""))
        hub.servers = ()
        count = len(hub.reports)
        await hub.until(lambda: len(hub.reports) > count + 2)
        asked = sockets.asked
        await hub.until(lambda: len(hub.reports) > count + 5)
        assert sockets.asked == asked


@pytest.mark.usefixtures("quick")
async def test_what_happens_while_the_hub_is_away_is_told_once_it_is_back(sockets: Sockets) -> None:
    hub = HubOfTheTest("dev/one")
    await sockets.open("dev/one")
    async with probing(sockets, hub):
        await hub.until(lambda: hub.states.get("dev/one") == ("live", ""))
        hub.takes = False
        sockets.says["dev/one"] = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
        asked = sockets.asked
        await hub.until(lambda: sockets.asked > asked + 3)
        hub.takes = True
        await hub.until(lambda: hub.states["dev/one"] == ("down", "it answered 503"))
    told = [each.state for report in hub.reports for each in report.transitions]
    assert told == ["live", "down"]


@pytest.mark.usefixtures("quick")
async def test_servers_that_hang_hold_up_nobody_and_no_more_are_asked_at_once_than_may_be(sockets: Sockets) -> None:
    names = [f"dev/hangs-{place}" for place in range(12)]
    hub = HubOfTheTest(*names, "dev/well")
    for name in names:
        await sockets.open(name, None)
    await sockets.open("dev/well")
    async with probing(sockets, hub, at_once=8):
        await hub.until(lambda: len(hub.states) == 13)
    assert hub.states["dev/well"][0] == "live"
    assert sockets.most <= 8


@pytest.mark.parametrize("turns", range(6))
async def test_it_ends_when_it_is_told_to_also_in_the_moment_in_which_something_happens(
    sockets: Sockets, turns: int
) -> None:
    for happens in ("_wake", "_changed"):
        hub = HubOfTheTest()
        prober = Prober(sockets.home, hub)
        running = asyncio.create_task(prober.run())
        await hub.until(lambda hub=hub: bool(hub.reports))
        getattr(prober, happens).set()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=5)
        assert running.cancelled()


@pytest.mark.usefixtures("quick")
async def test_a_server_whose_kit_has_no_readiness_yet_is_asked_whether_it_is_alive(sockets: Sockets) -> None:
    path = sockets.home.socket(ServerName("dev", "old"))
    path.parent.mkdir(parents=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(WELL if asked.startswith(b"GET /healthz ") else b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    hub = HubOfTheTest("dev/old")
    async with probing(sockets, hub):
        await hub.until(lambda: hub.states.get("dev/old") == ("live", ""))
    server.close()


def test_the_tables_learn_of_looks_often_enough_for_replicas() -> None:
    assert CHECKED_EVERY_MS * 2 < LOOKED_MS
    assert json.loads(Report().model_dump_json(exclude_defaults=True)) == {}
