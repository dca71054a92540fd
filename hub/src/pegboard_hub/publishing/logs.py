"""Lines of servers' logs, from the runtime that has them. The hub keeps none."""

from __future__ import annotations

from typing import Final

import httpx2
from pydantic import ValidationError

from pegboard.core.errors import PegboardError
from pegboard_hub.common.home import Home
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.common.runtimes import MACHINE, known_runtimes, runtime_of
from pegboard_hub.publishing.orders import LOGS, LogPage, LogQuestion

ANSWER_S: Final = 10.0
"""Seconds for which a runtime is waited for: it reads files, and those may be large."""


class LogsAway(PegboardError):
    """The runtime does not answer; nobody knows what its logs say."""


class Logs:
    """Asks the runtime that runs a server, at that one's own door.

    Args:
        home: where those doors are, and which runtimes there are.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def ask(self, question: LogQuestion) -> LogPage:
        """The lines that fit, oldest first.

        Raises:
            LogsAway: the runtime does not answer.
        """
        runtime = runtime_of(known_runtimes(self._home.runtimes), question.server.partition("/")[0])
        named = "the runtime" if runtime == MACHINE else f"the runtime {runtime}"
        query = {name: value for name, value in question.model_dump(mode="json").items() if value}
        try:
            answer = await self._opened(runtime).get(LOGS, params=query)
            if answer.status_code != 200:
                raise LogsAway(f"{named} answers {answer.status_code}")
            return LogPage.model_validate_json(answer.content)
        except (httpx2.HTTPError, ValidationError) as error:
            raise LogsAway(f"{named} does not answer") from error

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.aclose()

    def _opened(self, runtime: str) -> httpx2.AsyncClient:
        if runtime not in self._clients:
            door = self._home.runtime_socket if runtime == MACHINE else self._home.runtime_door(runtime)
            transport = httpx2.AsyncHTTPTransport(uds=str(door), verify=NO_TLS)
            self._clients[runtime] = httpx2.AsyncClient(
                transport=transport, base_url="http://runtime", timeout=ANSWER_S
            )
        return self._clients[runtime]
