"""Joined edges to test the hub with: added at its internal door, each with a home and a link of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import edge_consumer
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.joining import EdgeWord, JoinFile
from pegboard_hub.edge.link import DOOR, Link
from pegboard_hub.edge.standing import EdgeStanding
from tests.hub.company import OPERATOR, Hub

OPERATORS = "/internal/v1/edges"


@dataclass
class Edge:
    """A joined edge without an Envoy: it reads what it is given as a real one does."""

    hub: Hub
    join: JoinFile
    home: Home
    link: Link
    standing: EdgeStanding
    state: str = "live"
    faults: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Of the bundle that it decides with; 0 for none."""
        self.standing.look()
        return self.standing.bundle.version if self.standing.bundle else 0

    def word(self) -> EdgeWord:
        """How it is."""
        return EdgeWord.model_validate({"state": self.state, "version": self.version, "faults": self.faults})

    async def acknowledge(self) -> httpx2.Response:
        """Say which bundle it uses."""
        self.standing.look()
        assert self.standing.used is not None
        return await self.post("acknowledgement", self.standing.used)

    async def post(self, path: str, body: Acknowledgement | EdgeWord | dict[str, Any]) -> httpx2.Response:
        """Say something at the hub's door."""
        sent = body if isinstance(body, dict) else body.model_dump(mode="json")
        headers = {"Authorization": f"Bearer {self.join.credential}"}
        return await self.hub.internal.post(f"{DOOR}/{path}", json=sent, headers=headers)


async def operator(hub: Hub, method: str, path: str = "", body: Any = None) -> httpx2.Response:
    """Ask as the operator."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    return await hub.internal.request(method, OPERATORS + path, json=body, headers=headers)


async def join(hub: Hub, folder: Path, name: str = "second") -> Edge:
    """Add an edge, and have its bundle written, as the hub's own task does."""
    answer = await operator(hub, "POST", body={"name": name})
    assert answer.status_code == 201, answer.text
    await hub.parts.registry.resign()
    return at(hub, JoinFile.model_validate(answer.json()), folder / name)


def at(hub: Hub, joined: JoinFile, folder: Path) -> Edge:
    """An edge with a join file, in a home of its own."""
    home = Home.open(folder)
    replace_file(home.join_file, joined.model_dump_json(), mode=0o600)
    standing = EdgeStanding(home, joined.public_url, ("127.0.0.1",), 8401, consumer=edge_consumer(joined.name))
    transport = hub.internal._transport
    edge = Edge(hub, joined, home, Link(home, joined, transport, lambda: edge.word()), standing)
    return edge


async def listed(hub: Hub) -> dict[str, Any]:
    """Every edge as the operator sees it, by name."""
    return {each["name"]: each for each in (await operator(hub, "GET")).json()["edges"]}
