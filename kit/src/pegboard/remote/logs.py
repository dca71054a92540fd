"""The log of a server process: one JSON object a line on stderr, whatever the author's code prints included."""

from __future__ import annotations

import io
import logging
import sys

from pegboard.core.logs import JsonFormatter
from pegboard.core.names import ServerName

EXTRA = "extra"
"""Key of a line under which an author's own fields stand."""

_LONGEST_PRINT = 65_536
"""Characters that wait for the end of their line."""


def configure_logging(server: ServerName | None) -> None:
    """Send every log record of this process, and what is printed, to stderr as JSON.

    Args:
        server: whose process it is; None where the environment does not even say that.
    """
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(JsonFormatter({"server": str(server)} if server else None, extra_under=EXTRA))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Each delivery to the hub would be a line; what goes wrong with one is logged by the delivery itself.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    sys.stdout = _Printed("stdout")
    sys.stderr = _Printed("stderr")


class _Printed(io.TextIOBase):
    """What is printed to a stream, a log record a line: text from a caller in it can begin no line of its own."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._begun = ""

    def writable(self) -> bool:
        """It is for writing alone."""
        return True

    def write(self, text: str) -> int:
        """Log each line that is complete."""
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > _LONGEST_PRINT:
            lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            if line:
                self._logger.info("%s", line)
        return len(text)
