"""Replicas behind a gate, and replicas behind ports: reached by certificate, each by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pegboard.core.bundle import EDGE, Endpoint
from pegboard.core.names import ServerName
from pegboard.core.replicas import mark_of
from pegboard_hub.edge import agent
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.agent import OWN_DOOR, Joined
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.envoy import Json
from pegboard_hub.edge.gate import BOOTSTRAP, gate_files, name_of
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.remote import Remote, front
from pegboard_hub.edge.snapshot import Gate
from pegboard_hub.services.authority import TRUST_DOMAIN, Authority
from pegboard_hub.services.material import Files, Material
from tests.ports import free_port
from tests.system.edge_rig import DEADLINE_S, PRESTO, Rig, running_edge, until
from tests.system.test_edge_replicas import NAME, NEW, OLD, PEOPLE, Fleet

pytestmark = pytest.mark.system

OWN = f"spiffe://{TRUST_DOMAIN}/pegboard/edge"
SERVER, OTHER = (f"spiffe://{TRUST_DOMAIN}/{name}" for name in ("servers/presto", "servers/other"))


@contextmanager
def envoy(rig: Rig, name: str, files: dict[str, Json], first: str, admin: Path) -> Iterator[None]:
    """Another Envoy beside the edge's own."""
    folder = rig.home.root / name
    folder.mkdir(exist_ok=True)
    for file, document in files.items():
        (folder / file).write_text(json.dumps(document))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(envoy_arguments(folder / first, 1), stdout=log, stderr=log)

    async def ready() -> bool:
        asked = EnvoyAdmin(admin)
        try:
            return await asked.ready()
        finally:
            await asked.close()

    try:
        until(lambda: rig.run(ready()), f"{name} is ready", (folder / "log").read_text)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "LOOK_S", 0.02)


@pytest.mark.usefixtures("quick")
def test_an_edge_behind_a_gate_finds_each_replica_and_keeps_to_sessions_and_percents(tmp_path: Path) -> None:
    port = free_port()

    def joined(rig: Rig) -> Joined:
        own = Identity(rig.home.edge_svid, rig.home.edge_trust)
        return Joined(rig.home, rig.home.operator_token, EDGE, OWN_DOOR, 0, Gate("localhost", port, OWN, own))

    with running_edge(services=True, envoy=False) as rig:
        fleet = Fleet(rig)
        for release, name in ((OLD, "a-1"), (OLD, "a-2"), (NEW, "b-1")):
            fleet.add(release, name)
        rig.stop_agent()
        rig.start_agent(joined=joined(rig))
        sockets = {name_of(NAME, mark_of(each.address)): [fleet.path(each)] for each in fleet.processes.values()}
        sockets |= {"hub": [rig.home.hub_socket], name_of(NAME): [rig.socket("prod/presto")]}
        own, folder = Identity(rig.home.edge_svid, rig.home.edge_trust), rig.home.root / "gate"
        admin = rig.home.run / "gate.sock"
        files = gate_files("127.0.0.1", port, own, [OWN], sockets, folder, admin)
        with envoy(rig, "gate", files, BOOTSTRAP, admin):
            rig.start_envoy()
            fleet.publish(OLD, **{"a-1": 100, "a-2": 100, "b-1": 0})
            rig.everywhere(lambda: fleet.ask().status_code == 200, "it is served")
            assert {fleet.who()["replica"] for _ in range(40)} == {"a-1", "a-2"}
            session = fleet.open()
            mine = fleet.replica_of(session)
            fleet.at(OLD, **{"a-1": 50, "a-2": 50, "b-1": 50})
            assert 8 <= len(fleet.those_at(NEW)) <= 32
            fleet.at(NEW, **{"a-1": 0, "a-2": 0, "b-1": 100})
            assert fleet.those_at(NEW) == set(PEOPLE)
            assert {fleet.who(mcp_session_id=session)["replica"] for _ in range(8)} == {mine}
            fleet.at(NEW, **{"b-1": 100})
            assert fleet.ask(mcp_session_id=session).status_code == 404


class Pods:
    """Replicas behind ports, each with a front that shows a certificate."""

    def __init__(self, rig: Rig, authority: Authority) -> None:
        self.rig, self.authority = rig, authority
        self.fleet = Fleet(rig)

    def identity(self, name: str, spiffe_id: str) -> Identity:
        root = self.rig.home.root
        own = Identity(root / f"{name}-svid.json", root / f"{name}-trust.json")
        Files(own.svid, own.trust).write(
            Material(self.authority.mint(spiffe_id), {TRUST_DOMAIN: self.authority.bundle})
        )
        return own

    @contextmanager
    def pod(self, release: str, name: str, spiffe_id: str = SERVER) -> Iterator[int]:
        """One replica; its port."""
        process, port, admin = self.fleet.add(release, name), free_port(), self.rig.home.run / f"{name}.sock"
        own = self.identity(name, spiffe_id)
        config = front("127.0.0.1", port, self.fleet.path(process), own, OWN, admin)
        with envoy(self.rig, name, {"front.json": config}, "front.json", admin):
            yield port

    def publish(self, live: str, *endpoints: tuple[str, int, int]) -> None:
        """Of each its release, port and percent."""
        found = tuple(
            Endpoint(address=f"{SERVER}@127.0.0.1:{port}", release=release, percent=percent)
            for release, port, percent in endpoints
        )
        self.rig.publish(PRESTO.model_copy(update={"release": live, "endpoints": found}))


@pytest.mark.usefixtures("quick")
def test_an_edge_that_goes_to_pods_itself_needs_no_gate_for_them() -> None:
    """Nothing listens where the gate would be: as while the hub's pod is replaced."""

    def joined(rig: Rig) -> Joined:
        own = Identity(rig.home.edge_svid, rig.home.edge_trust)
        gate = Gate("localhost", free_port(), OWN, own, direct=True)
        return Joined(rig.home, rig.home.operator_token, EDGE, OWN_DOOR, 0, gate)

    with running_edge(services=True, envoy=False) as rig:
        rig.stop_agent()
        rig.start_agent(joined=joined(rig))
        pods = Pods(rig, rig.authority)
        with pods.pod(OLD, "a-1") as good, pods.pod(OLD, "x-1", OTHER) as other:
            rig.start_envoy()
            pods.publish(OLD, (OLD, good, 100))
            rig.everywhere(lambda: pods.fleet.ask().status_code == 200, "it is served")
            pods.publish(OLD, (OLD, other, 100))
            rig.everywhere(lambda: pods.fleet.ask().status_code == 503, "who is another is not spoken to")


@pytest.mark.usefixtures("quick")
def test_a_replica_behind_a_port_proves_who_it_is() -> None:
    with running_edge(services=True) as rig:
        pods = Pods(rig, rig.authority)
        with pods.pod(OLD, "a-1") as good, pods.pod(OLD, "a-2") as too, pods.pod(OLD, "x-1", OTHER) as other:
            pods.publish(OLD, (OLD, good, 100), (OLD, too, 100))
            rig.everywhere(lambda: pods.fleet.ask().status_code == 200, "it is served")
            assert {pods.fleet.who()["replica"] for _ in range(40)} == {"a-1", "a-2"}
            session = pods.fleet.open()
            assert len({pods.fleet.who(mcp_session_id=session)["replica"] for _ in range(8)}) == 1
            pods.publish(OLD, (OLD, other, 100))
            rig.answers(503)
            assert pods.fleet.processes["x-1"].asked == []


def test_what_is_behind_a_gate_at_a_port_is_spoken_to_by_certificate(tmp_path: Path) -> None:
    own = Identity(tmp_path / "svid", tmp_path / "trust")
    name, mark = ServerName.parse("prod/presto"), mark_of("x")
    ports = {name_of(name, mark): Remote("10.2.3.4", 8443, SERVER)}
    [cluster] = gate_files("127.0.0.1", 1, own, [OWN], {}, tmp_path, tmp_path, ports)["gate-cds.json"]["resources"]
    assert cluster["name"] == f"{mark}.presto.prod.mcp"
    assert SERVER in json.dumps(cluster["transport_socket"])
    assert "typed_extension_protocol_options" not in cluster
