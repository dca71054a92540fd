"""What an author is told to do about each way in which a server's process ends: a table, by how it is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

LOGGER: Final = "pegboard.runtime"
"""Under which the platform's own lines stand in a server's log."""

_MENDS: Final = (
    ("resources.memory_mb", "find out what it keeps, or ask for more there and submit again"),
    ("resources.processes", "end what it starts, use fewer threads, or ask for more there and submit again"),
    ("resources.open_files", "close what it opens (`with`), or ask for more there and submit again"),
    ("resources.disk_mb", "remove what it does not need any more, also at its start, or ask for more there"),
    (
        "was not ready",
        "see what it waits for when it is imported or started (nothing but its tools may take long), or whether it "
        "closes the socket that it was handed",
    ),
    (
        "did not answer",
        "something holds up its event loop: a slow tool is a plain `def`, or awaits what it waits for",
    ),
    ("SIGKILL", "if nobody ended it, the kernel did, which it does for memory (resources.memory_mb)"),
    ("status 3", "its code declares other tools than when it was submitted: let them not depend on where it runs"),
    ("Read-only file system", "write to the folder PEGBOARD_STATE, which stays, or to the one it is started in"),
    ("ended with status", "its last words say why"),
    ("was ended by", "code that is not Python's can end so; its last words may say more"),
)


def mend_of(what: str) -> str:
    """What to do about an end, as the supervisor says it; empty where nothing is known of it."""
    return next((mend for sign, mend in _MENDS if sign in what), "")


def line_of(what: str) -> str:
    """A line for the server's own log, in the form of the kit's: why its process is no more, and what to do."""
    mend = f". To mend it: {found}" if (found := mend_of(what)) else ""
    return json.dumps(
        {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "error",
            "logger": LOGGER,
            "message": f"this process is over, and another is started: it {what}{mend}",
        }
    )
