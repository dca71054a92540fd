"""The command at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from contextlib import suppress


class Terminal:
    """The command, with a person at its terminal."""

    def __init__(self, *line: str) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-m", "pegboard.cli", *line]
        environment = os.environ | {"BROWSER": ""}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, text=True, env=environment
        )
        os.close(slave)
        self.seen = ""

    def until(self, words: str) -> None:
        """Read on until the words are on the screen."""
        while words not in self.seen:
            assert select.select([self._master], [], [], 60)[0], self.seen
            self.seen += os.read(self._master, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str]:
        """Status, and what went to stdout. What is left on the screen is read, so that nothing blocks."""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(self._master, 4096):
                self.seen += chunk.decode()
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._master)
