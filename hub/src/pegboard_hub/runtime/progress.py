"""What a person reads in the terminal while an instance starts, runs and stops."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress

import typer

LONGEST_STEP = 2_000
"""Characters of a line of progress."""


class Progress:
    """Lines of progress on stdout, each with the seconds since the start."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._began = time.monotonic()

    def step(self, line: str) -> None:
        """A step on the way."""
        if not self._quiet:
            self.problem(line)

    def problem(self, line: str) -> None:
        """What needs the operator; said in quiet too. It may quote an author's code, so it stays one line of text."""
        elapsed = f"[{time.monotonic() - self._began:5.1f} s] "
        self._print(typer.style(elapsed, dim=True) if sys.stdout.isatty() else elapsed, line)

    def say(self, line: str) -> None:
        """A line without the time."""
        if not self._quiet:
            self._print("", line)

    def _print(self, before: str, line: str) -> None:
        """What nobody can read, as on a full disk or when the reader is gone, must not end what it tells of."""
        with suppress(OSError):
            print(before, _text(line), sep="", flush=True)


def _text(line: str) -> str:
    """One line of text, whatever an author's code put into it."""
    return "".join(sign if sign.isprintable() else " " for sign in line[:LONGEST_STEP])


class ProgressHandler(logging.Handler):
    """Shows what the parts log of trouble as lines of progress, each with the part it comes from."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record; of an unexpected error the whole trace, which only a person can read."""
        part = "edge: " if record.name.startswith("pegboard_hub.edge.") else ""
        trace = logging.Formatter().formatException(record.exc_info).splitlines() if record.exc_info else []
        for line in (record.getMessage(), *trace):
            self._progress.problem(f"{part}{line}")
