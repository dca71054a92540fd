"""How callers are shared out among the releases of one server, and legacy sessions kept with their replica.

Both are contracts between an edge and what is behind it, and between several edges: what one of them says, each other
understands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

BUCKETS = 100
"""Callers fall into as many buckets, by who they verifiably are; one is a percent."""

_MARK = 12
MARKED = rf"([0-9a-f]{{{_MARK}}})\..*"
"""A session's id as it is outside, with its mark as the first group."""

_MARKED = re.compile(MARKED, re.DOTALL)


class Share(NamedTuple):
    """The buckets of one release: from where the one before it ends up to `end`, without it."""

    release: str
    end: int


def shares(percents: Mapping[str, int], live: str) -> tuple[Share, ...]:
    """Which buckets go to which release.

    The releases beside the live one begin at bucket 0, each with as many as its percent; the live one has the rest.
    So while one's percent rises callers move to it, each of them once, and none moves back.

    Args:
        percents: of each release that has a replica.
        live: the release that the registry serves.

    Returns:
        releases with a share, those of the first buckets first; the last one ends at `BUCKETS`. None where every
        release stands at 0 %: nobody new goes anywhere.
    """
    taking = {release: percent for release, percent in sorted(percents.items()) if percent > 0}
    last = live if live in taking else next(reversed(taking), "")
    found: list[Share] = []
    end = 0
    for release, percent in taking.items():
        if release != last and end < BUCKETS:
            end = min(end + percent, BUCKETS)
            found.append(Share(release, end))
    if last and end < BUCKETS:
        found.append(Share(last, BUCKETS))
    return tuple(found)


def mark_of(address: str) -> str:
    """What a replica's sessions are known by outside: it says nothing of where the replica is."""
    return hashlib.sha256(address.encode()).hexdigest()[:_MARK]


def without_mark(session: str) -> str:
    """The id that the server itself gave a session."""
    return session[_MARK + 1 :] if _MARKED.match(session) else session
