"""A real Envoy with the agent beside it, in front of upstreams that tell what reached them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import uvicorn

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import EDGE, Bundle, BundledServer
from pegboard.core.coarse import CoarseRule
from pegboard.core.jose import Jwk, Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.rates import NO_LIMITS, Limits
from pegboard.core.revoked import NOTHING, Revoked
from pegboard.core.stops import NOTHING_STOPPED, Stops
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.common.certificates import TlsFiles, trusting
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.edge.command import envoy_command, ready
from pegboard_hub.services.authority import TRUST_DOMAIN, Authority
from pegboard_hub.services.keeper import Development, Keeper
from pegboard_hub.services.material import Files, Svid
from tests.acting import acted
from tests.ports import free_port

DEADLINE_S = 60.0
"""Seconds after which what must come to be has not: not how long it may take."""

IN_A_ROW = 8
"""Calls, each on a connection of its own, of which each worker of Envoy's gets some."""

OPERATOR = "operator-of-the-test"
EMPLOYEES = ("ads-eng", "finance", "search-eng", "data-infra", "platform")
T = TypeVar("T")


def bundled(server: str, groups: tuple[str, ...], surfaces: tuple[str, ...], **more: Any) -> BundledServer:
    known = {"owner": "platform", "support_channel": '#data "platform" 100%'}
    return BundledServer(server=server, release="r" * 64, groups=groups, surfaces=surfaces, **{**known, **more})


ROBOT = f"spiffe://{TRUST_DOMAIN}/report"
"""A service that is granted what it may not have as well."""

PRESTO = bundled(
    "prod/presto",
    ("ads-eng", "finance", "data-infra", "platform"),
    ("cli", "chat", "ide", "bot", "service"),
    channels=("airflow",),
    services=(ROBOT,),
    sensitivity="internal",
)
SECRET = bundled("prod/secret", ("ads-eng",), ("cli", "service"), services=(ROBOT,), sensitivity="confidential")
SCRATCH = bundled("dev/scratch", EMPLOYEES, ("cli",))
GONE = bundled("dev/gone", EMPLOYEES, ("cli",))
PUBLISHED = (PRESTO, SCRATCH, SECRET, GONE)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as an upstream received it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Upstream:
    """An ASGI application that notes what arrives. The tool `hold` answers in two parts, the second on release."""

    name: str
    arrivals: list[Arrival] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await self._body(receive)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        self.arrivals.append(Arrival(scope["method"], scope["raw_path"].decode("latin-1"), headers, body))
        kind = b"text/event-stream" if scope["method"] == "GET" and self.name != "hub" else b"application/json"
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", kind), (b"set-cookie", b"stolen=1")]})
        if (scope["method"] == "GET" and self.name != "hub") or b'"hold"' in body:
            await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
            while not await asyncio.to_thread(self.release.wait, 0.05):
                pass
        await send({"type": "http.response.body", "body": json.dumps({"upstream": self.name}).encode()})

    async def _body(self, receive: Any) -> bytes:
        parts: list[bytes] = []
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)


@dataclass(slots=True)
class InternalDoor:
    """The hub's internal door: keeps acknowledgements, and refusals by their id.

    It can be told to be broken, or to refuse a reason.
    """

    acknowledged: list[Acknowledgement] = field(default_factory=list)
    refusals: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int = 200
    not_understood: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        authorised = (b"authorization", f"Bearer {OPERATOR}".encode()) in scope["headers"]
        status = self.status if authorised else 401
        if status == 200 and scope["path"] == "/internal/v1/edge/acknowledgement":
            self.acknowledged.append(Acknowledgement.model_validate_json(body))
        elif status == 200 and scope["path"] == "/internal/v1/edge/refusals":
            status = self._take(json.loads(body)["refusals"])
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": b"{}"})

    def _take(self, refusals: list[dict[str, Any]]) -> int:
        if self.not_understood in {refusal["reason"] for refusal in refusals}:
            return 422
        self.refusals.update({refusal["request_id"]: refusal for refusal in refusals})
        return 200


class Rig:
    """One instance's edge. Everything runs on a loop in a thread of its own, so that tests read as plain calls."""

    trust_domain = TRUST_DOMAIN

    def __init__(self, folder: Path, port: int | None = None, tls: TlsFiles | None = None) -> None:
        self.home = Home.open(folder)
        self.port = port or free_port()
        self.tls = tls
        self.public_url = f"http{'s' if tls else ''}://localhost:{self.port}"
        self.key = new_private_key()
        self.hub = Upstream("hub")
        self.presto = Upstream("prod/presto")
        self.scratch = Upstream("dev/scratch")
        self.secret = Upstream("prod/secret")
        self.door = InternalDoor()
        self.agent: EdgeAgent | None = None
        self.envoy: subprocess.Popen[bytes] | None = None
        self.others: list[Jwk] = []
        self.mtls_port = free_port()
        self.authority = Authority(self.home.services, self.trust_domain)
        self._bundle_key = new_private_key()
        self._version = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rig")
        # A connection for each request; a client for each would cost more than the request does.
        self._caller = httpx2.Client(
            base_url=self.public_url, timeout=DEADLINE_S, limits=httpx2.Limits(max_keepalive_connections=0)
        )
        self._servers: dict[Path, tuple[uvicorn.Server, asyncio.Future[None]]] = {}
        self._agent_task: asyncio.Future[None] | None = None
        self._raw: list[asyncio.Server] = []
        self._raw_tasks: set[asyncio.Task[Any]] = set()

    def start(self, envoy: bool = True, services: bool = False, **agent: Any) -> None:
        self._thread.start()
        if services:
            self.start_identity()
        replace_file(self.home.bundle_keys, json.dumps(public_jwks(self._bundle_key)))
        replace_file(self.home.operator_token, OPERATOR)
        self.publish(*PUBLISHED)
        self.serve(self.hub, self.home.hub_socket)
        self.serve(self.door, self.home.internal_socket)
        self.serve(self.presto, self.socket("prod/presto"))
        self.serve(self.scratch, self.socket("dev/scratch"))
        self.serve(self.secret, self.socket("prod/secret"))
        self.start_agent(**agent)
        if envoy:
            self.start_envoy()

    def stop(self) -> None:
        for upstream in (self.presto, self.scratch, self.secret):
            upstream.release.set()
        self._caller.close()
        self.stop_envoy()
        self.stop_agent()
        for server, _ in self._servers.values():  # each looks ten times a second: all of them at once
            server.should_exit = True
        for path in list(self._servers):
            self.unserve(path)
        self.run(self._end_raw())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def socket(self, server: str) -> Path:
        path = self.home.socket(ServerName.parse(server))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # What decides

    def publish(
        self,
        *servers: BundledServer,
        issued_at: float | None = None,
        version: int | None = None,
        revoked: Revoked = NOTHING,
        stops: Stops = NOTHING_STOPPED,
        limits: Limits = NO_LIMITS,
        rules: tuple[CoarseRule, ...] = (),
    ) -> None:
        """Sign and put a bundle where the agent looks."""
        self._version = self._version + 1 if version is None else version
        bundle = Bundle(
            consumer=EDGE,
            version=self._version,
            issued_at=int(time.time() if issued_at is None else issued_at),
            issuer=self.public_url,
            jwks=public_jwks(self.key, *self.others),
            servers=servers,
            revoked=revoked,
            stops=stops,
            limits=limits,
            rules=rules,
        )
        replace_file(self.home.edge_bundle, bundle.sign(Signer(self._bundle_key)))

    @property
    def version(self) -> int:
        """Of the bundle that was published last."""
        return self._version

    def token(self, server: str = "prod/presto", **claims: Any) -> str:
        """A token as the hub would issue it; `key`, `typ` and every claim can be another."""
        now = int(time.time())
        key, typ = claims.pop("key", self.key), claims.pop("typ", TOKEN_TYPE)
        final = {
            "iss": self.public_url,
            "sub": "ana",
            "sub_type": "person",
            "email": "ana@example.com",
            "groups": ["ads-eng"],
            "client_id": "pegboard-cli",
            "surface": "cli",
            "scope": "tools",
            "sid": "session",
            "aud": f"{self.public_url}/mcp/{server}",
            "iat": now,
            "exp": now + 600,
            "jti": "token",
        }
        return Signer(key).sign(acted({**final, **claims}), typ)

    # Parts

    def serve(self, app: Any, path: Path) -> None:
        path.unlink(missing_ok=True)
        config = uvicorn.Config(
            app, uds=str(path), lifespan="off", ws="none", log_level="error", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        self._servers[path] = (server, asyncio.run_coroutine_threadsafe(server.serve(), self._loop))  # type: ignore[assignment]
        until(lambda: server.started, f"{path.name} listens")

    def serve_raw(
        self, work: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], path: Path
    ) -> None:
        """Serve connections byte by byte, for what a well-kept server would never do."""

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._raw_tasks.add(task)
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await work(reader, writer)
            self._raw_tasks.discard(task)
            writer.close()

        path.unlink(missing_ok=True)
        self._raw.append(self.run(asyncio.start_unix_server(one, path)))

    async def _end_raw(self) -> None:
        for server in self._raw:
            server.close()
        tasks = list(self._raw_tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    def unserve(self, path: Path) -> None:
        server, done = self._servers.pop(path)
        server.should_exit = True
        done.result(DEADLINE_S)  # type: ignore[call-arg]
        path.unlink(missing_ok=True)

    def start_identity(self, **more: Any) -> None:
        """Have the edge listen for services, with an identity of the development CA."""
        self.identity = Development(self.authority, ("localhost", "127.0.0.1"), **more)
        self.keeper = Keeper(self.identity, Files(self.home.edge_svid, self.home.edge_trust))
        self.keeper.look()

    def start_agent(self, **more: Any) -> None:
        known: dict[str, Any] = {"services_port": self.mtls_port if self.home.edge_svid.exists() else None}

        async def begin() -> EdgeAgent:
            return EdgeAgent(self.home, self.public_url, self.port, ("127.0.0.1",), tls=self.tls, **{**known, **more})

        agent = self.run(begin())
        self.agent = agent
        self._agent_task = asyncio.run_coroutine_threadsafe(agent.run(), self._loop)  # type: ignore[assignment]
        until(agent.rendered.is_set, "the agent rendered")

    def stop_agent(self) -> None:
        if self._agent_task is not None:
            self._agent_task.cancel()
            until(self._agent_task.done, "the agent ended")
            self._agent_task = None

    def start_envoy(self) -> None:
        with self.home.log("envoy").open("ab") as log:
            self.envoy = subprocess.Popen(envoy_command(self.home), stdout=log, stderr=log)
        until(lambda: self.run(ready(self.home)), "Envoy is ready", self.envoy_log)

    def stop_envoy(self, kill: bool = False) -> None:
        if self.envoy is not None:
            (self.envoy.kill if kill else self.envoy.terminate)()
            self.envoy.wait(DEADLINE_S)
            self.envoy = None

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(DEADLINE_S)

    # What a test asks

    def client(self) -> httpx2.Client:
        verify = trusting(self.home.edge_certificate) if self.tls else True
        return httpx2.Client(base_url=self.public_url, timeout=DEADLINE_S, verify=verify)

    def call(
        self, path: str = "/mcp/prod/presto", token: str | None = None, body: Any = None, **headers: str
    ) -> httpx2.Response:
        """POST one message; header names are written with underscores."""
        sent = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        content = body if isinstance(body, (str, bytes)) else json.dumps(body or tool_call())
        if self.tls:  # the certificate may be another one by now
            with self.client() as client:
                return client.post(path, headers=sent, content=content)
        self._caller.cookies.clear()
        return self._caller.post(path, headers=sent, content=content)

    def everywhere(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until each worker of Envoy's does as is asked: they take a change over one after the other.

        Args:
            holds: makes one call and tells whether its answer is the awaited one.
            what: is waited for, in words.
        """
        until(lambda: all(holds() for _ in range(IN_A_ROW)), what)

    def answers(self, status: int, token: str | None = None, path: str = "/mcp/prod/presto") -> None:
        """Wait until each worker answers a call with this status; the token is ana's by default."""
        asked = token or self.token()
        self.everywhere(lambda: self.call(path, asked).status_code == status, f"{path} is answered with {status}")

    def service(self, svid: Svid | None = None, trusted: str = "", **more: Any) -> httpx2.Client:
        """A client at the port for services, with a certificate or without."""
        context = self.context(svid, trusted)
        return httpx2.Client(
            base_url=f"https://localhost:{self.mtls_port}", verify=context, timeout=DEADLINE_S, **more
        )

    def context(self, svid: Svid | None = None, trusted: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=trusted or self.authority.bundle)
        if svid is not None:
            file = self.home.root / f"{uuid.uuid4().hex}.pem"
            file.write_text(svid.chain + svid.key)
            context.load_cert_chain(file)
            file.unlink()
        return context

    def service_token(self, sub: str, server: str = "prod/presto", **claims: Any) -> str:
        """A service's token as the hub would issue it."""
        service = {"sub_type": "service", "groups": [], "client_id": sub, "surface": "service", "sid": None}
        return self.token(server, **{**service, "sub": sub, "scope": "tools:read", **claims})

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are, and read one answer with a Content-Length."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
                head, _, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                if length and len(body) >= int(length[1]):
                    break
            return answer

    def log_lines(self) -> list[dict[str, Any]]:
        text = self.home.edge_access_log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n")[:-1]]  # splitlines knows more ends than a line has

    def logged(self, request_id: str) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            return next((line for line in self.log_lines() if line["request_id"] == request_id), None)

        return until(find, f"request {request_id} is in the access log")

    def envoy_log(self) -> str:
        """What it said, without the addresses of a crash, which push its cause out of sight."""
        said = self.home.log("envoy").read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in said if " UNKNOWN [0x" not in line)[-2000:]

    def arrived(self) -> int:
        return sum(len(upstream.arrivals) for upstream in (self.presto, self.scratch, self.secret))


def tool_call(name: str = "echo", method: str = "tools/call", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": name, "arguments": {}, **params}}


def until(condition: Callable[[], T], what: str, details: Callable[[], str] = str) -> T:
    """Wait until `condition` is true."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}. {details()}")


@contextmanager
def running_edge(
    port: int | None = None,
    envoy: bool = True,
    services: bool = False,
    tls: TlsFiles | None = None,
    **agent: Any,
) -> Iterator[Rig]:
    """A rig that is up, and gone afterwards; `agent` are arguments of `EdgeAgent`."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    rig = Rig(folder, port, tls)
    try:
        rig.start(envoy, services, **agent)
        yield rig
    finally:
        rig.stop()
        shutil.rmtree(folder)
