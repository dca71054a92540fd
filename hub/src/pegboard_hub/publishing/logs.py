"""Lines of servers' logs, from the runtime that has them. The hub keeps none."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx2
from pydantic import ValidationError

from pegboard.core.errors import PegboardError
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.publishing.orders import LOGS, LogPage, LogQuestion

ANSWER_S: Final = 10.0
"""Seconds for which a runtime is waited for: it reads files, and those may be large."""


class LogsAway(PegboardError):
    """The runtime does not answer; nobody knows what its logs say."""


class Logs:
    """Asks this machine's runtime.

    Args:
        socket: the runtime's own door.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._client: httpx2.AsyncClient | None = None

    async def ask(self, question: LogQuestion) -> LogPage:
        """The lines that fit, oldest first.

        Raises:
            LogsAway: the runtime does not answer.
        """
        query = {name: value for name, value in question.model_dump(mode="json").items() if value}
        try:
            answer = await self._opened().get(LOGS, params=query)
            if answer.status_code != 200:
                raise LogsAway(f"the runtime answers {answer.status_code}")
            return LogPage.model_validate_json(answer.content)
        except (httpx2.HTTPError, ValidationError) as error:
            raise LogsAway("the runtime does not answer") from error

    async def close(self) -> None:
        """End the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            transport = httpx2.AsyncHTTPTransport(uds=str(self._socket), verify=NO_TLS)
            self._client = httpx2.AsyncClient(transport=transport, base_url="http://runtime", timeout=ANSWER_S)
        return self._client
