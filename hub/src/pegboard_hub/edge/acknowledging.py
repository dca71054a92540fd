"""Telling the hub which bundle Envoy really uses, which is later than the agent's having read it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx2

from pegboard.core.acknowledgement import Acknowledgement
from pegboard_hub.edge.publish import Publisher

logger = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often Envoy is asked while something is not acknowledged yet, in seconds."""

SETTLE_S = 0.5
"""Seconds between Envoy's word that it has a configuration and ours: its workers take it over one after the other."""

LONGEST_WAIT_S = 5.0
"""The longest pause between two attempts while the hub is away, in seconds."""


class Acknowledging:
    """Tells the hub of each bundle once, when Envoy uses all that follows from it."""

    def __init__(self, publisher: Publisher, hub_socket: Path, credential: Path, door: str) -> None:
        self._publisher = publisher
        self._credential = credential
        self._door = f"{door}/acknowledgement"
        self._published: Acknowledgement | None = None
        self._told: Acknowledgement | None = None
        self._news = asyncio.Event()
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(hub_socket)), base_url="http://hub", timeout=10
        )

    def published(self, word: Acknowledgement | None) -> None:
        """Note what the files say that Envoy was given."""
        if word != self._published:
            self._published = word
            self._news.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        wait, fault = LOOK_S, ""
        while True:
            if self._published is None or self._published == self._told:
                await self._news.wait()
            self._news.clear()
            try:
                await self.tell()
                wait, fault = LOOK_S, ""
            except Exception as error:  # whatever it is: an edge that falls silent would hold up every rotation
                wait = min(wait * 2, LONGEST_WAIT_S)
                if (words := str(error) or type(error).__name__) != fault:
                    logger.warning("the bundle in use could not be told to the hub yet: %s", words)
                fault = words
            await asyncio.sleep(wait)

    async def tell(self) -> None:
        """Tell the hub when Envoy uses another bundle than was told.

        Raises:
            httpx2.HTTPError: the hub cannot be reached, or did not take it.
            OSError: the credential cannot be read.
        """
        word = self._published
        if word is None or word == self._told or not await self._publisher.used():
            return
        await asyncio.sleep(SETTLE_S)
        token = self._credential.read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {token}"}
        response = await self._client.post(self._door, json=word.model_dump(mode="json"), headers=headers)
        response.raise_for_status()
        self._told = word

    async def close(self) -> None:
        """Close the connection to the hub."""
        await self._client.aclose()
