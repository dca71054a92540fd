"""What the hub says of notifications that cannot be delivered, for the status of the instance."""

from __future__ import annotations

import asyncio

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.common.home import Home
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.status import StatusFile

DOOR = "/internal/v1/notifications"
LOOK_S = 5.0
"""How often the hub is asked, in seconds."""


EVERYBODY = ""


class _Destination(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    trouble: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    destinations: tuple[_Destination, ...]
    fault: str = ""

    @property
    def troubles(self) -> dict[str, str]:
        """Who is not told, and why; everybody where the file is wrong."""
        return {EVERYBODY: self.fault} if self.fault else {e.name: e.trouble for e in self.destinations if e.trouble}


class NotifyWatch:
    """Asks the hub now and then; while it does not answer, its last word stands."""

    def __init__(self, home: Home, report: Reporter, status: StatusFile) -> None:
        self._operator_token = home.operator_token
        self._report = report
        self._troubles: dict[str, str] = {}
        self._status = status
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(home.internal_socket), verify=NO_TLS),
            base_url="http://hub",
            timeout=5,
        )

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._client.aclose()

    async def look(self) -> None:
        """Ask once, and report what is new of troubles, and that there are none any more."""
        try:
            token = self._operator_token.read_text(encoding="utf-8").strip()
            answer = await self._client.get(DOOR, headers={"authorization": f"Bearer {token}"})
            found = _Answer.model_validate_json(answer.raise_for_status().content)
        except (httpx2.HTTPError, OSError, ValidationError):
            return
        before, self._troubles = self._troubles, found.troubles
        self._status.notify = tuple(_line(name, why) for name, why in self._troubles.items())
        # How many messages wait changes all the time, and is news to nobody.
        for name in self._troubles.keys() - before.keys():
            self._report.problem(_line(name, self._troubles[name]))
        for name in before.keys() - self._troubles.keys():
            self._report.step(f"{name or 'everybody'} is told of approvals again")


def _line(name: str, why: str) -> str:
    return f"{name} is not told of approvals: {why}" if name != EVERYBODY else f"nobody is told of approvals: {why}"
