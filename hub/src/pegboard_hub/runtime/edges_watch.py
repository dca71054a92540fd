"""What the hub says of joined edges, for the status of the instance."""

from __future__ import annotations

import asyncio

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.common.home import Home
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.status import StatusFile

DOOR = "/internal/v1/edges"
LOOK_S = 2.0
"""How often the hub is asked, in seconds."""

WORDS = {"away": "is away", "unready": "takes no calls"}


class EdgeSeen(BaseModel):
    """One joined edge, as far as the status tells of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    joined: bool
    standing: str
    version: int | None = None
    heard_at: int | None = None
    faults: tuple[str, ...] = ()
    spiffe_id: str = ""

    @property
    def trouble(self) -> tuple[str, ...]:
        """What is wrong with it, a line each."""
        word = WORDS.get(self.standing)
        return (*((word,) if word else ()), *self.faults)


class _Answer(BaseModel):
    edges: tuple[EdgeSeen, ...]


class EdgesDoor:
    """Asks the hub which edges there are."""

    def __init__(self, home: Home) -> None:
        self._operator_token = home.operator_token
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(home.internal_socket), verify=NO_TLS),
            base_url="http://hub",
            timeout=5,
        )

    async def ask(self) -> tuple[EdgeSeen, ...] | None:
        """The joined edges that there are; None when the hub does not answer."""
        try:
            token = self._operator_token.read_text(encoding="utf-8").strip()
            answer = await self._client.get(DOOR, headers={"authorization": f"Bearer {token}"})
            found = _Answer.model_validate_json(answer.raise_for_status().content).edges
        except (httpx2.HTTPError, OSError, ValidationError):
            return None
        return tuple(each for each in found if each.joined and each.standing != "removed")

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class EdgesWatch:
    """Asks the hub now and then; while it does not answer, its last word stands."""

    def __init__(self, home: Home, report: Reporter, status: StatusFile) -> None:
        self._report = report
        self._status = status
        self._told: dict[str, tuple[str, ...]] = {}
        self._door = EdgesDoor(home)

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._door.close()

    async def look(self) -> None:
        """Ask once, and report what is new of troubles."""
        there = await self._door.ask()
        if there is None:
            return
        self._status.joined = [each.model_dump() for each in there]
        for edge in there:
            if (trouble := edge.trouble) != self._told.get(edge.name, ()):
                for line in trouble:
                    self._report.problem(f"edge {edge.name}: {line}")
                if not trouble:
                    self._report.step(f"edge {edge.name} is as it should be again")
            self._told[edge.name] = trouble
