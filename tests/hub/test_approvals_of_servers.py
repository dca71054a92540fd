"""A real server and a real hub: calls wait at the one for people who decide at the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from pegboard import Server, authorize_tool, confirm, requires_approval
from pegboard.call.authenticate import GROUPS_HEADER, SURFACE_HEADER, USER_HEADER
from pegboard.core.approval import State
from pegboard.core.refusal import META_KEY
from pegboard.core.token import TokenVerifier
from pegboard.remote.approvals import HubApprovals
from pegboard.remote.delivery import Delivery
from pegboard.remote.process import OthersOver, OwnProcess
from pegboard.remote.spool import Spool, SpoolReader
from pegboard.testing import InMemoryHub
from pegboard_hub.approvals.model import Request, Which
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.web.app import internal_app
from tests.hub.approvals_rig import GROUPS, Asking, decide, reader, seen
from tests.hub.company import Company, Hub, presto
from tests.sockets import listening, socket_path

pytestmark = pytest.mark.anyio

MANIFEST = """
name = "presto"
entry = "presto:server"
description = "Waits for people"
owner = "platform"
support_channel = "#presto"

[requests]
business_groups = ["ads-eng", "finance"]
surfaces = ["cli"]
"""


@dataclass
class Rig:
    """A server with its hub, and what its tools did."""

    hub: Hub
    asking: Asking
    twin: InMemoryHub
    socket: Path
    spool: Path
    ran: list[Any] = field(default_factory=list)

    @property
    def approvals(self) -> Approvals:
        return self.hub.parts.approvals

    async def requests(self) -> list[Request]:
        """All there are, oldest first."""
        page = await self.approvals.history(reader(self.approvals, "sol"), 100, which=Which())
        return [await seen(self.approvals, found.id) for found in reversed(page.requests)]

    async def call(
        self, tool: str, arguments: dict[str, Any], *, era: str = "modern", elicit: ElicitationFnT | None = None
    ) -> CallToolResult:
        """Call a tool as Ana."""
        headers = {
            "authorization": f"Bearer {await self.asking.token('ana')}",
            USER_HEADER: "ana",
            GROUPS_HEADER: json.dumps(GROUPS["ana"]),
            SURFACE_HEADER: "cli",
        }
        async with self.twin.http(headers) as http:
            transport = streamable_http_client(self.twin.name.resource_url(self.twin.public_url), http_client=http)
            mode = "legacy" if era == "legacy" else "auto"
            async with Client(transport, mode=mode, elicitation_callback=elicit) as client:
                return await client.call_tool(tool, arguments)

    async def deliver(self) -> None:
        """Bring the records to the hub."""
        delivery = Delivery(SpoolReader(self.spool), self.socket, self.asking.channel)
        assert await delivery.deliver()
        await delivery.close()


def _server(ran: list[Any]) -> Server:
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    @requires_approval(by="security", each="tables")
    async def drop(tables: list[str]) -> str:
        """Drop."""
        ran.append(tables)
        return f"dropped {', '.join(tables)}"

    @server.tool()
    @authorize_tool(policy="granted")
    @confirm("Wipe {table}?")
    async def wipe(table: str) -> str:
        """Wipe."""
        ran.append(table)
        return f"wiped {table}"

    return server


@pytest.fixture
def socket() -> Iterator[Path]:
    with socket_path() as path:
        yield path


@pytest.fixture
def company(company: Company) -> Company:
    """With the tools of the server in its release."""
    declared = presto()
    declared["tools"] += [{"name": name, "policy": "granted"} for name in ("drop", "wipe")]
    company.deploy("prod/presto", declared)
    return company


@pytest.fixture
async def rig(hub: Hub, company: Company, tmp_path: Path, socket: Path) -> AsyncIterator[Rig]:
    project, spool = tmp_path / "project", tmp_path / "spool"
    (project / "policies").mkdir(parents=True)
    spool.mkdir()
    (project / "pegboard.toml").write_text(MANIFEST)
    (project / "policies" / "granted.cedar").write_text("permit (principal, action, resource);")
    ran: list[Any] = []
    asking = Asking.of(hub, company)
    twin = InMemoryHub(project, _server(ran), namespace="prod", public_url=company.settings.public_url)
    standing = twin.standings.standing
    keys = TokenVerifier(open_keys(company.home).token_jwks, twin.public_url, standing.access.resource_url)
    twin.standings.standing = replace(standing, tokens=keys)
    approvals = HubApprovals(socket, asking.channel)
    twin.approvals, twin._recorder = approvals, Spool(spool, b"digest")  # type: ignore[assignment]
    async with listening(internal_app(hub.parts), socket):
        yield Rig(hub, asking, twin, socket, spool, ran)
        await approvals.close()


def code(result: CallToolResult) -> str:
    refusal = (result.meta or {}).get(META_KEY)
    return refusal["code"] if refusal else ""


def text(result: CallToolResult) -> str:
    return "\n".join(getattr(block, "text", "") for block in result.content)


async def test_a_batch_waits_for_security_runs_with_what_they_approved_and_is_done(rig: Rig) -> None:
    tables = {"tables": ["a", "b", "c"]}
    waits = await rig.call("drop", tables)
    assert code(waits) == "approval_pending"
    assert "somebody of security" in text(waits)
    a, b, c = await rig.requests()
    assert waits.structured_content is not None
    assert waits.structured_content["approval"]["page"] == f"{rig.twin.public_url}/approvals/{a.id}"
    await decide(rig.approvals, "sol", a.id, c.id)
    await decide(rig.approvals, "sol", b.id, approve=False, why="still read")
    ran = await rig.call("drop", tables, era="legacy")
    assert rig.ran == [["a", "c"]]
    assert text(ran).startswith("dropped a, c")
    assert 'rejected by "Sol", who wrote "still read"' in text(ran)
    await rig.deliver()
    assert [each.state for each in await rig.requests()] == [State.DONE, State.REJECTED, State.DONE]
    calls = {call["status"]: call["approval"] for call in await rig.hub.calls("ana")}
    assert calls["ok"] == [a.id, c.id]
    assert calls["denied"] == [a.id, b.id, c.id]


async def test_a_client_that_opens_the_page_is_held_until_security_decides(rig: Rig) -> None:
    async def opens(_context: Any, params: ElicitRequestParams) -> ElicitResult:
        group.start_soon(_approve_all, rig)
        return ElicitResult(action="accept")

    async with anyio.create_task_group() as group:
        result = await rig.call("drop", {"tables": ["a"]}, elicit=opens)
    assert text(result) == "dropped a"


async def _approve_all(rig: Rig) -> None:
    await decide(rig.approvals, "sol", *[request.id for request in await rig.requests()])


async def test_a_link_that_is_declined_takes_the_request_back(rig: Rig) -> None:
    async def declines(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="decline")

    declined = await rig.call("drop", {"tables": ["a"]}, elicit=declines)
    assert code(declined) == "approval_withdrawn"
    assert 'was taken back: "declined in the client". The same call asks anew.' in text(declined)
    assert [request.state for request in await rig.requests()] == [State.WITHDRAWN]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("answer", "told", "state"),
    [
        (ElicitResult(action="accept", content={"confirm": True}), "", State.DONE),
        (ElicitResult(action="accept", content={"confirm": False}), "confirmation_refused", State.WITHDRAWN),
        (ElicitResult(action="cancel"), "approval_pending", State.REQUESTED),
    ],
)
async def test_a_confirmation_is_answered_in_the_clients_form(
    rig: Rig, era: str, answer: ElicitResult, told: str, state: State
) -> None:
    async def fills(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
        return answer

    assert code(await rig.call("wipe", {"table": "t"}, era=era, elicit=fills)) == told
    await rig.deliver()
    assert [request.state for request in await rig.requests()] == [state]
    assert rig.ran == (["t"] if state is State.DONE else [])


async def test_what_a_process_had_claimed_when_it_died_is_unknown_once_its_records_are_there(rig: Rig) -> None:
    dead = OwnProcess(rig.spool)
    asked = await rig.asking.ask("ana", {"tables": ["a"]}, process=dead.id)
    await decide(rig.approvals, "sol", asked.actions[0].id)
    await rig.asking.ask("ana", {"tables": ["a"]}, process=dead.id)
    dead.close()
    own, delivery = OwnProcess(rig.spool), Delivery(SpoolReader(rig.spool), rig.socket, rig.asking.channel)
    others = OthersOver(rig.spool, own, delivery.whole, rig.socket, rig.asking.channel)
    async with anyio.create_task_group() as group:
        group.start_soon(others.tell)
        await anyio.wait_all_tasks_blocked()
        assert (await seen(rig.approvals, asked.actions[0].id)).state is State.CLAIMED
        assert await delivery.deliver()
    assert (await seen(rig.approvals, asked.actions[0].id)).state is State.UNKNOWN
    assert [path.name for path in rig.spool.glob("*.process")] == [f"{own.id}.process"]
    for each in (others, delivery):
        await each.close()
    own.close()


async def test_without_the_hub_nothing_runs_and_nothing_is_lost(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard.remote.approvals.PAUSES_S", (0, 0))
    await rig.call("drop", {"tables": ["a"]})
    await _approve_all(rig)
    away = rig.socket.with_suffix(".away")
    rig.socket.rename(away)
    approvals = HubApprovals(rig.socket, rig.asking.channel)
    rig.twin.approvals = approvals  # type: ignore[assignment]
    assert code(await rig.call("drop", {"tables": ["a"]})) == "approvals_unavailable"
    assert rig.ran == []
    away.rename(rig.socket)
    assert text(await rig.call("drop", {"tables": ["a"]})) == "dropped a"
    await approvals.close()
