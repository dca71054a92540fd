"""A joined edge's way to the hub: what it fetches lies in its own home, where its agent looks and where it stays.

The hub holds a question open until there is news, so a change is here as fast as at the instance's own edge. While
the hub is away the files stay as they are; they age, and the agent refuses what their age no longer allows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.joining import (
    NONCE_HEADER,
    PROOF_HEADER,
    EdgeWord,
    JoinFile,
    digest_of,
    is_proved,
    new_nonce,
)
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.common.tasks import end

logger = logging.getLogger(__name__)

DOOR = "/internal/v1/joined-edge"

ANSWER_S = 8.0
"""How long an answer may take, in seconds: the hub holds a question open for five."""

LONGEST_WAIT_S = 2.0
"""The longest pause between two questions while the hub is away, in seconds."""

WORD_S = 5.0
"""How often the edge says how it is when nothing has changed, in seconds."""

LOOK_S = 0.25
"""How often it sees whether something has, in seconds."""

MOST_BYTES = 256 * 1024 * 1024
"""The longest answer that is read; with ten thousand servers a bundle has some six megabytes."""


class Removed(Exception):
    """The hub has removed this edge, and proved that it is the hub that says so."""


class NotTheHub(Exception):
    """Whoever answered does not know this edge, so nothing of it counts."""


class _News(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    tag: str
    bundle: str | None
    keys: str


def at_socket(path: Path) -> httpx2.AsyncHTTPTransport:
    """The way to a hub on this machine."""
    return httpx2.AsyncHTTPTransport(uds=str(path), verify=NO_TLS)


class Link:
    """Fetches what the edge decides with, and tells how the edge is.

    Args:
        home: the joined edge's own.
        join: what it was joined with.
        door: the way to the hub's internal door.
        word: how the edge is now.

    Attributes:
        tried: set once the hub has been asked for the first time, whatever came of it.
        heard_at: when the hub last answered, in seconds since the epoch; None: not since the start.
        fault: why the hub's answers do not come; empty when they do.
    """

    def __init__(
        self, home: Home, join: JoinFile, door: httpx2.AsyncBaseTransport, word: Callable[[], EdgeWord]
    ) -> None:
        self.tried = asyncio.Event()
        self.heard_at: float | None = None
        self.fault = ""
        self._home = home
        self._join = join
        self._digest = digest_of(join.credential)
        self._word = word
        self._tag = ""
        self._client = httpx2.AsyncClient(
            transport=door,
            base_url="http://hub",
            timeout=ANSWER_S,
            headers={"authorization": f"Bearer {join.credential}"},
        )

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Removed: the hub has removed this edge; what it decided with is gone from its home.
        """
        telling = asyncio.create_task(self._keep_telling())
        try:
            await self._keep_asking()
        finally:
            await end(telling)
            await self._client.aclose()

    async def ask(self) -> bool:
        """Ask for news once. True where there were any.

        Raises:
            Removed: as `run`.
            NotTheHub: the answer is not the hub's to this question.
            httpx2.HTTPError: there was none.
            OSError: a file cannot be written.
        """
        nonce = new_nonce()
        answer = await self._client.get(f"{DOOR}/bundle", params={"tag": self._tag}, headers={NONCE_HEADER: nonce})
        body, given = answer.content, answer.headers.get(PROOF_HEADER, "")
        if not is_proved(given, self._digest, nonce, answer.status_code, body):
            raise NotTheHub(_words(answer))
        if answer.status_code == httpx2.codes.GONE:
            self._forget()
            raise Removed(_words(answer))
        answer.raise_for_status()
        try:
            news = _News.model_validate_json(body)
        except ValidationError as error:
            raise NotTheHub("its answer is of another version of Pegboard") from error
        self.heard_at = time.time()
        self._keep(news)
        return news.bundle is not None

    async def tell(self, word: EdgeWord) -> None:
        """Tell the hub how the edge is.

        Raises:
            httpx2.HTTPError: it did not take it.
        """
        answer = await self._client.post(f"{DOOR}/word", json=word.model_dump(mode="json"))
        answer.raise_for_status()

    def _keep(self, news: _News) -> None:
        """The keys first: the bundle is verified with them."""
        json.loads(news.keys)
        if not self._home.bundle_keys.exists() or self._home.bundle_keys.read_text(encoding="utf-8") != news.keys:
            replace_file(self._home.bundle_keys, news.keys)
        if news.bundle is not None:
            replace_file(self._home.edge_bundle, news.bundle)
        self._tag = news.tag

    def _forget(self) -> None:
        """Leave nothing to start from: an edge that was removed serves nobody, also when the hub is away."""
        for path in (self._home.edge_bundle, self._home.edge / "accepted.jws", self._home.bundle_keys):
            path.unlink(missing_ok=True)

    async def _keep_asking(self) -> None:
        wait = 0.0
        while True:
            try:
                await self.ask()
                self._say("")
                wait = 0.0
            except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
                wait = min(max(wait * 2, 0.1), LONGEST_WAIT_S)
                self._say(str(error) or type(error).__name__)
            self.tried.set()
            await asyncio.sleep(wait)

    async def _keep_telling(self) -> None:
        told, at = None, 0.0
        while True:
            word = self._word()
            if word != told or time.monotonic() - at >= WORD_S:
                try:
                    await self.tell(word)
                    told, at = word, time.monotonic()
                except (httpx2.HTTPError, OSError):
                    pass  # that the hub is away is told where it is asked for news
                except Exception:
                    logger.exception("how this edge is could not be told")
            await asyncio.sleep(LOOK_S)

    def _say(self, fault: str) -> None:
        if fault and not self.fault:
            logger.warning("the hub gives no news, and this edge goes on with what it has: %s", fault)
        elif self.fault and not fault:
            logger.warning("the hub gives news again")
        self.fault = fault


def _words(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}, without a proof that the hub answers"
