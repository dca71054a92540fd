"""How a server's bundle comes into its pod: as a joined edge's does (decision 40), with the server's channel.

Every answer is sealed with the channel's token and a number made for this one question, so that keys may come with
the bundle: who else answers can make nobody take any, and can repeat no old answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Final

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.common.home import replace_file
from pegboard_hub.common.joining import NONCE_HEADER, PROOF_HEADER, digest_of, is_proved, new_nonce

logger = logging.getLogger(__name__)

BUNDLE: Final = "/internal/v1/pod/bundle"
"""At the hub's internal door: GET with `tag`; held open until there is another bundle."""

ANSWER_S: Final = 8.0
LONGEST_WAIT_S: Final = 2.0

BUNDLE_FILE: Final = "bundle.jws"
KEYS_FILE: Final = "bundle-keys.json"


class NotTheHub(Exception):
    """Whoever answered does not know this channel, so nothing of it counts."""


class _News(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    tag: str
    bundle: str | None
    keys: str


class BundleLink:
    """Fetches one server's bundle, and the keys it is verified with.

    Args:
        folder: where they are put; the server reads them there.
        channel: the server's channel token.
        door: the way to the hub's internal door.
    """

    def __init__(self, folder: Path, channel: str, door: httpx2.AsyncBaseTransport) -> None:
        self._folder = folder
        self._digest = digest_of(channel)
        self._tag = ""
        self._fault = ""
        self._client = httpx2.AsyncClient(
            transport=door,
            base_url="http://hub",
            timeout=ANSWER_S,
            headers={"authorization": f"Bearer {channel}"},
        )

    async def run(self) -> None:
        """Work until cancelled."""
        wait = 0.0
        try:
            while True:
                try:
                    await self.ask()
                    self._say("")
                    wait = 0.0
                except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
                    wait = min(max(wait * 2, 0.1), LONGEST_WAIT_S)
                    self._say(str(error) or type(error).__name__)
                await asyncio.sleep(wait)
        finally:
            await self._client.aclose()

    async def ask(self) -> bool:
        """Ask once. True where there was another bundle.

        Raises:
            NotTheHub: the answer is not the hub's to this question.
            httpx2.HTTPError: there was none.
            OSError: a file cannot be written.
        """
        nonce = new_nonce()
        answer = await self._client.get(BUNDLE, params={"tag": self._tag}, headers={NONCE_HEADER: nonce})
        given = answer.headers.get(PROOF_HEADER, "")
        if not is_proved(given, self._digest, nonce, answer.status_code, answer.content):
            raise NotTheHub(f"status {answer.status_code}, without a proof that the hub answers")
        answer.raise_for_status()
        try:
            news = _News.model_validate_json(answer.content)
            json.loads(news.keys)
        except ValidationError as error:
            raise NotTheHub("its answer is of another version of Pegboard") from error
        # The keys first: the bundle is verified with them.
        self._keep(KEYS_FILE, news.keys)
        if news.bundle is not None:
            self._keep(BUNDLE_FILE, news.bundle)
        self._tag = news.tag
        return news.bundle is not None

    def _keep(self, name: str, text: str) -> None:
        path = self._folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            replace_file(path, text)

    def _say(self, fault: str) -> None:
        if fault and not self._fault:
            logger.warning("the hub gives no bundle, and the server goes on with what it has: %s", fault)
        elif self._fault and not fault:
            logger.warning("the hub gives bundles again")
        self._fault = fault
