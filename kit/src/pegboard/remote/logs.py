"""The log of a server process: one JSON object a line on stderr, whatever the author's code prints included."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import BinaryIO, TextIO

from pegboard.core.logs import JsonFormatter
from pegboard.core.names import ServerName

EXTRA = "extra"
"""Key of a line under which an author's own fields stand."""

_LONGEST_PRINT = 65_536
"""Characters that wait for the end of their line."""


def configure_logging(server: ServerName | None, release: str = "", replica: str = "") -> None:
    """Send every log record of this process, and what is printed, to stderr as JSON.

    Args:
        server: whose process it is; None where the environment does not even say that.
        release: digest of what runs.
        replica: which of several processes of the server it is; empty where there is one.
    """
    whose = {"server": str(server) if server else "", "release": release[:12], "replica": replica}
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(JsonFormatter({name: value for name, value in whose.items() if value}, extra_under=EXTRA))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # What cannot be logged, as on a full disk, is lost. To say so would be to log: stderr is a log here (below), and
    # each line of that trace would make another.
    logging.raiseExceptions = False
    # Each delivery to the hub would be a line; what goes wrong with one is logged by the delivery itself.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    for name in ("stdout", "stderr"):
        beneath = getattr(sys, f"__{name}__")
        setattr(sys, name, _Printed(name, beneath))


class _Printed(io.TextIOBase):
    """What is printed to a stream, a log record a line: text from a caller in it can begin no line of its own.

    What goes past it, to the file descriptor beneath, stays as it is.
    """

    def __init__(self, name: str, beneath: TextIO) -> None:
        self._logger = logging.getLogger(name)
        self._beneath = beneath
        self._begun = ""
        self._one_at_a_time = threading.Lock()  # tools may print from threads

    @property
    def buffer(self) -> BinaryIO:
        """The stream of bytes beneath, for code that wants one."""
        return self._beneath.buffer

    def fileno(self) -> int:
        """The file descriptor beneath, for code that wants one, as to start a process."""
        return self._beneath.fileno()

    def writable(self) -> bool:
        """It is for writing alone."""
        return True

    def write(self, text: str) -> int:
        """Log each line that is complete."""
        with self._one_at_a_time:
            *lines, self._begun = (self._begun + text).split("\n")
            if len(self._begun) > _LONGEST_PRINT:
                lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            if line:
                self._logger.info("%s", line)
        return len(text)
