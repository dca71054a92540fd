"""Asking the hub whether people said yes, at its internal door."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import httpx2
from pydantic import ValidationError

from pegboard.core.approval import ASK, Answer, Ask
from pegboard.core.errors import ApprovalImpossible, ApprovalsAway
from pegboard.remote.door import ANSWER_S, hub_client

logger = logging.getLogger(__name__)

PAUSES_S = (0.1, 0.4, 1.5)
"""How long to wait before asking once more, in seconds. The call's id is with it, so nothing is claimed twice."""

MOST_WAITING = 64
"""Calls of one server that are held open at once; those beyond are told to come again."""

_AGAIN = frozenset({429, 502, 503, 504})
"""Answers of a hub that is starting, busy, or has just lost its database."""

_REFUSED = frozenset({403, 413, 422, 429})
"""Answers of a hub that takes the question, asks nobody, and says why: the caller was stopped, is a service, has too
many requests that wait, and the like."""


class HubApprovals:
    """Asks over the hub's internal socket. One HTTP client serves all calls."""

    def __init__(self, hub_socket: Path, channel_token: str) -> None:
        """Prepare; nothing is sent yet.

        Args:
            hub_socket: the hub's internal door.
            channel_token: says whose calls they are.
        """
        self._waiting = 0
        self._client = hub_client(hub_socket, channel_token)

    async def ask(self, ask: Ask) -> Answer:
        """Find or make the requests of a call, and claim those that were approved for it.

        Where the answer is lost on its way, the same is asked again.

        Raises:
            ApprovalsAway: the hub does not answer, or says something else.
            ApprovalImpossible: it refuses to ask anybody.
        """
        if ask.wait_s and self._waiting >= MOST_WAITING:
            ask = ask.model_copy(update={"wait_s": 0})
        self._waiting += bool(ask.wait_s)
        try:
            return await self._ask(ask)
        finally:
            self._waiting -= bool(ask.wait_s)

    async def close(self) -> None:
        """Close the connections to the hub."""
        await self._client.aclose()

    async def _post(self, ask: Ask) -> httpx2.Response:
        # Not `json=`: what was bound is sent as pydantic writes it, once.
        content, timeout = ask.model_dump_json().encode(), httpx2.Timeout(ANSWER_S, read=ANSWER_S + ask.wait_s)
        return await self._client.post(
            ASK, content=content, headers={"content-type": "application/json"}, timeout=timeout
        )

    async def _ask(self, ask: Ask) -> Answer:
        loop, fault = asyncio.get_running_loop(), ""
        until = loop.time() + ask.wait_s
        for pause in (*PAUSES_S, None):
            try:
                response = await self._post(ask)
            except (OSError, httpx2.HTTPError) as error:
                fault = f"the hub does not answer ({type(error).__name__})"
            else:
                if response.status_code not in _AGAIN or _refusal(response):
                    return _answer(response)
                fault = f"the hub answered {response.status_code}"
            if pause is not None:
                await asyncio.sleep(pause)
                # The caller waits no longer in all than was asked for: their token ends.
                ask = ask.model_copy(update={"wait_s": max(0.0, until - loop.time())})
        raise ApprovalsAway(fault)


def _answer(response: httpx2.Response) -> Answer:
    if why := _refusal(response):
        raise ApprovalImpossible(why)
    if response.status_code != httpx2.codes.OK:
        # What it says stands in the hub's own log too; the caller's token is in neither.
        raise ApprovalsAway(f"the hub answered {response.status_code}: {response.text[:300]!r}")
    try:
        return Answer.model_validate_json(response.content)
    except ValidationError as error:
        raise ApprovalsAway("the hub answered something that cannot be read") from error


def _refusal(response: httpx2.Response) -> str:
    """Why nobody is asked, and what to do; empty where it says nothing of that."""
    if response.status_code not in _REFUSED:
        return ""
    try:
        error = json.loads(response.content)["error"]
        told = (error["message"], error.get("what_to_do", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return " ".join(told).strip() if all(isinstance(each, str) for each in told) else ""
