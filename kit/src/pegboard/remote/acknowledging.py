"""Telling the hub which bundle this server uses, also while nobody calls it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.remote.bundle import BundleFile
from pegboard.remote.door import hub_client

logger = logging.getLogger(__name__)

DOOR = "/internal/v1/acknowledgement"

LOOK_S = 0.5
"""How often the bundle is looked at, in seconds: one stat call."""

LONGEST_WAIT_S = 5.0
"""The longest pause between two attempts while the hub is away, in seconds."""


class Acknowledging:
    """Tells each bundle that is taken into use, once. The channel token, not the word, says whose it is.

    A hub that was started anew signs every bundle again, so it is told again without asking.
    """

    def __init__(self, bundle: BundleFile, hub_socket: Path, channel_token: str) -> None:
        self._bundle = bundle
        self._told: Acknowledgement | None = None
        self._client = hub_client(hub_socket, channel_token)

    async def run(self) -> None:
        """Look and tell until cancelled."""
        wait, fault = LOOK_S, ""
        while True:
            try:
                await self.tell()
                wait, fault = LOOK_S, ""
            except Exception as error:  # whatever it is: a server that falls silent would hold up every rotation
                wait = min(wait * 2, LONGEST_WAIT_S)
                if (words := str(error) or type(error).__name__) != fault:
                    logger.warning("the bundle in use could not be told to the hub yet: %s", words)
                fault = words
            await asyncio.sleep(wait)

    async def tell(self) -> None:
        """Look at the bundle, and tell the hub when another is in use than it was told.

        Raises:
            httpx2.HTTPError: the hub cannot be reached, or did not take it.
        """
        used = self._bundle.look()
        if used is None or used == self._told:
            return
        response = await self._client.post(DOOR, json=used.model_dump(mode="json"))
        response.raise_for_status()
        self._told = used

    async def close(self) -> None:
        """Close the connection to the hub."""
        await self._client.aclose()
