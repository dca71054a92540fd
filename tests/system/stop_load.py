"""Calls that go on and on, by callers of every kind, at both layers of a whole instance, while things are stopped."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.names import ServerName
from pegboard.core.spiffe import trust_domain_of
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.common.settings import DEMO
from pegboard_hub.demo.wire import Reply, Wire
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.services.authority import Authority
from tests.acting import acted
from tests.ports import free_port
from tests.system.instance import EXPECTED, REPOSITORY, Instance, running

SERVICE = "spiffe://example.org/reporting"
WHY = "rehearsed <b>under</b> load, 100 %"
EFFECT_S = 2.0
"""Within this of the answer, a stop is to hold."""

PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls all the time.

    Attributes:
        stop: what to stop to end their calls, as kind and name; empty for one whom no stop is for.
        token: what differs of the claims of ana's token from the command line.
    """

    stop: tuple[str, str]
    server: str = "prod/presto"
    tool: str = "list_tables"
    token: Mapping[str, Any] = field(default_factory=dict)


CALLERS: dict[str, Caller] = {
    "tool": Caller(("tool", "prod/presto/describe_table"), tool="describe_table"),
    "hidden tool": Caller(("tool", "prod/presto/get_revenue_metrics"), tool="get_revenue_metrics"),
    "server": Caller(("server", "dev/scratch"), server="dev/scratch", tool="echo"),
    "surface": Caller(("surface", "chat"), token={"surface": "chat", "client_id": "pegboard-chat"}),
    "person": Caller(("person", "fay"), token={"sub": "fay", "groups": ["finance"]}),
    "client": Caller(("client", "pegboard-ide"), token={"surface": "ide", "client_id": "pegboard-ide"}),
    "service": Caller(
        ("service", SERVICE),
        server="dev/scratch",
        tool="echo",
        token={
            "sub": SERVICE,
            "sub_type": "service",
            "groups": [],
            "surface": "service",
            "client_id": SERVICE,
            "sid": None,
            "scope": "tools:read",
        },
    ),
    "others": Caller(("", ""), token={"sub": "pat", "groups": ["platform"]}),
}
ARGUMENTS = {
    "echo": {"text": "x"},
    "describe_table": {"table": "flights"},
    "list_tables": {},
    "get_revenue_metrics": {},
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One call: when it was sent, in seconds of the monotonic clock, and what came of it."""

    sent: float
    ended: float
    ok: bool
    reason: str
    words: str


def write_grants(folder: Path) -> Path:
    """The demo's grants, with a service that may call dev/scratch, and without rates, which are not what is tried."""
    text = (DEMO / "grants.toml").read_text(encoding="utf-8")
    text = text.replace("../../../../servers", str(REPOSITORY / "servers"))
    text = text.replace(
        'surfaces = ["cli", "web"]',
        f'surfaces = ["cli", "web", "service"]\nservices = ["{SERVICE}"]',
    )
    text += "\n[limits]\naddress_in_all = 0\nperson = 0\nserver = 0\n"
    (folder / "grants.toml").write_text(text, encoding="utf-8")
    return folder / "grants.toml"


class Load:
    """The callers at work.

    Attributes:
        samples: what came of every call, by layer and caller.
    """

    def __init__(self, instance: Instance, mtls_port: int) -> None:
        self._instance, self._mtls_port = instance, mtls_port
        self.samples: dict[tuple[str, str], list[Sample]] = {}

    def token(self, caller: Caller) -> str:
        """A token of a caller, signed as the hub signs: no client of a service is known to the demo's login."""
        url, now = self._instance.public_url, int(time.time())
        claims = {
            "iss": url,
            "sub": "ana",
            "sub_type": "person",
            "groups": ["ads-eng"],
            "client_id": "pegboard-cli",
            "surface": "cli",
            "scope": "tools",
            "sid": "load",
            "aud": ServerName.parse(caller.server).resource_url(url),
            "iat": now,
            "exp": now + 890,
            "jti": f"load-{caller.stop}",
            **caller.token,
        }
        return open_keys(self._instance.home).tokens.sign(acted(claims), TOKEN_TYPE)

    async def call_for(self, layer: str, name: str) -> None:
        """Call until cancelled, as one caller, through the edge or straight at the server's socket."""
        caller = CALLERS[name]
        token = self.token(caller)
        samples = self.samples.setdefault((layer, name), [])
        async with self._client(layer, caller) as wire:
            while True:
                sent = time.monotonic()
                reply = await wire.call(token, caller.tool, ARGUMENTS[caller.tool], caller.server)
                samples.append(_sample(sent, reply))
                await asyncio.sleep(PAUSE_S)

    @asynccontextmanager
    async def _client(self, layer: str, caller: Caller) -> AsyncIterator[Wire]:
        url = self._instance.public_url
        if layer == "edge" and caller.stop[0] == "service":
            async with httpx2.AsyncClient(timeout=20, verify=self._by_certificate()) as http:
                yield Wire(http, f"https://localhost:{self._mtls_port}")
            return
        if layer == "edge":
            async with httpx2.AsyncClient(timeout=20) as http:
                yield Wire(http, url)
            return
        claims = {"sub": "ana", "groups": ["ads-eng"], "surface": "cli", **caller.token}
        headers = {
            "x-forwarded-user": str(claims["sub"]),
            "x-forwarded-groups": json.dumps(claims["groups"]),
            "x-forwarded-surface": str(claims["surface"]),
        }
        socket = self._instance.home.socket(ServerName.parse(caller.server))
        transport = httpx2.AsyncHTTPTransport(uds=str(socket))
        async with httpx2.AsyncClient(transport=transport, headers=headers, timeout=20) as http:
            yield Wire(http, url)

    def _by_certificate(self) -> ssl.SSLContext:
        """TLS with the service's certificate."""
        authority = Authority(self._instance.home.services, trust_domain_of(SERVICE))
        svid, file = authority.mint(SERVICE), self._instance.home.root / "svid.pem"
        context = ssl.create_default_context(cadata=authority.bundle)
        file.write_text(svid.chain + svid.key)
        context.load_cert_chain(file)
        file.unlink()
        return context

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everybody calls at both layers, for as long as this is open."""
        names = [(layer, name) for layer in ("edge", "server") for name in CALLERS]
        tasks = [asyncio.create_task(self.call_for(*each)) for each in names]
        try:
            async with asyncio.timeout(60):
                while not all(any(s.ok for s in self.samples.get(each, ())) for each in names):
                    _raise_of(tasks)
                    await asyncio.sleep(0.1)
            yield
            _raise_of(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def first(self, layer: str, name: str, since: float, *, ok: bool, limit_s: float = 20) -> Sample:
        """The first call sent after `since` that went well, or that did not."""
        async with asyncio.timeout(limit_s):
            while True:
                for sample in self.samples[layer, name]:
                    if sample.sent >= since and sample.ok is ok:
                        return sample
                await asyncio.sleep(0.02)

    def late(self, layer: str, name: str, answered: float, resumed: float) -> list[Sample]:
        """Calls that were sent later than `EFFECT_S` after the answer, before it was resumed, and went well."""
        return [s for s in self.samples[layer, name] if s.ok and answered + EFFECT_S < s.sent and s.ended < resumed]


def _raise_of(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise error


def _sample(sent: float, reply: Reply) -> Sample:
    refusal = reply.refusal or {}
    ok = reply.status == 200 and not refusal and not reply.result.get("isError") and "error" not in reply.message
    words = str(refusal.get("message", "")) or str(reply.message)[:300]
    return Sample(sent, time.monotonic(), ok, str(refusal.get("reason", reply.status)), words)


async def stop(http: httpx2.AsyncClient, caller: Caller) -> None:
    """Stop what ends a caller's calls, at the machine's door."""
    await _ask(http, "", {"kind": caller.stop[0], "name": caller.stop[1], "why": WHY})


async def resume(http: httpx2.AsyncClient, caller: Caller) -> None:
    """Resume it."""
    await _ask(http, "/resume", {"kind": caller.stop[0], "name": caller.stop[1]})


async def _ask(http: httpx2.AsyncClient, path: str, body: Mapping[str, str]) -> None:
    answer = await http.post(f"http://hub/internal/v1/stops{path}", json=body)
    assert answer.status_code == 200, answer.text


@contextmanager
def loaded(grants: Path) -> Iterator[tuple[Instance, Load]]:
    """An instance that takes services, and its callers."""
    port = free_port()
    options = ("--grants", str(grants), "--mtls-port", str(port), "--trust-domain", trust_domain_of(SERVICE))
    with running(*options, expected=EXPECTED | {"identity"}) as instance:
        yield instance, Load(instance, port)


def machine(instance: Instance) -> httpx2.AsyncClient:
    """A client of the internal door with the operator's credential."""
    token = instance.home.operator_token.read_text(encoding="utf-8").strip()
    transport = httpx2.AsyncHTTPTransport(uds=str(instance.home.internal_socket))
    return httpx2.AsyncClient(transport=transport, headers={"authorization": f"Bearer {token}"}, timeout=20)
