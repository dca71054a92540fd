"""`examples/approvals/server.py` against a real hub: a server without the kit runs what was approved, once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.approval import State
from pegboard_hub.approvals.model import Decider, Request, Verdict
from pegboard_hub.requiring.service import MACHINE
from tests.hub.company import PRESTO, Company, Hub, opened, presto
from tests.hub.serving import inner_door

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "approvals" / "server.py"
ROWS = {"table": "orders", "where": "day < '2020-01-01'", "most": 1000}
OLI = Decider("oli", ("platform",), "Oli")


@dataclass
class Stage:
    """The hub at its real socket, and the example beside it as a process."""

    hub: Hub
    company: Company
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    async def start(self, wait_s: float = 0.0) -> None:
        """Start the example as the runtime starts a server: with variables, and nothing else."""
        server = self.hub.parts.registry.current.servers["prod/presto"]
        assert server.release is not None
        token = self.company.open_channel("prod/presto", server.release.digest)
        credentials = self.folder / "credentials.json"
        credentials.write_text(json.dumps({"channel_token": token, "digest_key": "ab" * 32}))
        self.socket.unlink(missing_ok=True)
        variables = {
            "PEGBOARD_SOCKET": str(self.socket),
            "PEGBOARD_RELEASE": server.release.digest,
            "PEGBOARD_HUB_SOCKET": str(self.company.home.internal_socket),
            "PEGBOARD_CREDENTIALS": str(credentials),
            "PEGBOARD_SPOOL": str(self.folder),
            "WAIT_S": str(wait_s),
        }
        self._begin(variables)
        async with asyncio.timeout(60):
            while not self.socket.exists():
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.02)

    def _begin(self, variables: dict[str, str]) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-I", str(EXAMPLE)]
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(60)

    @property
    def socket(self) -> Path:
        return self.company.home.run / "example.sock"

    async def post(self, token: str, **changes: Any) -> httpx2.Response:
        """A call as the edge hands it on."""
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "delete_rows", "arguments": {**ROWS, **changes}},
        }
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://server", timeout=60) as client:
            return await client.post("/mcp", json=message, headers={"authorization": f"Bearer {token}"})

    async def call(self, person: str = "ana", **changes: Any) -> dict[str, Any]:
        """What a caller gets."""
        answer = await self.post(await self.hub.token(person, resource=PRESTO), **changes)
        found: dict[str, Any] = answer.json()["result"]
        return found

    async def request(self, id_: str) -> Request:
        found = await self.hub.parts.approvals.find(self.hub.parts.approvals.reader("ana", ()), id_)
        assert found is not None
        return found

    async def decide(self, id_: str, *, approve: bool) -> None:
        shown = (await self.request(id_)).shown_digest
        await self.hub.parts.approvals.decide(OLI, [Verdict(id_, shown, approve)], "as agreed")

    @property
    def ran(self) -> list[dict[str, Any]]:
        file = self.folder / "deleted.txt"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
async def stage(company: Company, tmp_path: Path) -> AsyncIterator[Stage]:
    declared = presto()
    declared["tools"].append({"name": "delete_rows", "policy": "granted"})
    company.deploy("prod/presto", declared)
    async with opened(company) as hub, inner_door(hub, company):
        found = Stage(hub, company, tmp_path)
        await found.start()
        yield found
        found.kill()


async def test_it_asks_runs_once_and_tells_how_it_ended(stage: Stage) -> None:
    result = await stage.call()
    told = result["structuredContent"]["approval"]
    assert result["isError"]
    assert told["page"] in result["content"][0]["text"]
    assert (await stage.call())["structuredContent"]["approval"]["id"] == told["id"], (
        "the same call, the same request"
    )
    assert stage.ran == []
    await stage.decide(told["id"], approve=True)
    assert not (await stage.call())["isError"]
    assert stage.ran == [ROWS]
    request = await stage.request(told["id"])
    assert (request.state, request.person, request.arguments) == (State.DONE, "ana", ROWS)
    again = (await stage.call())["structuredContent"]["approval"]
    assert again["id"] != told["id"], "it is spent: the same call is a new request"
    assert stage.ran == [ROWS]
    [call] = [each for each in await stage.hub.calls("ana") if each["tool"] == "delete_rows"]
    assert (call["status"], call["person"]) == ("ok", "ana")


async def test_a_yes_that_comes_while_the_call_waits_lets_it_run(stage: Stage) -> None:
    stage.kill()
    await stage.start(wait_s=30)
    calling = asyncio.create_task(stage.call())
    approvals = stage.hub.parts.approvals
    async with asyncio.timeout(60):
        while not (page := await approvals.inbox(approvals.reader("oli", ("platform",)))).requests:
            await asyncio.sleep(0.02)
    await stage.decide(page.requests[0].id, approve=True)
    assert not (await calling)["isError"]
    assert stage.ran == [ROWS]


@pytest.mark.parametrize(
    "changes", [{"most": 1001}, {"where": "day < '2030-01-01'"}, {"table": "Orders"}], ids=["most", "where", "table"]
)
async def test_what_was_approved_is_that_and_nothing_else(stage: Stage, changes: dict[str, Any]) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    other = await stage.call(**changes)
    assert other["structuredContent"]["approval"]["id"] != told["id"]
    assert stage.ran == []


async def test_what_security_requires_holds_for_its_questions(stage: Stage) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    tool = "prod/presto/delete_rows"
    await stage.hub.parts.requiring.require(MACHINE, tool, "data-protection", "rows of people are deleted")
    now = (await stage.call())["structuredContent"]["approval"]
    assert now["id"] != told["id"], "the yes of before was for less"
    assert "data-protection" in now["asks"]
    assert stage.ran == []


async def test_a_no_is_told_and_nothing_runs(stage: Stage) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=False)
    assert (await stage.call())["structuredContent"]["approval"]["state"] == "rejected"
    assert stage.ran == []


async def test_of_many_calls_at_once_one_runs(stage: Stage) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    results = await asyncio.gather(*(stage.call() for _ in range(12)))
    assert len([each for each in results if not each["isError"]]) == 1
    assert stage.ran == [ROWS]


async def test_what_a_process_that_was_killed_had_claimed_is_unknown(stage: Stage) -> None:
    """The claim is there and no word of its end: the next process says that the first is over."""
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    [process] = json.loads((stage.folder / "processes.json").read_text())
    channel = stage.hub.parts.channels.of("channel-of-prod/presto")
    stage.kill()
    await claim(stage, channel, process)
    assert (await stage.request(told["id"])).state is State.CLAIMED
    await stage.start()
    assert (await stage.request(told["id"])).state is State.UNKNOWN
    assert stage.ran == []


async def claim(stage: Stage, channel: Any, process: str) -> None:
    """What the process had sent, a moment before it was killed."""
    from examples.approvals.server import REQUIREMENT
    from pegboard.core.approval import Action, Ask, Requirement

    asked = Ask(
        token=await stage.hub.token("ana", resource=PRESTO),
        tool="delete_rows",
        requirement=Requirement.model_validate(REQUIREMENT),
        policy="granted",
        policy_version="1",
        actions=(Action(arguments=ROWS),),
        call_id="of-the-killed",
        process=process,
    )
    assert (await stage.hub.parts.approvals.ask(channel, asked)).claimed


async def test_an_outcome_that_was_not_delivered_is_delivered_by_the_next_process(stage: Stage) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    [process] = json.loads((stage.folder / "processes.json").read_text())
    channel = stage.hub.parts.channels.of("channel-of-prod/presto")
    stage.kill()
    await claim(stage, channel, process)
    left = {"kind": "outcome", "id": "of-the-killed", "at_ms": 1_800_000_000_000, "status": "ok", "duration_ms": 1}
    (stage.folder / "records.jsonl").write_text(json.dumps(left) + "\n")
    await stage.start()
    assert (await stage.request(told["id"])).state is State.DONE


@pytest.mark.parametrize(
    ("person", "changes", "words"),
    [
        ("ana", {"most": 2**53}, "`most` is a whole number"),
        ("ana", {"most": 1.0}, "`most` is a whole number"),
        ("ana", {"most": True}, "`most` is a whole number"),
        ("ana", {"extra": 1}, "Say `table`"),
    ],
)
async def test_nobody_is_asked_about_what_cannot_run(
    stage: Stage, person: str, changes: dict[str, Any], words: str
) -> None:
    result = await stage.call(person, **changes)
    assert words in result["content"][0]["text"]
    assert "structuredContent" not in result


async def test_without_the_hub_nothing_runs(stage: Stage) -> None:
    told = (await stage.call())["structuredContent"]["approval"]
    await stage.decide(told["id"], approve=True)
    token = await stage.hub.token("ana", resource=PRESTO)
    stage.company.home.internal_socket.unlink()
    answer = await stage.post(token)
    assert "Nobody can be asked now" in answer.json()["result"]["content"][0]["text"]
    assert stage.ran == []


@pytest.mark.parametrize("token", ["a.b.c", "not-one"])
async def test_a_token_that_is_none_gets_nobody_asked(stage: Stage, token: str) -> None:
    answer = await stage.post(token)
    document = answer.json()
    assert answer.status_code == 401 or document["result"]["isError"]
    approvals = stage.hub.parts.approvals
    assert (await approvals.inbox(approvals.reader("oli", ("platform",)))).requests == []
