"""Asking the hub over a way on which somebody else might answer: by sealed answers, for as long as it takes.

An answer is sealed with the asker's credential and a number made for this one question (`common.joining`): who else
answers can make nobody believe anything, and can repeat no old answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.common.joining import NONCE_HEADER, PROOF_HEADER, is_proved, new_nonce
from pegboard_hub.common.no_tls import NO_TLS

ANSWER_S: Final = 8.0
"""How long an answer may take, in seconds: the hub holds a question open for five."""

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0
"""The first and the longest pause between two questions while the hub is away, in seconds."""


class NotTheHub(Exception):
    """Whoever answered does not know who asks, so nothing of it counts."""


class News(BaseModel):
    """What decides about calls: a bundle, where it is another than that of the tag, and the keys that verify it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tag: str
    bundle: str | None
    keys: str


def at_socket(path: Path) -> httpx2.AsyncHTTPTransport:
    """The way to a hub whose internal door is a socket here."""
    return httpx2.AsyncHTTPTransport(uds=str(path), verify=NO_TLS)


async def ask_sealed(
    client: httpx2.AsyncClient, path: str, digest: str, params: Mapping[str, str] | None = None
) -> httpx2.Response:
    """Ask once; the answer is the hub's, whatever its status.

    Args:
        client: of the hub's internal door; it shows the credential.
        path: what is asked.
        digest: SHA-256 of the credential, in hex.
        params: of the question.

    Raises:
        NotTheHub: the answer is not the hub's to this question.
        httpx2.HTTPError: there was none.
    """
    nonce = new_nonce()
    answer = await client.get(path, params=dict(params or {}), headers={NONCE_HEADER: nonce})
    given = answer.headers.get(PROOF_HEADER, "")
    if not is_proved(given, digest, nonce, answer.status_code, answer.content):
        raise NotTheHub(words_of(answer))
    return answer


def read_news(answer: httpx2.Response) -> News:
    """The news in an answer.

    Raises:
        NotTheHub: they are of another version of Pegboard.
        ValueError: its keys are no JSON.
    """
    try:
        news = News.model_validate_json(answer.content)
    except ValidationError as error:
        raise NotTheHub("its answer is of another version of Pegboard") from error
    json.loads(news.keys)
    return news


def words_of(answer: httpx2.Response) -> str:
    """What an answer says is wrong, as far as it says it as the hub does."""
    try:
        return str(answer.json()["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}, without a proof that the hub answers"


class Hearing:
    """Whether the hub is heard; that it is not, and that it is again, is logged once each.

    Args:
        logger: of who asks.
        lost: what to log when it is not heard any more; `%s` is why.
        back: what to log when it is again.

    Attributes:
        fault: why it is not heard; empty while it is.
    """

    def __init__(self, logger: logging.Logger, lost: str, back: str) -> None:
        self.fault = ""
        self._logger = logger
        self._lost = lost
        self._back = back

    def say(self, fault: str) -> None:
        """Note how the last question went."""
        if fault and not self.fault:
            self._logger.warning(self._lost, fault)
        elif self.fault and not fault:
            self._logger.warning(self._back)
        self.fault = fault


async def keep_asking(
    ask: Callable[[], Awaitable[object]], hearing: Hearing, asked: Callable[[], None] = lambda: None
) -> None:
    """Ask again and again until cancelled, ever more slowly while the hub is away.

    Args:
        ask: asks once; the hub holds the question open.
        hearing: told of each.
        asked: called after each, whatever came of it.
    """
    wait = 0.0
    while True:
        try:
            await ask()
            hearing.say("")
            wait = 0.0
        except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
            wait = min(max(wait * 2, FIRST_WAIT_S), LONGEST_WAIT_S)
            hearing.say(str(error) or type(error).__name__)
        asked()
        await asyncio.sleep(wait)
