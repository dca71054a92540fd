"""A call from a real edge to servers in pods: by their addresses, through the Envoy in front of each, and never to a
pod that is somebody else. The pods are agents on loopback; no cluster is at hand."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.bundle import Endpoint
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.edge import agent as edge_agent
from pegboard_hub.edge.sidecar import SIDECAR_PATH, Door, Probes
from pegboard_hub.runtime.kubernetes.agent import Agent
from pegboard_hub.services.authority import Authority
from pegboard_hub.services.material import Files, Material
from tests.ports import free_port
from tests.system.edge_rig import PRESTO, SCRATCH, running_edge, until
from tests.system.test_edge_replicas import NEW, OLD, Fleet

pytestmark = [pytest.mark.system, pytest.mark.heavy]

TD = "acme.com"
EDGE = f"spiffe://{TD}/ns/pegboard/sa/pegboard-edge"
SERVER, OTHER = (f"spiffe://{TD}/ns/pegboard-servers/sa/{name}" for name in ("prod-presto", "prod-other"))


class Minted:
    """A source of an identity that a test may change."""

    def __init__(self, authority: Authority, name: str) -> None:
        self.name = name
        self._authority = authority

    def look(self) -> Material:
        return Material(self._authority.mint(self.name), {TD: self._authority.bundle})


class PodFleet(Fleet):
    """Replicas that each have an agent in front of them, and an address that says who they must be."""

    def __init__(self, rig: Any, folder: Path) -> None:
        super().__init__(rig)
        self.folder = folder
        self.ca = Authority(folder / "ca", TD, settle_s=0)
        self.ca.open()
        self.addresses: dict[str, str] = {}
        self.sources: dict[str, Minted] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._ended = asyncio.Event()
        self._agents: list[Any] = []
        own = Material(self.ca.mint(EDGE), {TD: self.ca.bundle})
        Files(rig.home.edge_svid, rig.home.edge_trust).write(own)

    def pod(self, release: str, name: str, identity: str = SERVER) -> None:
        process = self.add(release, name)
        port, probe = free_port(), free_port()
        (self.folder / name).mkdir()
        source = self.sources[name] = Minted(self.ca, identity)
        door = Door("mcp", port, self.path(process), peers=(EDGE,))
        agent = Agent(self.folder / name, source, (door,), (), Probes(probe))
        self._agents.append(asyncio.run_coroutine_threadsafe(agent.run(self._ended), self._loop))
        self.addresses[name] = f"{SERVER}@127.0.0.1:{port}"
        until(lambda: self._answers(probe), "its agent answers")

    def publish(self, live: str, **percents: int) -> None:
        endpoints = tuple(
            Endpoint(address=self.addresses[name], release=self.processes[name].release, percent=percent)
            for name, percent in percents.items()
        )
        self.rig.publish(PRESTO.model_copy(update={"release": live, "endpoints": endpoints}), SCRATCH)

    def release(self) -> str:
        """Whose answer a call has; empty for an answer of somebody else."""
        answer = self.ask()
        return str(answer.json().get("release", "")) if answer.status_code == 200 else ""

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        for each in self._agents:
            each.result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _answers(self, port: int) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{SIDECAR_PATH}", verify=NO_TLS, timeout=2).is_success
        except httpx2.HTTPError:
            return False


@pytest.fixture(scope="module")
def pods() -> Iterator[PodFleet]:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch, running_edge() as rig:
        patch.setattr(edge_agent, "LOOK_S", 0.02)
        fleet = PodFleet(rig, folder)
        try:
            fleet.pod(OLD, "a-1")
            fleet.pod(OLD, "a-2")
            fleet.pod(NEW, "b-1")
            yield fleet
        finally:
            for process in fleet.processes.values():
                process.go.set()
            fleet.end()
            shutil.rmtree(folder)


def test_calls_are_shared_out_among_pods_and_sessions_stay_with_theirs(pods: PodFleet) -> None:
    pods.publish(OLD, **{"a-1": 100, "a-2": 100})
    pods.rig.everywhere(lambda: pods.release() == OLD, "the pods are reached")
    assert {pods.who()["replica"] for _ in range(40)} == {"a-1", "a-2"}
    session = pods.open()
    assert len({pods.who(mcp_session_id=session)["replica"] for _ in range(10)}) == 1


def test_a_switch_to_the_pods_of_another_release_moves_everybody_and_loses_nobody(pods: PodFleet) -> None:
    pods.publish(OLD, **{"a-1": 100, "a-2": 100})
    pods.rig.everywhere(lambda: pods.release() == OLD, "the pods are reached")
    with pods.load(4) as load:
        pods.publish(NEW, **{"a-1": 0, "a-2": 0, "b-1": 100})
        until(lambda: all(seen[-1] == NEW for seen in load.seen.values()), "all are at the new one")
    assert load.lost == []


def test_a_pod_at_the_same_address_that_is_another_server_is_not_spoken_to(pods: PodFleet) -> None:
    """As when a pod ends and the cluster gives its address to another: no call of one server reaches the other."""
    pods.pod(NEW, "c-1", OTHER)
    pods.publish(NEW, **{"c-1": 100})
    pods.rig.everywhere(lambda: pods.ask().status_code == 503, "it is not spoken to")
    assert pods.processes["c-1"].asked == []
    pods.sources["c-1"].name = SERVER
    until(lambda: pods.release() == NEW, "and it is, once it is who it must be")
    assert pods.processes["c-1"].asked != []
