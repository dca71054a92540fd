"""Which tokens the hub has issued: a line for each, before it is given out, so that others can be told from them.

The lines say a token's id, a digest of whose and what for it is, and when it ends; nothing that could be used. A file
a day and hub in `HOME/data/issued`, kept for a month. Who has a signing key can make tokens, and cannot add to these
files; so a call with a token that is not in them was made with a key that leaked (docs/decisions/0038).
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

KEPT_DAYS = 31

MOST_WAITING = 100_000
"""Lines that wait in memory for room on the disk; some 7 MB."""

_BEGUN = "#"
"""Before the time at which a hub began a file: from then on it has all."""


class Line(NamedTuple):
    """One token that was issued. `ends` is in seconds since the epoch; 0 where an older line does not say it."""

    token_id: str
    mark: str
    ends: int


def mark_of(sub: str, client_id: str, surface: str, audience: str, channel: str | None = None) -> str:
    """The digest of whose a token is and what for: a copied id does not make another token look issued."""
    told = (sub, client_id, surface, audience, *([channel] if channel is not None else []))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


class IssuedTokens:
    """The lines of one hub.

    Args:
        folder: of all hubs' files.
        name: of this hub.
        clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, name: str, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._name = name
        self._clock = clock
        self._day: date | None = None
        self._file: int | None = None
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)

    def note(self, claims: Mapping[str, Any]) -> None:
        """Write down a token that is about to be signed.

        What a full disk does not take waits in memory: people go on, and a hub that is killed meanwhile leaves tokens
        behind that look as if they had not been issued.
        """
        mark = mark_of(claims["sub"], claims["client_id"], claims["surface"], claims["aud"], claims.get("channel"))
        self._waiting.append(f"{claims['jti']} {mark} {claims['exp']}\n".encode())
        try:
            file = self._today()
            while self._waiting:
                line = self._waiting[0]
                if os.write(file, line) < len(line):
                    os.write(file, b"\n")  # a part of it: the whole follows, and a part is no line of ours
                    return
                self._waiting.popleft()
        except OSError as error:
            if len(self._waiting) == 1:
                log.warning("issued tokens are noted in memory until the disk takes it: %s", error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
        self._file = self._day = None

    def _today(self) -> int:
        now = self._clock()
        day = _day(now)
        if self._file is None or day != self._day:
            self.close()
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"{day.isoformat()}.{self._name}.log"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._day = day
            os.write(self._file, f"{_BEGUN} {now:.3f}\n".encode())
            self._forget(day)
        return self._file

    def _forget(self, today: date) -> None:
        for path in self._folder.glob(f"*.{self._name}.log"):
            if path.name[:10] < (today - timedelta(days=KEPT_DAYS)).isoformat():
                path.unlink(missing_ok=True)


def known_since(folder: Path) -> float | None:
    """From when on there are lines for every token, in seconds since the epoch; None while there are none."""
    first = min(folder.glob("*.log"), default=None, key=lambda path: path.name[:10])
    if first is None:
        return None
    with first.open(encoding="ascii", errors="replace") as lines:
        return float(lines.readline().removeprefix(f"{_BEGUN} ") or 0)


def issued_since(folder: Path, since: float) -> Iterator[Line]:
    """Every token that was issued since a time, and some from before.

    Raises:
        OSError: a file cannot be read.
    """
    for path in sorted(folder.glob("*.log")):
        if path.name[:10] < _day(since).isoformat():
            continue
        with path.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                token_id, _, rest = line.rstrip("\n").partition(" ")
                mark, _, ends = rest.partition(" ")
                if token_id != _BEGUN:
                    yield Line(token_id, mark, int(ends) if ends.isascii() and ends.isdigit() else 0)


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()
