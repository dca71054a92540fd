"""A program at a terminal of its own, as a person starts it: some clients sign in nowhere else."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

ROWS, COLUMNS = 60, 200
STILL_S = 1.0
LONGEST_STILL_S = 8.0
ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[\[?>=][0-9;?>]*[A-Za-z]?|[\r\x00]")


class Terminal:
    """What was printed so far, and a keyboard."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._printed = b""

    @property
    def text(self) -> str:
        """Everything printed, without escape sequences."""
        return ESCAPES.sub("", self._printed.decode(errors="replace"))

    async def until(self, words: str, seconds: float = 40) -> None:
        """Read until `words` have been printed.

        Raises:
            AssertionError: they were not, in that time.
        """
        with anyio.move_on_after(seconds):
            while words not in self.text and await self._read():
                pass
        assert words in self.text, f"{words!r} was not printed:\n{self.text[-3000:]}"

    async def type(self, words: str) -> None:
        """Type, and press Enter once the program is done with the words: sooner, Enter counts as part of a paste."""
        os.write(self._handle, words.encode())
        await self.until(words)
        await self.still()
        await self.press("\r")

    async def still(self) -> None:
        """Read until nothing has been printed for a while; no longer than a program that draws without end needs."""
        read = True
        with anyio.move_on_after(LONGEST_STILL_S):
            while read:
                read = False
                with anyio.move_on_after(STILL_S):
                    read = await self._read()

    async def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._handle, key.encode())

    async def _read(self) -> bool:
        await anyio.wait_readable(self._handle)
        try:
            self._printed += (found := os.read(self._handle, 65536))
        except OSError:  # EIO: the program has closed it
            return False
        return bool(found)


@asynccontextmanager
async def at_terminal(
    command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[Terminal]:
    """Start a program at a terminal; it is ended afterwards."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        async with await anyio.open_process(
            command,
            env={**environment, "TERM": "xterm-256color"},
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(ours)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(ours)
