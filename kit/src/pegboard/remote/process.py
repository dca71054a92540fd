"""Which server processes are over, told to the hub once it has all that they wrote.

What a process had claimed and did not tell the end of is unknown from then on: it may have run. So the next process
tells it, and not before the old spool was delivered whole. A process is over when the lock on its file beside the
spool is free, which the kernel sees to however it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

from pegboard.core.approval import OVER, Over
from pegboard.remote.door import hub_client

logger = logging.getLogger(__name__)

SUFFIX = ".process"
_EARLY = ".process-new"

LOOK_S = 2.0
"""How often to look for processes that are over, while there are others, in seconds."""

LONGEST_WAIT_S = 30.0
"""The longest pause between two attempts while the hub is away, in seconds."""

MOST_AT_ONCE = 100


class OwnProcess:
    """This process, known by an id that no other has, for as long as it lives."""

    def __init__(self, spool: Path) -> None:
        """Take note of it beside the spool.

        A disk that does not take the note keeps no server from starting: what it had claimed is unknown to the hub
        some minutes after it died all the same.
        """
        self.id = uuid4().hex
        self._file = -1
        # Locked before it has a name that others look for: one that is not locked yet would count as over.
        early = spool / f"{self.id}{_EARLY}"
        try:
            self._file = os.open(early, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            early.rename(spool / f"{self.id}{SUFFIX}")
        except OSError as error:
            logger.warning("this process could not be noted beside the spool: %s", error.strerror)

    def close(self) -> None:
        """Let the lock go, as the end of the process does. Its file stays, for the next process to tell of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class OthersOver:
    """Tells the hub of the processes of one spool that are over."""

    def __init__(
        self,
        spool: Path,
        own: OwnProcess,
        delivered_whole: Callable[[], Awaitable[None]],
        hub_socket: Path,
        channel_token: str,
    ) -> None:
        """Prepare; nothing is told yet.

        Args:
            spool: the folder with their files.
            own: which of them is this one.
            delivered_whole: waits until the hub has all that stands in the spool when it is called.
            hub_socket: the hub's internal door.
            channel_token: says whose processes they are.
        """
        self._spool = spool
        self._own = own
        self._delivered_whole = delivered_whole
        self._client = hub_client(hub_socket, channel_token)

    async def run(self) -> None:
        """Tell until there are no others. Those that start after this one tell of it."""
        wait, fault = LOOK_S, ""
        while self._others():
            try:
                await self.tell()
                wait, fault = LOOK_S, ""
            except Exception as error:  # whatever it is: those who asked for their calls must learn of their end
                wait = min(wait * 2, LONGEST_WAIT_S)
                if (words := str(error) or type(error).__name__) != fault:
                    logger.warning("processes that are over could not be told to the hub yet: %s", words)
                fault = words
            await asyncio.sleep(wait)

    async def tell(self) -> None:
        """Tell of those that are over now.

        Raises:
            httpx2.HTTPError: the hub cannot be reached, or did not take it.
            OSError: their files cannot be read.
        """
        over = [path for path in self._others() if _is_over(path)][:MOST_AT_ONCE]
        if not over:
            return
        await self._delivered_whole()
        told = Over(processes=tuple(path.name.removesuffix(SUFFIX) for path in over))
        response = await self._client.post(OVER, json=told.model_dump(mode="json"))
        response.raise_for_status()
        for path in over:
            path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Close the connection to the hub."""
        await self._client.aclose()

    def _others(self) -> list[Path]:
        return sorted(path for path in self._spool.glob(f"*{SUFFIX}") if path.name != f"{self._own.id}{SUFFIX}")


def _is_over(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # another process told of it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
