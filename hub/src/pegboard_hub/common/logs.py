"""The hub's log: one JSON object a line on stderr. Tokens never reach it, because nobody passes them in."""

from __future__ import annotations

import logging
import sys

from pegboard.core.logs import JsonFormatter


def configure_logging(level: str = "INFO") -> None:
    """Send every log record of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Which dialect a migration runs on is news to nobody; that one runs is logged by the hub itself.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It tells of every request it makes; what comes of them is told by who makes them.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # It tells what the other side's headers say, which is nobody's word but theirs.
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
    # It tells of every statement with all that it was given: people, and codes that wait to be typed.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
