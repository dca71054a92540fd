"""A joined edge's way to the hub: what it fetches lies in its own home, where its agent looks and where it stays.

The hub holds a question open until there is news, so a change is here as fast as at the instance's own edge. While
the hub is away the files stay as they are; they age, and the agent refuses what their age no longer allows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import httpx2

from pegboard_hub.common.asking import ANSWER_S, Hearing, News, ask_sealed, keep_asking, read_news, words_of
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.joining import EdgeWord, JoinFile, digest_of
from pegboard_hub.common.tasks import end

logger = logging.getLogger(__name__)

DOOR = "/internal/v1/joined-edge"

WORD_S = 5.0
"""How often the edge says how it is when nothing has changed, in seconds."""

LOOK_S = 0.25
"""How often it sees whether something has, in seconds."""


class Removed(Exception):
    """The hub has removed this edge, and proved that it is the hub that says so."""


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
    """

    def __init__(
        self, home: Home, join: JoinFile, door: httpx2.AsyncBaseTransport, word: Callable[[], EdgeWord]
    ) -> None:
        self.tried = asyncio.Event()
        self.heard_at: float | None = None
        self._hearing = Hearing(
            logger, "the hub gives no news, and this edge goes on with what it has: %s", "the hub gives news again"
        )
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

    @property
    def fault(self) -> str:
        """Why the hub's answers do not come; empty when they do."""
        return self._hearing.fault

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Removed: the hub has removed this edge; what it decided with is gone from its home.
        """
        telling = asyncio.create_task(self._keep_telling())
        try:
            await keep_asking(self.ask, self._hearing, self.tried.set)
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
        answer = await ask_sealed(self._client, f"{DOOR}/bundle", self._digest, {"tag": self._tag})
        if answer.status_code == httpx2.codes.GONE:
            self._forget()
            raise Removed(words_of(answer))
        answer.raise_for_status()
        news = read_news(answer)
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

    def _keep(self, news: News) -> None:
        """The keys first: the bundle is verified with them."""
        if not self._home.bundle_keys.exists() or self._home.bundle_keys.read_text(encoding="utf-8") != news.keys:
            replace_file(self._home.bundle_keys, news.keys)
        if news.bundle is not None:
            replace_file(self._home.edge_bundle, news.bundle)
        self._tag = news.tag

    def _forget(self) -> None:
        """Leave nothing to start from: an edge that was removed serves nobody, also when the hub is away."""
        for path in (self._home.edge_bundle, self._home.edge / "accepted.jws", self._home.bundle_keys):
            path.unlink(missing_ok=True)

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
