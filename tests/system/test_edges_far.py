"""An edge on another machine: through a gate, with certificates both ways, to the hub and to every server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx2
import pytest
from spiffe._proto import workload_pb2_grpc

from pegboard_hub.common.home import Home
from pegboard_hub.services.authority import TRUST_DOMAIN, Authority
from pegboard_hub.services.material import Files, Material, spiffe_id_in
from pegboard_hub.upkeep.hub_door import HubDoor
from tests.hub.test_services import Endpoint
from tests.ports import free_port
from tests.system.edge_rig import until
from tests.system.instance import EXPECTED, REPOSITORY, Instance, running, statuses
from tests.system.joined import PEGBOARD, JoinedEdge, listed, operate, works

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("edges"), pytest.mark.heavy]

FAR = f"spiffe://{TRUST_DOMAIN}/pegboard/edge-far"
EFFECT_S = 20.0
"""It is two seconds, on a machine that has nothing else to do."""


@dataclass
class Machines:
    """The instance with its gate, and an edge that shares no folder with it."""

    pegboard: Instance
    gate_port: int
    gate: subprocess.Popen[bytes]
    edge: JoinedEdge
    folder: Path

    @property
    def authority(self) -> Authority:
        """The development CA of the instance."""
        found = Authority(self.pegboard.home.services, TRUST_DOMAIN)
        found.open()
        return found

    def ask(self, spiffe_id: str, name: str, send: bytes = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n") -> bytes:
        """The begin of what comes back to who shows a certificate of `spiffe_id` and asks for `name`, if anything."""
        svid = self.authority.mint(spiffe_id)
        file = self.folder / "attacker.pem"
        file.write_text(svid.chain + svid.key)
        context = ssl.create_default_context(cadata=self.authority.bundle)
        context.check_hostname = False
        context.load_cert_chain(file)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.gate_port), timeout=20) as raw,
                context.wrap_socket(raw, server_hostname=name or None) as connection,
            ):
                connection.sendall(send)
                return connection.recv(65536)
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    with (
        running("--mtls-port", str(free_port()), expected={*EXPECTED, "identity"}) as pegboard,
        gated(pegboard, folder) as (port, gate),
    ):
        edge = JoinedEdge(pegboard, "far", Home.open(folder / "edge"), free_port(), folder / "edge.log")
        added = operate(
            pegboard, "add", "far", "--out", str(folder / "join"), "--spiffe-id", FAR, "--gate", f"127.0.0.1:{port}"
        )
        assert added.returncode == 0, added.stderr
        found = Machines(pegboard, port, gate, edge, folder)
        # The instance's home is nowhere on the edge's machine.
        joined = json.loads((folder / "join").read_text())
        (folder / "join").write_text(json.dumps(joined | {"instance": "/nonexistent/pegboard"}))
        try:
            with workload_api(found, FAR) as address:
                edge.start("--join", str(folder / "join"), "--workload-api", address, "--trust-domain", TRUST_DOMAIN)
                yield found
        finally:
            if edge.process is not None:
                edge.stop()
    shutil.rmtree(folder)


@contextmanager
def gated(pegboard: Instance, folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A gate of the instance."""
    port, home = free_port(), Home.at(folder / "gate")
    command = [*PEGBOARD, "edge", "gate", "--instance", str(pegboard.home.root), "--home", str(home.root)]
    with (folder / "gate.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, cwd=REPOSITORY)
    try:
        until(lambda: statuses(home).get("edge") == "live", "the gate is live", (folder / "gate.log").read_text)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def workload_api(machines: Machines, spiffe_id: str) -> Iterator[str]:
    """A Workload API on the edge's machine, as SPIRE's agent has one; its address."""
    served, path = Endpoint(), machines.folder / "agent.sock"
    served.tell(machines.authority.mint(spiffe_id), machines.authority.bundle)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(served, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield f"unix://{path}"
    finally:
        served.ended = True
        server.stop(None).wait()


def identify(machines: Machines, spiffe_id: str) -> None:
    """Give the edge a certificate, where nothing else does."""
    home = machines.edge.home
    material = Material(machines.authority.mint(spiffe_id), {TRUST_DOMAIN: machines.authority.bundle})
    Files(home.edge_svid, home.edge_trust).write(material)


def test_an_edge_on_another_machine_serves_like_every_other(machines: Machines) -> None:
    edge, token = machines.edge, machines.pegboard.token("ana")
    until(lambda: works(edge.call(token)), "a call goes through", edge.said)
    assert not works(edge.call(machines.pegboard.token("fay"), "get_revenue_metrics"))
    with edge.client() as client:
        assert client.get("/readyz").json() == {"status": "ok"}
    assert edge.word["standing"] == "live"
    assert edge.word["spiffe_id"] == FAR
    with HubDoor(machines.pegboard.home) as hub:
        hub.ask("POST", "/internal/v1/stops", {"kind": "person", "name": "ana", "why": "rehearsed"})
        began = time.monotonic()
        until(lambda: edge.call(token).status_code == 403, "the stop holds")
        assert time.monotonic() - began < EFFECT_S
        hub.ask("POST", "/internal/v1/stops/resume", {"kind": "person", "name": "ana", "why": ""})
        until(lambda: works(edge.call(token)), "it is resumed")


def test_the_hubs_own_answers_come_whole_through_the_gate(machines: Machines) -> None:
    """What is taken away of servers' answers (cookies, redirects, challenges) is the hub's to say, also from afar."""
    asked = ("/sign-in", "/clients", "/api/v1/me")
    told = ("location", "set-cookie", "www-authenticate", "link")
    with machines.edge.client() as far, httpx2.Client(base_url=machines.pegboard.public_url, timeout=60) as beside:
        for path in asked:
            one, other = beside.get(path), far.get(path)
            assert one.status_code == other.status_code, path
            assert [name for name in told if name in one.headers] == [name for name in told if name in other.headers]
            assert one.headers.get("location") == other.headers.get("location")
            assert one.headers.get("www-authenticate") == other.headers.get("www-authenticate")
        assert "location" in beside.get("/clients").headers


def test_the_gate_leads_an_edge_to_what_it_names_and_nowhere_else(machines: Machines) -> None:
    assert all(machines.ask(FAR, name).startswith(b"HTTP/1.1 200") for name in ("hub", "internal"))
    for name in ("", "nowhere", "prober", "admin", "presto.prod", "mcp/prod/presto", "hub.evil"):
        assert machines.ask(FAR, name) == b"", name


@pytest.mark.parametrize("path", ["/pegboard/edge-other", "/reporting", "/pegboard/edge-far/x", "/pegboard/edge"])
def test_nobody_else_of_the_trust_domain_gets_through_the_gate(machines: Machines, path: str) -> None:
    assert machines.ask(f"spiffe://{TRUST_DOMAIN}{path}", "hub") == b""


def test_without_the_credential_an_edges_certificate_opens_nothing_at_the_internal_door(machines: Machines) -> None:
    for path in ("/internal/v1/joined-edge/bundle", "/internal/v1/edges", "/internal/v1/keys"):
        request = (
            f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {'x' * 43}\r\npegboard-nonce: {'n' * 32}\r\n"
        )
        answer = machines.ask(FAR, "internal", f"{request}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401"), path


def test_whoever_has_an_edges_key_can_name_no_service(machines: Machines) -> None:
    form = f"grant_type=client_credentials&resource={machines.pegboard.public_url}/mcp/prod/presto"
    host = machines.pegboard.public_url.partition("://")[2]
    for name in ("x-pegboard-spiffe-id", "X-Pegboard-Spiffe-Id"):
        head = [
            "POST /oauth/token HTTP/1.1",
            f"host: {host}",
            f"{name}: spiffe://{TRUST_DOMAIN}/reporting",
            f"x-pegboard-spiffe-ends: {int(time.time()) + 600}",
            "content-type: application/x-www-form-urlencoded",
            f"content-length: {len(form)}",
        ]
        request = "\r\n".join([*head, "", form]).encode()
        assert b"invalid_target" not in (answer := machines.ask(FAR, "hub", request))
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))
        # The edge beside the hub is believed: the server is not granted, and nothing else is wrong.
        with socket.socket(socket.AF_UNIX) as beside:
            beside.connect(str(machines.pegboard.home.hub_socket))
            beside.sendall(request)
            told = b""
            while b"invalid_target" not in told and (part := beside.recv(65536)):
                told += part
            assert b"invalid_target" in told


def test_it_starts_from_its_last_good_files_while_the_gate_is_away_and_hears_of_the_hub_again(
    machines: Machines,
) -> None:
    edge = machines.edge
    machines.gate.send_signal(signal.SIGSTOP)
    home = Home.at(machines.folder / "gate")
    pid = next(each["pid"] for each in json.loads(home.status.read_text())["processes"])
    os.kill(pid, signal.SIGSTOP)
    try:
        edge.stop()
        edge.start()  # with the identity that it has
        assert "gives no news" in edge.said()
        assert edge.call("").status_code == 401
    finally:
        os.kill(pid, signal.SIGCONT)
        machines.gate.send_signal(signal.SIGCONT)
    until(lambda: works(edge.call(machines.pegboard.token("ana"))), "calls go through again")


def test_the_instance_knows_its_own_name_at_the_gate(machines: Machines) -> None:
    assert spiffe_id_in(machines.pegboard.home.edge_svid) == f"spiffe://{TRUST_DOMAIN}/pegboard/edge"
    assert [each["name"] for each in listed(machines.pegboard)] == ["edge", "far"]


def test_an_edge_that_was_removed_is_let_in_no_more(machines: Machines) -> None:
    operate(machines.pegboard, "remove", "far", "--why", "stolen")
    assert machines.edge.process is not None
    assert machines.edge.process.wait(30) == 3
    machines.edge.process = None
    until(lambda: machines.ask(FAR, "hub") == b"", "the gate refuses it")
