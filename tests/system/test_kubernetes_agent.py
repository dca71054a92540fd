"""The agent beside a server in a pod, with real Envoys: who gets through its doors, where its ways lead, what a probe
may ask. What no test here has is a kubelet, a CNI and SPIRE."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pegboard.core.readiness import HEALTH_PATH, READY_PATH
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.joining import NONCE_HEADER, PROOF_HEADER, digest_of, proof
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.edge.remote import Remote
from pegboard_hub.edge.sidecar import SIDECAR_PATH, Door, Probes, Way
from pegboard_hub.runtime.kubernetes.agent import ENVOY_ENDED, Agent
from pegboard_hub.runtime.kubernetes.bundle_link import BUNDLE, BUNDLE_FILE, BundleLink
from pegboard_hub.services.authority import Authority
from pegboard_hub.services.material import Material
from tests.ports import free_port
from tests.system.edge_rig import until

pytestmark = pytest.mark.system

TD = "acme.com"
BELOW = f"spiffe://{TD}/ns/pegboard-servers/sa/"
EDGE, HUB = (f"spiffe://{TD}/ns/pegboard/sa/pegboard-{name}" for name in ("edge", "hub"))
SERVER, OTHER = f"{BELOW}prod-presto", f"spiffe://{TD}/ns/elsewhere/sa/other"
CHANNEL = "rt.kubernetes.prod.presto.x.y"


class Minted:
    """A source of one identity."""

    def __init__(self, authority: Authority, name: str) -> None:
        self._authority, self._name = authority, name

    def look(self) -> Material:
        return Material(self._authority.mint(self._name), {TD: self._authority.bundle})


class Pods:
    """A server's pod and the hub's, on one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Authority(folder / "ca", TD, settle_s=0)
        self.ca.open()
        self.mtls, self.probe, self.hub, self.hub_probe = (free_port() for _ in range(4))
        for name in ("server", "told", "hub"):
            (folder / name).mkdir()
        self.arrived: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._ended = asyncio.Event()
        self.agents: list[Any] = []

    def start(self) -> None:
        self._thread.start()
        mcp, internal = self.folder / "mcp.sock", self.folder / "internal.sock"
        server = [
            Route(path, self._say, methods=["GET", "POST"]) for path in (READY_PATH, HEALTH_PATH, "/mcp/prod/presto")
        ]
        self._go(self._serve(Starlette(routes=server), mcp))
        self._go(self._serve(Starlette(routes=[Route(BUNDLE, self._bundle)]), internal))
        hub = Agent(
            self.folder / "hub",
            Minted(self.ca, HUB),
            (Door("pods", self.hub, internal, below=(BELOW,)),),
            (),
            Probes(self.hub_probe),
        )
        told = self.folder / "told"
        link = BundleLink(told, CHANNEL, at_socket(told / "hub.sock"))
        pod = Agent(
            self.folder / "server",
            Minted(self.ca, SERVER),
            (Door("mcp", self.mtls, mcp, peers=(EDGE,)),),
            (Way("internal", told / "hub.sock", Remote("localhost", self.hub, HUB)),),
            Probes(self.probe, mcp),
            link,
        )
        self.agents = [self._go(each.run(self._ended)) for each in (hub, pod)]
        for port in (self.probe, self.hub_probe):
            until(lambda port=port: self.asked(port, SIDECAR_PATH) == 200, "the sidecar answers")

    def asked(self, port: int, path: str, method: str = "GET") -> int:
        """What a probe is answered; 0 when nobody answers."""
        try:
            return httpx2.request(method, f"http://127.0.0.1:{port}{path}", verify=NO_TLS, timeout=5).status_code
        except httpx2.HTTPError:
            return 0

    def reached(
        self, port: int, name: str | None, path: str = "/mcp/prod/presto", ca: Authority | None = None
    ) -> bool:
        """Whether somebody with that name's certificate gets an answer at a door."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.ca.bundle)
        if name is not None:
            svid = (ca or self.ca).mint(name)
            pem = self.folder / "caller.pem"
            pem.write_text(svid.chain + svid.key, encoding="utf-8")
            context.load_cert_chain(pem)
        try:
            return httpx2.get(f"https://127.0.0.1:{port}{path}", verify=context, timeout=5).is_success
        except (httpx2.HTTPError, ssl.SSLError, OSError):
            return False

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        for each in self.agents:
            each.result(20)
        for each in asyncio.all_tasks(self._loop):
            self._loop.call_soon_threadsafe(each.cancel)
        until(lambda: not asyncio.all_tasks(self._loop), "everything has ended")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _go(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _serve(self, app: Starlette, socket: Path) -> None:
        server = uvicorn.Server(uvicorn.Config(app, uds=str(socket), lifespan="off", log_config=None))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        server.capture_signals = _none  # type: ignore[method-assign]
        try:
            await server.serve()
        except asyncio.CancelledError:
            await server.shutdown()

    async def _say(self, request: Request) -> Response:
        self.arrived.append(request.url.path)
        return JSONResponse({"status": "ok"})

    async def _bundle(self, request: Request) -> Response:
        nonce = request.headers[NONCE_HEADER]
        known = request.headers["authorization"] == f"Bearer {CHANNEL}"
        await asyncio.sleep(0.2 if request.query_params.get("tag") else 0)
        body = json.dumps(
            {"tag": "1", "bundle": None if request.query_params.get("tag") else "signed", "keys": "{}"}
        ).encode()
        seal = proof(digest_of(CHANNEL), nonce, 200, body) if known else ""
        return Response(body, headers={PROOF_HEADER: seal}, media_type="application/json")


class _none:  # noqa: N801 - in place of a method
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    made = Pods(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def test_a_servers_bundle_comes_into_its_pod_through_both_sidecars(pods: Pods) -> None:
    kept = pods.folder / "told" / BUNDLE_FILE
    until(kept.exists, "the bundle is there")
    assert kept.read_text(encoding="utf-8") == "signed"


def test_an_edge_reaches_the_server(pods: Pods) -> None:
    until(lambda: pods.reached(pods.mtls, EDGE), "the edge is let in")


WRONG: dict[str, Callable[[Pods], bool]] = {
    "another pod of the trust domain at the server": lambda pods: pods.reached(pods.mtls, OTHER),
    "another server at the server": lambda pods: pods.reached(pods.mtls, f"{BELOW}prod-other"),
    "the hub at the server": lambda pods: pods.reached(pods.mtls, HUB),
    "nobody at the server": lambda pods: pods.reached(pods.mtls, None),
    "an edge at the hub's door for pods": lambda pods: pods.reached(pods.hub, EDGE, BUNDLE),
    "a pod of another namespace at the hub": lambda pods: pods.reached(pods.hub, OTHER, BUNDLE),
    "a pod of a namespace that begins alike": lambda pods: pods.reached(
        pods.hub, f"spiffe://{TD}/ns/pegboard-servers-evil/sa/x", BUNDLE
    ),
    "nobody at the hub": lambda pods: pods.reached(pods.hub, None, BUNDLE),
}


@pytest.mark.parametrize("who", WRONG)
def test_nobody_else_gets_through_a_door(pods: Pods, who: str) -> None:
    before = len(pods.arrived)
    assert not WRONG[who](pods)
    assert len(pods.arrived) == before


def test_a_twin_of_the_edge_by_another_authority_is_not_the_edge(pods: Pods, tmp_path: Path) -> None:
    twin = Authority(tmp_path / "twin", TD, settle_s=0)
    twin.open()
    assert not pods.reached(pods.mtls, EDGE, ca=twin)


def test_a_probe_may_ask_two_questions_and_nothing_else(pods: Pods) -> None:
    assert pods.asked(pods.probe, READY_PATH) == 200
    assert pods.asked(pods.probe, HEALTH_PATH) == 200
    before = len(pods.arrived)
    for path in ("/mcp/prod/presto", "/", f"{READY_PATH}/x", f"{READY_PATH}/../mcp/prod/presto", "//mcp/prod/presto"):
        assert pods.asked(pods.probe, path) in (400, 404), path
    assert pods.asked(pods.probe, READY_PATH, "POST") == 404
    assert pods.asked(pods.probe, f"{READY_PATH}%2f..%2fmcp%2fprod%2fpresto") in (400, 404)
    assert len(pods.arrived) == before


def test_beside_anything_but_a_server_probes_end_at_the_sidecar(pods: Pods) -> None:
    assert pods.asked(pods.hub_probe, READY_PATH) == 404
    assert pods.asked(pods.hub_probe, BUNDLE) == 404


def test_an_agent_whose_envoy_ends_says_so_by_its_status(tmp_path: Path, pods: Pods) -> None:
    async def run() -> int:
        socket = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
        door = Door("mcp", pods.mtls, socket / "x.sock", peers=(EDGE,))  # its port is taken: Envoy ends at once
        try:
            agent = Agent(socket, Minted(pods.ca, SERVER), (door,), (), Probes(free_port()))
            return await asyncio.wait_for(agent.run(asyncio.Event()), 20)
        finally:
            shutil.rmtree(socket)

    assert asyncio.run(run()) == ENVOY_ENDED
