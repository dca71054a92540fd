"""Several edges behind one name: a real instance, two edges that joined it, and a balancer in front of all three."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from pegboard.core.jose import Signer
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.common.home import replace_file
from pegboard_hub.upkeep.hub_door import HubDoor
from tests.ports import free_port
from tests.rings import key_in
from tests.system.edge_rig import until
from tests.system.instance import REPOSITORY, Instance, running, statuses
from tests.system.joined import PEGBOARD, JoinedEdge, balanced, call, joined, listed, operate, works
from tests.system.survival.kills import innermost, process

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("edges"), pytest.mark.heavy]

EFFECT_S = 2.0
"""Within this, what is taken away is to hold at every edge."""


@dataclass(frozen=True)
class Town:
    """The instance, its own edge's port, and the two that joined."""

    pegboard: Instance
    own: int
    second: JoinedEdge
    third: JoinedEdge

    def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> object:
        """Ask the hub as the operator."""
        with HubDoor(self.pegboard.home) as hub:
            return hub.ask(method, f"/internal/v1/{path}", body)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    name, own = free_port(), free_port()
    with (
        balanced(own, port=name) as balancer,
        running(port=own, public_url=f"http://localhost:{name}") as pegboard,
        joined(pegboard, "second") as second,
        joined(pegboard, "third") as third,
    ):
        balancer.ports += [second.port, third.port]
        yield Town(pegboard, own, second, third)


@dataclass
class Load:
    """Calls through the balancer that go on and on.

    Attributes:
        right: how many were answered as they must be.
        wrong: the others' answers.
        again: how often a connection broke, and the call was made anew.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    again: int = 0


@contextmanager
def load(town: Town, callers: int = 4) -> Iterator[Load]:
    """Call for as long as the block takes. A connection that breaks is tried again, as any client does."""
    found, over, token = Load(), threading.Event(), town.pegboard.token("ana")

    def work() -> None:
        while not over.is_set():
            with httpx2.Client(base_url=town.pegboard.public_url, timeout=60) as client:
                for _ in range(8):
                    try:
                        answer = call(client, token)
                    except httpx2.TransportError:
                        found.again += 1
                        break
                    if works(answer):
                        found.right += 1
                    else:
                        found.wrong.append(f"{answer.status_code} {answer.text[:200]}")

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: found.right > 20 or found.wrong, "calls are answered")
        yield found
        before = found.right
        until(lambda: found.right > before + 20 or found.wrong, "calls go on")
    finally:
        over.set()
        for thread in threads:
            thread.join()


def held(ask: Callable[[], bool]) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    until(ask, "it holds")
    return time.monotonic() - began


def test_each_edge_serves_the_one_name_with_both_layers_behind_it(town: Town) -> None:
    token = town.pegboard.token("ana")
    for edge in (town.second, town.third):
        answer = edge.call(token)
        assert works(answer), answer.text
        # What a policy hides is hidden by the server, whichever edge it is asked through.
        hidden = edge.call(town.pegboard.token("fay"), "get_revenue_metrics")
        assert "get_revenue_metrics" in hidden.text
        assert not works(hidden)
        other = edge.call(token, "echo", "dev/scratch")
        assert other.status_code == 401
        with edge.client() as client:
            assert call(client, "").status_code == 401
            # One name: a page's address is the same, wherever it was asked for.
            assert client.get("/readyz").json() == {"status": "ok"}
            assert client.get("/readyz", headers={"host": f"127.0.0.1:{edge.port}"}).status_code == 421


def test_a_stop_and_a_revocation_reach_every_edge_within_two_seconds(town: Town) -> None:
    token = town.pegboard.token("pat")
    edges = (town.second, town.third)
    assert all(works(edge.call(token)) for edge in edges)
    town.ask("POST", "stops", {"kind": "person", "name": "pat", "why": "rehearsed"})
    for edge in edges:
        assert held(lambda edge=edge: edge.call(token).status_code == 403) < EFFECT_S  # type: ignore[misc]
        assert "rehearsed" in edge.call(token).text
    town.ask("POST", "stops/resume", {"kind": "person", "name": "pat", "why": ""})
    for edge in edges:
        assert held(lambda edge=edge: works(edge.call(token))) < EFFECT_S  # type: ignore[misc]


def test_calls_go_on_when_an_edge_is_killed_and_when_one_is_ended_in_order(town: Town) -> None:
    with load(town) as found:
        assert town.second.process is not None
        pid = process(town.second.home, "edge")["pid"]
        town.second.process.kill()  # and with its supervisor Envoy ends, too
        town.second.process.wait()
        until(lambda: not Path(f"/proc/{pid}").exists(), "its Envoy ended")
        before = found.right
        until(lambda: found.right > before + 40 or found.wrong, "the others go on")
        assert town.third.stop(signal.SIGTERM) == 0
        town.second.start()
        town.third.start()
    assert found.wrong == []


def test_an_edge_starts_from_its_last_good_files_while_the_hub_is_away(town: Town) -> None:
    token, edge = town.pegboard.token("ana"), town.second
    hub = innermost(town.pegboard.home, "hub")
    edge.stop()
    os.kill(hub, signal.SIGSTOP)
    try:
        edge.start()
        assert works(edge.call(token))
        assert "gives no news" in edge.said()
        until(lambda: "the hub gives no news" in "".join(_status(edge)["edge_faults"]), "its status says so")
    finally:
        os.kill(hub, signal.SIGCONT)
    until(lambda: not _status(edge)["edge_faults"], "the hub gives news again")
    assert edge.word["standing"] == "live"


def test_an_edge_that_comes_back_has_the_news_before_it_serves(town: Town) -> None:
    token, edge = town.pegboard.token("fay"), town.second
    assert works(edge.call(token))
    edge.stop()
    town.ask("POST", "stops", {"kind": "person", "name": "fay", "why": "meanwhile"})
    edge.start(live=False)

    def answered() -> httpx2.Response | None:
        try:
            return edge.call(token)
        except httpx2.TransportError:
            return None

    first = until(answered, "it serves", edge.said)
    assert first.status_code == 403
    assert "meanwhile" in first.text
    town.ask("POST", "stops/resume", {"kind": "person", "name": "fay", "why": ""})
    until(lambda: edge.word["standing"] == "live" and works(edge.call(token)), "all is as before")


def test_a_bundle_that_is_not_its_own_is_refused_and_reported_while_the_last_good_one_serves(town: Town) -> None:
    edge, other, token = town.second, town.third, town.pegboard.token("ana")

    def reported() -> bool:
        """The hub renews its bundle now and then, which mends it: so it is put there until both have said it."""
        replace_file(edge.home.edge_bundle, other.home.edge_bundle.read_text(encoding="utf-8"))
        time.sleep(0.5)
        told = operate(town.pegboard, "list")
        own = "".join(_status(edge)["edge_faults"])
        return told.returncode == 1 and all("it was made for edge:third" in text for text in (told.stdout, own))

    until(reported, "edge and hub tell it")
    assert works(edge.call(token))
    town.ask("POST", "stops", {"kind": "person", "name": "fay", "why": "news"})
    until(lambda: not edge.word["faults"], "the next good bundle ends it")
    town.ask("POST", "stops/resume", {"kind": "person", "name": "fay", "why": ""})


def test_a_key_signs_only_when_every_edge_has_it_and_no_call_fails_meanwhile(town: Town) -> None:
    with load(town) as found:
        for _ in range(2):
            done = subprocess.run(
                [*PEGBOARD, "keys", "rotate", "tokens", "--home", str(town.pegboard.home.root)],
                capture_output=True,
                text=True,
                cwd=REPOSITORY,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            token = town.pegboard.token("ana")
            assert all(works(edge.call(token)) for edge in (town.second, town.third))
    assert found.wrong == []
    assert "edge:second" in done.stderr or "edge:third" in done.stderr


def test_a_key_that_leaked_is_worthless_at_every_edge_when_the_command_ends(town: Town) -> None:
    key, edges = key_in(town.pegboard.home.token_ring), (town.second, town.third)
    claims = json.loads(urlsafe_b64decode(town.pegboard.token("ana").split(".")[1] + "=="))

    def forged() -> str:
        return Signer(key).sign({**claims, "jti": f"forged-{time.time_ns()}"}, TOKEN_TYPE)

    assert all(works(edge.call(forged())) for edge in edges)
    words = ["keys", "leaked", "--home", str(town.pegboard.home.root), "--json"]
    done = subprocess.run([*PEGBOARD, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [edge.call(forged()).status_code for edge in edges] == [401, 401]
    assert json.loads(done.stdout)["joined_s"].keys() == {"second", "third"}
    assert all(works(edge.call(town.pegboard.token("ana"))) for edge in edges)


def test_what_an_edge_refused_is_in_the_ledger_with_its_name(town: Town) -> None:
    town.second.call(town.pegboard.token("gus"))
    token = town.pegboard.token("pat", "api")

    def found() -> bool:
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx2.get(f"{town.pegboard.public_url}/api/v1/calls", headers=headers, params={"limit": 50})
        return any(each["detail"].endswith("told by the edge second") for each in answer.json()["calls"])

    until(found, "the ledger has it")


def test_a_removed_edge_stops_serving_and_does_not_start_again(town: Town) -> None:
    with joined(town.pegboard, "fourth") as edge:
        assert works(edge.call(town.pegboard.token("ana")))
        assert edge.process is not None
        operate(town.pegboard, "remove", "fourth", "--why", "it was stolen")
        assert edge.process.wait(20) == 3
        assert "it was stolen" in edge.said()
        edge.start(live=False)
        assert edge.process.wait(20) == 3
        edge.process = None
        assert not statuses(edge.home)
    gone = next(each for each in listed(town.pegboard) if each["name"] == "fourth")
    assert gone["standing"] == "removed"


def _status(edge: JoinedEdge) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(edge.home.status.read_text(encoding="utf-8"))
    return found
