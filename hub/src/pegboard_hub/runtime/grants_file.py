"""The operator's grants file as the supervisor follows it, by the hub's own rule, so that both take over the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import GrantsFile, read_grants
from pegboard_hub.registry.sources import fingerprint, read_grants_file, settled


class GrantsFollower:
    """The last good grants file.

    Attributes:
        file: what it said.
        saves: how often it was saved since the start and was good.
    """

    def __init__(self, path: Path) -> None:
        """Read it for the first time.

        Raises:
            ConfigurationError: it cannot be read, or is wrong.
        """
        self._path = path
        self._seen = fingerprint(path)
        self.file: GrantsFile = _first(path)
        self.saves = 0

    async def look(self) -> None:
        """Take the file over if it was saved anew, stays as it is for a moment, and is good.

        One that is not good is the hub's to report, to page and terminal alike.
        """
        seen = await asyncio.to_thread(fingerprint, self._path)
        if seen == self._seen or not await settled(self._path, seen):
            return
        self._seen = seen
        try:
            names_some = bool(self.file.servers)
            self.file = await asyncio.to_thread(read_grants_file, self._path, names_some=names_some)
        except ConfigurationError:
            return
        self.saves += 1


def _first(path: Path) -> GrantsFile:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            str(path), [f"cannot be read: {error.strerror}", "name another with --grants"]
        ) from error
    return read_grants(text, str(path))
