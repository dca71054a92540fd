"""Whether a release does worse than the one before: counted from the ledger, compared by one table of rules.

| what | worse when | said from |
|---|---|---|
| errors | its share is more than `errors_percent` above, and chance alone does not explain it | 20 calls |
| median | `slower` times as long, and 50 ms at least | 20 calls that ended well, of each |
| denials | its share is more than `denials_percent` above, and chance alone does not explain it | 20 calls |

Where too little is known of the release before, half of the calls may fail, and nothing is said of the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.manifest import Rollout
from pegboard_hub.ledger.model import calls, outcomes
from pegboard_hub.publishing.rollout import MINIMUM_CALLS

MOST_CALLS: Final = 2_000
"""Calls of one release that are looked at: the newest."""

BEFORE_MS: Final = 7 * 24 * 3600 * 1000
"""Milliseconds before a switch in which the last release's calls count."""

UNENDED_MS: Final = 60_000
"""Milliseconds after which a call that has not ended counts as one that failed."""

NOISE_MS: Final = 50.0
"""Milliseconds of a median that nobody feels."""

UNKNOWN_BEFORE: Final = 50.0
"""Percent of calls that may fail where nobody knows how many did before."""

_Z: Final = 1.645
"""Of a one-sided 95 %: how sure a share must be before it counts as more."""

_FAILED: Final = frozenset({"tool_error", "crashed"})


@dataclass(frozen=True)
class Figures:
    """What is counted of one release.

    Attributes:
        calls: that were allowed, and ended or should have.
        errors: of them, that failed.
        denials: that its policies did not allow, beside `calls`.
        durations_ms: of calls that ended well.
    """

    calls: int = 0
    errors: int = 0
    denials: int = 0
    durations_ms: tuple[float, ...] = field(default=(), repr=False)

    @property
    def median_ms(self) -> float | None:
        """Of calls that ended well; None: there was none."""
        found = sorted(self.durations_ms)
        if not found:
            return None
        middle = len(found) // 2
        return found[middle] if len(found) % 2 else (found[middle - 1] + found[middle]) / 2

    @property
    def error_percent(self) -> float:
        """Of a hundred calls, those that failed."""
        return _percent(self.errors, self.calls)

    @property
    def denial_percent(self) -> float:
        """Of a hundred that came, those that were denied."""
        return _percent(self.denials, self.calls + self.denials)

    @property
    def enough(self) -> bool:
        """Whether anything is said of its rates."""
        return self.calls + self.denials >= MINIMUM_CALLS


@dataclass(frozen=True)
class Compared:
    """A release beside the one before.

    Attributes:
        worse: how it is worse, in words; empty: it is not, or nobody can say yet.
        unsaid: why nothing can be said yet; empty: it can.
    """

    after: Figures
    before: Figures
    worse: str = ""
    unsaid: str = ""


def compare(after: Figures, before: Figures, rollout: Rollout) -> Compared:
    """Whether a release does worse than the one before, by what its manifest allows."""
    if not after.enough:
        came = after.calls + after.denials
        return Compared(after, before, unsaid=f"{came} of {MINIMUM_CALLS} calls that are wanted have come")
    worse = _errors(after, before, rollout) or _median(after, before, rollout) or _denials(after, before, rollout)
    return Compared(after, before, worse)


def _errors(after: Figures, before: Figures, rollout: Rollout) -> str:
    if after.calls < MINIMUM_CALLS:
        return ""
    if before.calls < MINIMUM_CALLS:
        worse = after.error_percent > UNKNOWN_BEFORE
    else:
        worse = _more(after.errors, after.calls, before.errors, before.calls, rollout.errors_percent)
    if not worse:
        return ""
    return f"{after.error_percent:.1f} % of its calls fail, and {before.error_percent:.1f} % did before"


def _median(after: Figures, before: Figures, rollout: Rollout) -> str:
    if min(len(after.durations_ms), len(before.durations_ms)) < MINIMUM_CALLS:
        return ""
    now, then = after.median_ms or 0.0, before.median_ms or 0.0
    if now <= then * rollout.slower or now - then < NOISE_MS:
        return ""
    return f"half of its calls take {now:.0f} ms and more, and it was {then:.0f} ms before"


def _denials(after: Figures, before: Figures, rollout: Rollout) -> str:
    if before.calls + before.denials < MINIMUM_CALLS:
        return ""
    all_after, all_before = after.calls + after.denials, before.calls + before.denials
    if not _more(after.denials, all_after, before.denials, all_before, rollout.denials_percent):
        return ""
    return (
        f"its policies deny {after.denial_percent:.1f} % of the calls, and {before.denial_percent:.1f} % were before"
    )


def _more(count: int, of: int, count_before: int, of_before: int, allowed_percent: float) -> bool:
    """Whether a share is higher by more than is allowed, and surely higher at all (Wilson's lower bound)."""
    before = count_before / of_before
    return count / of - before > allowed_percent / 100 and _at_least(count, of) > before


def _at_least(count: int, of: int) -> float:
    share, square = count / of, _Z * _Z
    spread = _Z * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return (share + square / (2 * of) - spread) / (1 + square / of)


def _percent(count: int, of: int) -> float:
    return 100 * count / of if of else 0.0


async def figures(
    connection: AsyncConnection, server: str, release: str, since_ms: int, until_ms: int, now_ms: int
) -> Figures:
    """What the ledger has of one release in a time: of the newest `MOST_CALLS` that began in it."""
    ended = and_(outcomes.c.server == calls.c.server, outcomes.c.id == calls.c.id)
    query = (
        select(calls.c.kind, calls.c.policy, calls.c.at_ms, outcomes.c.status, outcomes.c.duration_ms)
        .outerjoin_from(calls, outcomes, ended)
        .where(
            calls.c.server == server,
            calls.c.release == release,
            calls.c.at_ms >= since_ms,
            calls.c.at_ms < until_ms,
            calls.c.kind.in_(("intent", "denial")),
        )
        .order_by(calls.c.at_ms.desc())
        .limit(MOST_CALLS)
    )
    all_, errors, denials = 0, 0, 0
    durations: list[float] = []
    for row in await connection.execute(query):
        if row.kind == "denial":
            denials += bool(row.policy)
            continue
        if row.status is None and now_ms - row.at_ms < UNENDED_MS:
            continue
        all_ += 1
        errors += row.status is None or row.status in _FAILED
        if row.status == "ok":
            durations.append(row.duration_ms)
    return Figures(all_, errors, denials, tuple(durations))


async def calls_per_minute(connection: AsyncConnection, server: str, now_ms: int) -> float:
    """How busy a server was in the last hour, as far as `MOST_CALLS` tell."""
    hour_ms = 3_600_000
    query = (
        select(calls.c.at_ms)
        .where(calls.c.server == server, calls.c.kind == "intent", calls.c.at_ms >= now_ms - hour_ms)
        .order_by(calls.c.at_ms.desc())
        .limit(MOST_CALLS)
    )
    times = list(await connection.scalars(query))
    if len(times) < MOST_CALLS:
        return len(times) / 60
    minutes: float = max((now_ms - times[-1]) / 60_000, 1 / 60)
    return len(times) / minutes
