"""Several replicas of one server behind a real Envoy: who is sent where, and that no switch loses a call."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.bundle import Endpoint
from pegboard.core.names import ServerName
from pegboard.core.replicas import mark_of
from pegboard_hub.edge import agent
from pegboard_hub.edge.agent import EdgeAgent
from tests.system.edge_rig import PRESTO, SCRATCH, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system

OLD, NEW = "a" * 64, "b" * 64
NAME = ServerName.parse("prod/presto")
PEOPLE = tuple(f"person-{number}" for number in range(40))
MODERN = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "echo"}

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(slots=True)
class Process:
    """A replica that says which one it is, and keeps legacy sessions as the SDK does.

    `hang` has it answer nothing more until `go` is set.
    """

    release: str
    name: str
    sessions: set[str] = field(default_factory=set)
    asked: list[str | None] = field(default_factory=list)
    hang: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0

    @property
    def address(self) -> str:
        return f"unix:s/prod.presto/{self.name}.sock"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        await self._wait(body)
        asked = headers.get("mcp-session-id")
        self.asked.append(asked)
        status, more = 200, []
        if headers.get("mcp-protocol-version") != "2026-07-28":
            inner = asked.partition(".")[2] if asked else None
            if asked and inner not in self.sessions:
                status = 404
            elif b'"initialize"' in body:
                self.sessions.add(given := uuid.uuid4().hex)
                more = [(b"mcp-session-id", given.encode())]
        said = json.dumps({"release": self.release, "replica": self.name}).encode()
        head = [(b"content-type", b"application/json"), *more]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": said})

    async def _wait(self, body: bytes) -> None:
        if not (self.hang or b'"hold"' in body):
            return
        self.waiting += 1
        while not self.go.is_set():
            await asyncio.sleep(0.02)
        self.waiting -= 1


@dataclass(slots=True)
class Load:
    """What callers met who call without a pause, each on a connection of their own.

    Attributes:
        seen: the releases that answered each, in their order.
        lost: answers that were none of a replica's.
    """

    seen: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


class Fleet:
    """Replicas of prod/presto, and the edge in front of them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.processes: dict[str, Process] = {}
        rig.socket("prod/presto")

    @property
    def agent(self) -> EdgeAgent:
        assert self.rig.agent is not None
        return self.rig.agent

    @property
    def version(self) -> int:
        """Of the bundle that Envoy was last given."""
        return self.agent.bundle.version if self.agent.bundle is not None else 0

    def path(self, process: Process) -> Path:
        return self.rig.home.run / process.address.removeprefix("unix:")

    def process(self, release: str, name: str) -> Process:
        self.processes[name] = Process(release, name)
        return self.processes[name]

    def add(self, release: str, name: str) -> Process:
        process = self.process(release, name)
        self.rig.serve(process, self.path(process))
        return process

    def remove(self, name: str) -> None:
        self.rig.unserve(self.path(self.processes.pop(name)))

    def publish(self, live: str, **percents: int) -> None:
        """`percents` by the replicas' names."""
        endpoints = tuple(
            Endpoint(address=self.processes[name].address, release=self.processes[name].release, percent=percent)
            for name, percent in percents.items()
        )
        self.rig.publish(PRESTO.model_copy(update={"release": live, "endpoints": endpoints}), SCRATCH)

    def at(self, live: str, **percents: int) -> None:
        """Publish, and wait until Envoy uses it: its workers do so within one round of their loops."""
        self.publish(live, **percents)
        used = self.agent._publisher.used
        until(lambda: self.version == self.rig.version and self.rig.run(used()), "it is in use")
        self.rig.everywhere(lambda: self.rig.call().status_code == 401, "each worker has gone round")

    def serve(self, release: str, *names: str) -> None:
        """Replicas of the one release."""
        for name in names:
            self.add(release, name)
        self.publish(release, **dict.fromkeys(names, 100))
        self.rig.everywhere(lambda: self.who().get("release") == release, "it is served")

    def ask(self, sub: str = "ana", *, modern: bool = False, **headers: str) -> httpx2.Response:
        body, more = (tool_call(_meta=MODERN_META), MODERN) if modern else (tool_call(), {})
        return self.rig.call(token=self.rig.token(sub=sub), body=body, **more, **headers)

    def who(self, sub: str = "ana", *, modern: bool = False, **headers: str) -> dict[str, Any]:
        response = self.ask(sub, modern=modern, **headers)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def those_at(self, release: str) -> set[str]:
        return {sub for sub in PEOPLE if self.who(sub)["release"] == release}

    def initialize(self, **headers: str) -> httpx2.Response:
        return self.rig.call(token=self.rig.token(), body=tool_call(method="initialize"), **headers)

    def open(self) -> str:
        """A new legacy session's id."""
        opened = self.initialize()
        assert opened.status_code == 200, opened.text
        return opened.headers["mcp-session-id"]

    def replica_of(self, session: str) -> str:
        [found] = [name for name, each in self.processes.items() if session.startswith(mark_of(each.address) + ".")]
        return found

    @contextmanager
    def waiting_at(self, process: Process) -> Iterator[list[httpx2.Response]]:
        """A call is under way at this replica; its answer is there afterwards."""
        answered: list[httpx2.Response] = []
        callers = []
        while not process.waiting:
            hold = threading.Thread(target=lambda: answered.append(self._hold()))
            hold.start()
            callers.append(hold)
            until(lambda: sum(each.waiting for each in self.processes.values()) == len(callers), "it waits")
        # What went to another on the way is answered: only this one has calls under way.
        others = [each for each in self.processes.values() if each is not process]
        for each in others:
            each.go.set()
        until(lambda: not any(each.waiting for each in others), "the others have answered")
        for each in others:
            each.go.clear()
        try:
            yield answered
        finally:
            for each in self.processes.values():
                each.go.set()
            for hold in callers:
                hold.join()

    def _hold(self) -> httpx2.Response:
        with self.rig.client() as client:
            return client.post("/mcp/prod/presto", headers=self._headers("ana"), json=tool_call("hold"))

    def _headers(self, sub: str) -> dict[str, str]:
        token = self.rig.token(sub=sub)
        return {"accept": "application/json, text/event-stream", "authorization": f"Bearer {token}"}

    @contextmanager
    def load(self, callers: int) -> Iterator[Load]:
        """People who call all the time."""
        load, ended = Load(), threading.Event()

        def call(sub: str) -> None:
            with self.rig.client() as client:
                headers, body = self._headers(sub), tool_call()
                while not ended.is_set():
                    response = client.post("/mcp/prod/presto", headers=headers, json=body)
                    if response.status_code != 200:
                        load.lost.append(response.text)
                    else:
                        load.seen.setdefault(sub, []).append(response.json().get("release", ""))

        threads = [threading.Thread(target=call, args=(sub,)) for sub in PEOPLE[:callers]]
        for each in threads:
            each.start()
        try:
            until(lambda: len(load.seen) == callers, "all of them call")
            yield load
        finally:
            ended.set()
            for each in threads:
                each.join()


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(agent, "LOOK_S", 0.02)
    with running_edge() as rig:
        fleet = Fleet(rig)
        yield fleet
        for process in fleet.processes.values():
            process.go.set()


def test_calls_are_shared_out_among_the_replicas_of_a_release(fleet: Fleet) -> None:
    fleet.serve(OLD, "a-1", "a-2")
    assert {fleet.who()["replica"] for _ in range(40)} == {"a-1", "a-2"}


def test_who_hangs_is_given_nothing_more_while_another_answers(fleet: Fleet) -> None:
    fleet.serve(OLD, "a-1", "a-2")
    stalled = fleet.processes["a-1"]
    stalled.hang = True
    with fleet.waiting_at(stalled):
        assert {fleet.who()["replica"] for _ in range(20)} == {"a-2"}


def test_a_replica_that_is_gone_costs_no_call(fleet: Fleet) -> None:
    """Nothing was sent there, so it is tried at another; and it is not always asked first, for having the fewest."""
    fleet.serve(OLD, "a-1", "a-2")
    fleet.remove("a-1")
    assert {fleet.who()["replica"] for _ in range(60)} == {"a-2"}


def test_a_call_that_was_sent_is_not_made_again_at_another_replica(fleet: Fleet) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        met.append(1)

    met: list[int] = []
    process = fleet.process(OLD, "a-1")
    fleet.rig.serve_raw(dies, fleet.path(process))
    fleet.publish(OLD, **{"a-1": 100})
    fleet.rig.answers(502)
    fleet.add(OLD, "a-2")
    fleet.publish(OLD, **{"a-1": 100, "a-2": 100})
    until(lambda: fleet.rig.call(token=fleet.rig.token()).status_code == 200, "the other answers, too")
    before = len(met), len(fleet.processes["a-2"].asked)
    statuses = Counter(fleet.rig.call(token=fleet.rig.token()).status_code for _ in range(40))
    assert set(statuses) <= {200, 502}
    assert statuses[502] == len(met) - before[0]
    assert statuses[200] == len(fleet.processes["a-2"].asked) - before[1]


class TestPercents:
    def test_nobody_moves_back_while_the_percent_rises(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1")
        fleet.add(NEW, "b-1")
        before: set[str] = set()
        for percent, fewest, most in ((0, 0, 0), (30, 3, 25), (70, 16, 38), (100, 40, 40)):
            fleet.at(OLD, **{"a-1": 100 - percent, "b-1": percent})
            found = fleet.those_at(NEW)
            assert found >= before
            assert fewest <= len(found) <= most
            before = found

    def test_who_is_where_is_a_matter_of_who_they_verifiably_are(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1")
        fleet.add(NEW, "b-1")
        fleet.at(OLD, **{"a-1": 50, "b-1": 50})
        there = {sub: fleet.who(sub)["release"] for sub in PEOPLE}
        assert set(there.values()) == {OLD, NEW}
        one, other = (next(sub for sub, release in there.items() if release == each) for each in (OLD, NEW))
        for header in ("x_pegboard_sub", "x_forwarded_user", "x_pegboard_release"):
            forged: list[dict[str, Any]] = [{header: sub} for sub in (other, one)]
            assert fleet.who(one, **forged[0])["release"] == OLD
            assert fleet.who(other, **forged[1])["release"] == NEW

    def test_both_eras_and_all_surfaces_of_one_person_are_at_one_release(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1")
        fleet.add(NEW, "b-1")
        fleet.at(OLD, **{"a-1": 50, "b-1": 50})
        for sub in PEOPLE[:8]:
            found = {fleet.who(sub)["release"], fleet.who(sub, modern=True)["release"]}
            ide = fleet.rig.call(token=fleet.rig.token(sub=sub, surface="ide")).json()["release"]
            assert {*found, ide} == {ide}

    def test_where_every_release_is_at_nothing_nobody_new_goes_anywhere(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1")
        session = fleet.open()
        fleet.publish(OLD, **{"a-1": 0})
        fleet.rig.answers(503)
        assert fleet.who(mcp_session_id=session)["replica"] == "a-1"


class TestSessions:
    def test_a_session_stays_at_its_replica_whatever_takes_its_place(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1", "a-2")
        fleet.add(NEW, "b-1")
        session = fleet.open()
        mine = fleet.replica_of(session)
        assert [fleet.who(mcp_session_id=session)["replica"] for _ in range(8)] == [mine] * 8
        fleet.at(NEW, **{"a-1": 0, "a-2": 0, "b-1": 100})
        assert [fleet.who(mcp_session_id=session)["replica"] for _ in range(8)] == [mine] * 8
        assert fleet.who()["replica"] == "b-1"

    def test_a_client_whose_replica_is_gone_is_told_to_begin_a_new_session(self, fleet: Fleet) -> None:
        """404 to a request with a session's id (MCP 2025-11-25, Streamable HTTP, Session Management)."""
        fleet.serve(OLD, "a-1")
        fleet.add(NEW, "b-1")
        session = fleet.open()
        fleet.at(NEW, **{"b-1": 100})
        fleet.remove("a-1")
        assert fleet.rig.call(token=fleet.rig.token(), mcp_session_id=session).status_code == 404
        assert fleet.replica_of(fleet.open()) == "b-1"

    def test_a_session_says_nothing_of_where_its_replica_is(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1", "a-2")
        mark, _, rest = fleet.open().partition(".")
        assert mark in {mark_of(each.address) for each in fleet.processes.values()}
        assert rest in set.union(*(each.sessions for each in fleet.processes.values()))

    def test_a_session_that_somebody_made_up_leads_to_no_new_one_at_what_takes_nobody(self, fleet: Fleet) -> None:
        fleet.serve(NEW, "b-1")
        old = fleet.add(OLD, "a-1")
        fleet.at(NEW, **{"a-1": 0, "b-1": 100})
        made_up = f"{mark_of(old.address)}.{'0' * 32}"
        assert fleet.initialize(mcp_session_id=made_up).status_code == 404
        assert fleet.who(modern=True, mcp_session_id=made_up)["replica"] == "b-1"
        assert not old.sessions


class TestSwitches:
    def test_a_call_under_way_ends_at_the_replica_that_left(self, fleet: Fleet) -> None:
        fleet.serve(OLD, "a-1")
        fleet.add(NEW, "b-1")
        old = fleet.processes["a-1"]
        with fleet.waiting_at(old) as answered:
            fleet.at(NEW, **{"b-1": 100})
            assert fleet.who()["replica"] == "b-1"
            until(lambda: not fleet.agent.sends_to(NAME, old.address), "the edge sends nothing there any more")
            old.go.set()
        assert [each.json()["replica"] for each in answered] == ["a-1"]

    def test_a_server_with_one_socket_gets_replicas_without_losing_a_call(self, fleet: Fleet) -> None:
        fleet.add(OLD, "a-1")
        with fleet.load(4) as load:
            fleet.publish(OLD, **{"a-1": 100})
            fleet.rig.everywhere(lambda: "replica" in fleet.who(), "it has replicas")
            fleet.rig.publish(PRESTO, SCRATCH)
            fleet.rig.everywhere(lambda: "upstream" in fleet.who(), "it has one socket again")
        assert not load.lost

    @pytest.mark.parametrize("switches", [8, pytest.param(50, marks=pytest.mark.heavy)])
    def test_switches_under_load_lose_no_call_and_nobody_sees_two_releases_mixed(
        self, fleet: Fleet, switches: int
    ) -> None:
        releases = [f"{number:064x}" for number in range(switches + 1)]
        fleet.serve(releases[0], "r0-1", "r0-2")
        with fleet.load(8) as load:
            for number in range(1, switches + 1):
                old, new = ([f"r{at}-1", f"r{at}-2"] for at in (number - 1, number))
                for name in new:
                    fleet.add(releases[number], name)
                fleet.at(releases[number - 1], **dict.fromkeys(old, 60), **dict.fromkeys(new, 40))
                fleet.at(releases[number], **dict.fromkeys(old, 0), **dict.fromkeys(new, 100))
                fleet.at(releases[number], **dict.fromkeys(new, 100))
                for name in old:
                    fleet.remove(name)
        assert not load.lost
        assert all(found == sorted(found) for found in load.seen.values())
        assert {found[-1] for found in load.seen.values()} == {releases[-1]}
