"""How a server's bundle comes into its pod: as a joined edge's does (decision 40), with the server's channel.

Every answer is sealed with the channel's token, so that keys may come with the bundle.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import httpx2

from pegboard_hub.common.asking import ANSWER_S, Hearing, ask_sealed, keep_asking, read_news
from pegboard_hub.common.home import replace_file
from pegboard_hub.common.joining import digest_of

logger = logging.getLogger(__name__)

BUNDLE: Final = "/internal/v1/pod/bundle"
"""At the hub's internal door: GET with `tag`; held open until there is another bundle."""

BUNDLE_FILE: Final = "bundle.jws"
KEYS_FILE: Final = "bundle-keys.json"


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
        self._hearing = Hearing(
            logger,
            "the hub gives no bundle, and the server goes on with what it has: %s",
            "the hub gives bundles again",
        )
        self._client = httpx2.AsyncClient(
            transport=door,
            base_url="http://hub",
            timeout=ANSWER_S,
            headers={"authorization": f"Bearer {channel}"},
        )

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await keep_asking(self.ask, self._hearing)
        finally:
            await self._client.aclose()

    async def ask(self) -> bool:
        """Ask once. True where there was another bundle.

        Raises:
            NotTheHub: the answer is not the hub's to this question.
            httpx2.HTTPError: there was none.
            OSError: a file cannot be written.
        """
        answer = await ask_sealed(self._client, BUNDLE, self._digest, {"tag": self._tag})
        answer.raise_for_status()
        news = read_news(answer)
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
