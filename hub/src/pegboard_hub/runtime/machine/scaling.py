"""How many replicas: a pure decision, made anew at each look."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pegboard_hub.publishing.orders import Scale

CALM_S = 60.0
"""Seconds for which fewer would have been enough, until there are fewer."""


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to decide on.

    Attributes:
        now: seconds of a clock that only goes on.
        calls: under way at all replicas together.
        in_use: whether anybody calls, or has a stream or a session open.
    """

    now: float
    calls: int
    in_use: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is remembered between two looks.

    Attributes:
        count: of replicas that there should be.
        used_at: when it was last in use.
        busy_at: when it last needed as many as there are.
    """

    count: int
    used_at: float
    busy_at: float


def scaled(before: Scaling, scale: Scale, load: Load) -> Scaling:
    """The next `Scaling`.

    More as soon as calls need them, fewer once they have not for a while. None where nobody has called for `idle_s`
    and `min` says so; what wakes it is a connection and not a look, so that none of these raises it from none.
    """
    used_at = load.now if load.in_use else before.used_at
    needed = math.ceil(load.calls / scale.in_flight)
    lowest = max(scale.min, 1)
    wanted = min(max(needed, lowest), scale.max if scale.max >= lowest else lowest)
    if scale.min == 0 and load.now - used_at > scale.idle_s:
        return Scaling(0, used_at, before.busy_at)
    if before.count == 0 and scale.min == 0:
        return replace(before, used_at=used_at)
    if wanted >= before.count:
        return Scaling(wanted, used_at, load.now)
    # What is above the most there may be ends at once; what calls merely do not need may be needed in a moment.
    count = min(before.count, max(scale.max, lowest))
    if load.now - before.busy_at > CALM_S or _lowered(before, scale):
        count = wanted
    return Scaling(count, used_at, before.busy_at if count == before.count else load.now)


def renewed(count: int, old: int, new: int, ready: int) -> tuple[int, int]:
    """How replicas of an earlier turn give way: one more than there should be at a time, and none ends before it may.

    Args:
        count: of replicas that there should be.
        old: of an earlier turn.
        new: of this turn.
        ready: of those, that answer.

    Returns:
        How many of the old ones there should be from now on, and how many new ones.
    """
    return min(old, max(count - ready, 0)), max(min(count, max(ready + 1, count - old)), min(new, count))


def _lowered(before: Scaling, scale: Scale) -> bool:
    return before.count > max(scale.max, 1)


def woken(before: Scaling, now: float) -> Scaling:
    """After somebody connected to one that has no replica."""
    return Scaling(max(before.count, 1), now, now)
