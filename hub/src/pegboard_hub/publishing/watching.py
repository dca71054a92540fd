"""Whether a release does worse than the one before: counted from the ledger, compared by one table of rules.

| what | worse when | said from |
|---|---|---|
| errors | its share is more than `errors_percent` above, and chance alone does not explain it | 20 calls |
| median | `slower` times as long, and 50 ms at least | 20 calls that ended well, of each |
| denials | its share is more than `denials_percent` above, and chance alone does not explain it | 20 calls |

Where too little is known of the release before, half of the calls may fail, and nothing is said of the rest.

Any caller can make calls that fail, or that are denied. So what one caller alone meets is no reason to go back: some
calls of others must meet it as well, and nothing is said until they came. Only where nobody else has called the
server for a week does the word of one do; nobody else would meet the release that is taken back, either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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

FEW: Final = 5
"""Calls of others without which nothing is said of what one caller meets."""

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
        without: the same without one caller, by who that is: the one with most that went wrong, and with most calls.
    """

    calls: int = 0
    errors: int = 0
    denials: int = 0
    durations_ms: tuple[float, ...] = field(default=(), repr=False)
    without: Mapping[str, Figures] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, callers: Mapping[str, Figures]) -> Figures:
        """All callers' together."""
        if not callers:
            return cls()
        worst = max(callers, key=lambda sub: callers[sub].errors + callers[sub].denials)
        busiest = max(callers, key=lambda sub: callers[sub].calls + callers[sub].denials)
        without = {
            one: _sum(each for sub, each in callers.items() if sub != one) for one in dict.fromkeys((worst, busiest))
        }
        return replace(_sum(callers.values()), without=without)

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


def compare(after: Figures, before: Figures, rollout: Rollout, only: str) -> Compared:
    """Whether a release does worse than the one before.

    Args:
        after: of the newer release.
        before: of the one before.
        rollout: what the newer one's manifest allows.
        only: who alone has called the server lately (`only_caller`); empty: several have.
    """
    if not after.enough:
        came = after.calls + after.denials
        return Compared(after, before, unsaid=f"{came} of {MINIMUM_CALLS} calls that are wanted have come")
    worse = _worse(after, before, rollout, MINIMUM_CALLS)
    for one, others in after.without.items() if worse else ():
        came = others.calls + others.denials
        if came >= FEW and not _worse(others, before, rollout, FEW):
            return Compared(after, before, unsaid=f"{worse}; one caller alone meets it")
        if came < FEW and one != only:
            so_far = f"one caller alone meets it, and {came} of {FEW} calls of others that are wanted have come"
            return Compared(after, before, unsaid=f"{worse}; {so_far}")
    return Compared(after, before, worse)


def _worse(after: Figures, before: Figures, rollout: Rollout, least: int) -> str:
    """How `after` is worse, said from so many of its calls on; empty: it is not."""
    return (
        _errors(after, before, rollout, least)
        or _median(after, before, rollout, least)
        or _denials(after, before, rollout)
    )


def _errors(after: Figures, before: Figures, rollout: Rollout, least: int) -> str:
    if after.calls < least:
        return ""
    if before.calls < MINIMUM_CALLS:
        worse = after.error_percent > UNKNOWN_BEFORE
    else:
        worse = _more(after.errors, after.calls, before.errors, before.calls, rollout.errors_percent)
    if not worse:
        return ""
    return f"{after.error_percent:.1f} % of its calls fail, and {before.error_percent:.1f} % did before"


def _median(after: Figures, before: Figures, rollout: Rollout, least: int) -> str:
    if len(after.durations_ms) < least or len(before.durations_ms) < MINIMUM_CALLS:
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
        select(calls.c.sub, calls.c.kind, calls.c.policy, calls.c.at_ms, outcomes.c.status, outcomes.c.duration_ms)
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
    found: dict[str, list[Figures]] = {}
    for row in await connection.execute(query):
        if row.kind == "denial":
            one = Figures(denials=int(bool(row.policy)))
        elif row.status is None and now_ms - row.at_ms < UNENDED_MS:
            continue
        else:
            failed = row.status is None or row.status in _FAILED
            one = Figures(1, int(failed), durations_ms=(row.duration_ms,) if row.status == "ok" else ())
        found.setdefault(row.sub, []).append(one)
    return Figures.of({sub: _sum(each) for sub, each in found.items()})


def _sum(each: Iterable[Figures]) -> Figures:
    parts = tuple(each)
    return Figures(
        sum(part.calls for part in parts),
        sum(part.errors for part in parts),
        sum(part.denials for part in parts),
        tuple(duration for part in parts for duration in part.durations_ms),
    )


async def only_caller(connection: AsyncConnection, server: str, since_ms: int) -> str:
    """Who made every call of a server that was allowed since then; empty: several made some, or nobody did."""
    allowed = select(calls.c.sub).where(calls.c.server == server, calls.c.kind == "intent", calls.c.at_ms >= since_ms)
    newest = await connection.scalar(allowed.order_by(calls.c.at_ms.desc()).limit(1))
    if newest is None:
        return ""
    another = await connection.scalar(allowed.where(calls.c.sub != newest).limit(1))
    return "" if another is not None else str(newest)


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
