"""What a check has to say, and what all checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import server_of


class State(StrEnum):
    """How bad it is."""

    WELL = "well"
    WARNING = "warning"
    MEND = "must be mended"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: how bad it is.
        found: what was seen, in words an operator can act on; never a key, a token or a secret.
        mend: how to mend it; empty when it is well.
    """

    state: State
    found: str
    mend: str = ""


def well(found: str) -> Finding:
    """Nothing to do."""
    return Finding(State.WELL, found)


def warning(found: str, mend: str) -> Finding:
    """It works, and will not for ever, or not as well as it could."""
    return Finding(State.WARNING, found, mend)


def must_mend(found: str, mend: str) -> Finding:
    """Something does not work, or is open that must be closed."""
    return Finding(State.MEND, found, mend)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks look at, gathered once.

    Attributes:
        home: where the instance is, or would be; nothing in it needs to be there.
        exists: whether there is such a folder.
        port: of the edge.
        public_url: of the instance, as it was last started; empty when it never was.
        grants: the operator's grants file.
        status: what `pegboard status` knows (`runtime.looking.look`).
        offline: contact nothing outside this machine.
        isolation: what the operator asks for (PEGBOARD_ISOLATION).
        now: seconds since the epoch.
        sign_in: the sign-in file; None for the demo directory.
        notify: the notification file; None where nobody is told of approvals.
        database_url: of the PostgreSQL that the environment names, with its password; else empty.
    """

    home: Home
    exists: bool
    port: int
    public_url: str
    grants: Path
    status: dict[str, Any]
    offline: bool
    isolation: str
    now: float
    sign_in: Path | None = None
    notify: Path | None = None
    database_url: str = field(default="", repr=False)

    @property
    def server(self) -> str:
        """The PostgreSQL that the instance's data is in, as it was last started; empty where it is in the home."""
        return server_of(self.home)

    @property
    def running(self) -> bool:
        """Whether a supervisor has this home now."""
        return bool(self.status["running"])


Check = Callable[[Facts], Iterator[Finding]]


def plural(count: int, what: str) -> str:
    """`3 records`, `1 record`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def span(seconds: float) -> str:
    """A time span for people, in its largest unit that says something."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
