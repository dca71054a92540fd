"""A real server process that is killed around a claim: nothing runs twice, and its end is told once all is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from pegboard.core.approval import ASK, OVER, Ask, State
from pegboard.core.bundle import Bundle, BundledServer
from pegboard.core.environment import ServerEnvironment
from pegboard.core.jose import Signer, public_jwks
from pegboard.core.record import RECORD
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub
from tests.sockets import listening, socket_path

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]

START_S = 120
"""For a process to start, or to tell something, on a busy machine."""

MANIFEST = """
name = "bank"
entry = "bank_that_is_killed:server"
description = "Killed"
owner = "platform"
support_channel = "#bank"

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli"]
"""

CODE = """
import asyncio
from pathlib import Path

from pegboard import Server, authorize_tool, requires_approval

server = Server()


@server.tool()
@authorize_tool(policy="granted")
@requires_approval(by="owner")
async def pay(ran: str, seconds: float) -> str:
    with Path(ran).open("a") as file:
        file.write("paid\\n")
    await asyncio.sleep(seconds)
    return "paid"
"""


@dataclass
class Door:
    """The hub's internal door, played by the in-memory hub.

    Attributes:
        heard: what came, by path.
        silent: an ask that claims is not answered.
        claimed: set once something was claimed.
    """

    hub: InMemoryHub
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    silent: bool = False
    claimed: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        document = json.loads(body)
        answer = await self._answer(scope["path"], document)
        self.heard.append((scope["path"], document))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def _answer(self, path: str, document: dict[str, Any]) -> Any:
        if path == ASK:
            answer = await self.hub.approvals.ask(Ask.model_validate(document))
            if answer.claimed:
                self.claimed.set()
                while self.silent:
                    await anyio.sleep(0.01)
            return answer.model_dump(mode="json")
        if path == "/internal/v1/records":
            for record in document["records"]:
                self.hub.approvals.settle(RECORD.validate_python(record))
            return {"accepted": len(document["records"])}
        return {}

    @property
    def over(self) -> list[str]:
        return [process for path, told in self.heard if path == OVER for process in told["processes"]]


@dataclass
class Killed:
    """A server's folder, its hub, and its processes one after another."""

    hub: InMemoryHub
    door: Door
    environment: ServerEnvironment
    folder: Path

    @property
    def ran(self) -> int:
        file = self.folder / "ran"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def call(self, seconds: float = 0) -> dict[str, Any]:
        return {"name": "pay", "arguments": {"ran": str(self.folder / "ran"), "seconds": seconds}}

    @asynccontextmanager
    async def process(self) -> AsyncIterator[subprocess.Popen[bytes]]:
        """The server, until it is killed."""
        variables = {**os.environ, **self.environment.variables(), "PYTHONPATH": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "pegboard.serve"]
            found = subprocess.Popen(command, env=variables, stderr=log)  # noqa: ASYNC220 - it starts at once
        try:
            with anyio.fail_after(START_S):
                while not await self._answers():
                    await anyio.sleep(0.05)
            yield found
        finally:
            found.kill()
            found.wait()

    async def _answers(self) -> bool:
        async with self.http() as http:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx2.HTTPError:
                return False

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.AsyncHTTPTransport(uds=str(self.environment.socket))
        headers = self.hub.headers("ana", ["ads-eng"])
        async with httpx2.AsyncClient(
            transport=transport, base_url=self.hub.public_url, headers=headers, timeout=60
        ) as http:
            yield http

    async def ask(self, call: dict[str, Any]) -> str:
        """Call, and give the refusal's code; empty where it ran, `gone` where nobody answered."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "pay",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**call, "_meta": meta}}
        async with self.http() as http:
            try:
                answer = await http.post(self.hub.name.path, json=body, headers=headers)
            except httpx2.HTTPError:
                return "gone"
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        result = json.loads(lines[-1] if lines else answer.text)["result"]
        return str(result.get("_meta", {}).get(META_KEY, {}).get("code", ""))


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killed]:
    project = tmp_path / "project"
    (project / "policies").mkdir(parents=True)
    (project / "pegboard.toml").write_text(MANIFEST)
    (project / "policies" / "granted.cedar").write_text("permit (principal, action, resource);")
    (tmp_path / "bank_that_is_killed.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    hub = InMemoryHub(project)
    (tmp_path / "spool").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "keys.json").write_text(json.dumps(public_jwks(hub._private_key)))
    (tmp_path / "credentials.json").write_text(json.dumps({"channel_token": "channel", "digest_key": "ab" * 32}))
    server = BundledServer(
        server=str(hub.name),
        owner="platform",
        support_channel="#bank",
        release="r",
        groups=("ads-eng",),
        surfaces=("cli",),
        sensitivity="internal",
    )
    bundle = Bundle(
        consumer=str(hub.name),
        version=1,
        issued_at=int(time.time()),
        issuer=hub.public_url,
        jwks=public_jwks(hub._private_key),
        servers=(server,),
    )
    (tmp_path / "bundle.jws").write_text(bundle.sign(Signer(hub._private_key)))
    with socket_path() as socket:
        environment = ServerEnvironment(
            server=str(hub.name),
            release=hub.project.declaration.digest,
            project=project,
            public_url=hub.public_url,
            socket=socket.with_name("server.sock"),
            bundle=tmp_path / "bundle.jws",
            bundle_keys=tmp_path / "keys.json",
            spool=tmp_path / "spool",
            hub_socket=socket,
            credentials=tmp_path / "credentials.json",
            state=tmp_path / "state",
        )
        yield Killed(hub, Door(hub), environment, tmp_path)
    sys.modules.pop("bank_that_is_killed", None)


async def _until(holds: Any) -> None:
    with anyio.fail_after(START_S):
        while not holds():
            await anyio.sleep(0.02)


async def _killed_while(killed: Killed, call: dict[str, Any], holds: Any) -> None:
    """Call, and kill the process once something holds."""
    async with killed.process() as process, anyio.create_task_group() as group:
        group.start_soon(killed.ask, call)
        await _until(holds)
        process.send_signal(signal.SIGKILL)
        process.wait()


async def test_killed_between_the_claim_and_the_run_it_runs_never_and_is_told_to_be_over(killed: Killed) -> None:
    call = killed.call()
    async with listening(killed.door, killed.environment.hub_socket):
        async with killed.process():
            assert await killed.ask(call) == "approval_pending"
        killed.hub.approvals.approve()
        killed.door.silent = True
        await _killed_while(killed, call, killed.door.claimed.is_set)
        killed.door.silent = False
        claimed = killed.hub.approvals.requests[0]
        assert (claimed.state, killed.ran) == (State.CLAIMED, 0)
        async with killed.process():
            await _until(lambda: len(killed.door.over) == 2)
            assert await killed.ask(call) == "approval_claimed"
    assert killed.ran == 0


async def test_killed_in_the_middle_of_the_run_it_runs_once_and_its_intent_is_there_before_its_end_is_told(
    killed: Killed,
) -> None:
    call = killed.call(seconds=60)
    async with listening(killed.door, killed.environment.hub_socket):
        async with killed.process():
            assert await killed.ask(call) == "approval_pending"
        killed.hub.approvals.approve()
        await _killed_while(killed, call, lambda: killed.ran)
        async with killed.process():
            await _until(lambda: len(killed.door.over) == 2)
            assert await killed.ask(call) == "approval_claimed"
    assert killed.ran == 1
    call_id = killed.hub.approvals.requests[0].call_id
    last = max(number for number, (path, _) in enumerate(killed.door.heard) if path == OVER)
    before = [told for path, told in killed.door.heard[:last] if path == "/internal/v1/records"]
    assert call_id in {record["id"] for told in before for record in told["records"] if record["kind"] == "intent"}


async def test_what_was_approved_while_no_process_lived_runs_once_in_the_next(killed: Killed) -> None:
    call = killed.call()
    async with listening(killed.door, killed.environment.hub_socket):
        async with killed.process():
            assert await killed.ask(call) == "approval_pending"
        killed.hub.approvals.approve()
        async with killed.process():
            assert await killed.ask(call) == ""
            await _until(lambda: killed.hub.approvals.requests[0].state is State.DONE)
            assert await killed.ask(call) == "approval_pending"
    assert killed.ran == 1
