"""A server that asks for approvals, and people who decide, to test the hub with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import ASK, OVER, Answer, Requirement, State
from pegboard_hub.approvals.clock import SteadyClock
from pegboard_hub.approvals.model import Decider, Reader, Request, Verdict
from pegboard_hub.approvals.ports import What
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.web.parts import Parts
from tests.hub.company import Company, Hub

SERVER = "prod/presto"
URL = "http://localhost:8400/mcp/prod/presto"
GROUPS = {"ana": ("ads-eng",), "fay": ("finance",), "sol": ("security",), "pat": ("platform",), "gus": ()}

_calls = itertools.count(1)


@dataclass
class Asking:
    """A server on its channel.

    Attributes:
        hub: where it asks.
        channel: its token.
        release: of it.
    """

    hub: Hub
    channel: str
    release: str
    server: str = SERVER
    process: str = "process-1"
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, hub: Hub, company: Company, server: str = SERVER, release: str = "") -> Asking:
        """The server in its deployed release, or in another."""
        found = hub.parts.registry.current.servers[server].release
        digest = release or (found.digest if found is not None else "")
        return cls(hub, company.open_channel(server, digest), digest, server)

    async def token(self, person: str) -> str:
        """A caller's token, bound to this server."""
        if person not in self.tokens:
            resource = f"http://localhost:8400/mcp/{self.server}"
            self.tokens[person] = await self.hub.token(person, resource=resource)
        return self.tokens[person]

    async def question(
        self, person: str = "ana", *arguments: dict[str, Any], by: str = "security", **changes: Any
    ) -> dict[str, Any]:
        """What the server asks, as it goes over the wire."""
        requirement = {"by": by} | changes.pop("requirement", {})
        return {
            "token": await self.token(person),
            "tool": "run_query",
            "requirement": Requirement.model_validate(requirement).model_dump(mode="json"),
            "policy": "granted",
            "policy_version": "abc",
            "actions": [{"arguments": each} for each in arguments or ({"sql": "select 1"},)],
            "call_id": f"call-{next(_calls)}",
            "process": self.process,
            **changes,
        }

    async def send(self, question: dict[str, Any]) -> httpx2.Response:
        """Ask at the internal door."""
        headers = {"Authorization": f"Bearer {self.channel}"}
        return await self.hub.internal.post(ASK, json=question, headers=headers, timeout=60)

    async def ask(self, person: str = "ana", *arguments: dict[str, Any], **changes: Any) -> Answer:
        """Ask, and be answered."""
        response = await self.send(await self.question(person, *arguments, **changes))
        assert response.status_code == 200, response.text
        return Answer.model_validate(response.json())

    async def refused(self, person: str = "ana", *arguments: dict[str, Any], **changes: Any) -> tuple[int, str]:
        """Ask, and be refused: the status and the code."""
        response = await self.send(await self.question(person, *arguments, **changes))
        assert response.status_code >= 400, response.text
        return response.status_code, response.json()["error"]["code"]

    async def over(self, *processes: str) -> httpx2.Response:
        """Say that processes are over."""
        headers = {"Authorization": f"Bearer {self.channel}"}
        return await self.hub.internal.post(OVER, json={"processes": list(processes)}, headers=headers)


def states(answer: Answer) -> list[State]:
    """The states of what was asked for, in order."""
    return [each.state for each in answer.actions]


def reader(approvals: Approvals, person: str) -> Reader:
    """Somebody of the demo's people as a reader."""
    return approvals.reader(person, GROUPS[person])


def decider(person: str, groups: Sequence[str] | None = None) -> Decider:
    """Somebody of the demo's people, as their browser's session tells of them."""
    return Decider(person, GROUPS[person] if groups is None else tuple(groups), person.title())


async def seen(approvals: Approvals, id_: str) -> Request:
    """A request as operators and security see it."""
    found = await approvals.find(Reader("nobody", (), sees_all=True), id_)
    assert found is not None
    return found


async def decide(
    approvals: Approvals, person: str, *ids: str, approve: bool = True, why: str = "as agreed"
) -> list[Request]:
    """Decide on what is shown now."""
    verdicts = [Verdict(id_, (await seen(approvals, id_)).shown_digest, approve) for id_ in ids]
    return await approvals.decide(decider(person), verdicts, why)


class Time:
    """A clock that a test sets, and a count of seconds that only goes on."""

    def __init__(self, at_s: float = 1_800_000_000.0) -> None:
        self.wall = at_s
        self.count = 0.0

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.count += seconds

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.count)


class Told:
    """Remembers what is announced."""

    def __init__(self) -> None:
        self.acts: list[tuple[What, list[str]]] = []

    async def announce(self, _connection: AsyncConnection, what: What, requests: Sequence[Request]) -> None:
        """Remember it."""
        self.acts.append((what, [request.id for request in requests]))

    def of(self, what: What) -> list[list[str]]:
        return [ids for each, ids in self.acts if each == what]


def timed(parts: Parts, time: Time, told: Told, required: dict[str, Requirement], meter: HubMeter) -> Approvals:
    return Approvals(
        parts.database,
        parts.registry,
        parts.rotation.keys,
        parts.public_url,
        lambda: parts.reviewing.rights.roles,
        lambda: parts.identity.revocations.current,
        lambda: parts.stops.current,
        announcer=told,
        meter=meter,
        registered=lambda server, tool, asked: required.get(f"{server}/{tool}"),
        clock=time.clock(),
    )
