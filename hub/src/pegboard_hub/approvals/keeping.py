"""What time does to requests: they expire, are announced before, and what nobody told the end of becomes unknown."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import LONGEST_S, State
from pegboard_hub.approvals import asking, due, store
from pegboard_hub.approvals.model import Door, Request
from pegboard_hub.approvals.ports import Announcer
from pegboard_hub.approvals.store import Step

RUNS_FOR_MS: Final = 20 * 60_000
"""How long what was claimed may run without a word; afterwards its end is unknown."""

KEPT_MS: Final = 90 * 24 * 3600 * 1000
"""How long arguments and previews of what is over are kept. Who decided what, when and why stays."""

OVER_BY_MS: Final = 2 * LONGEST_S * 1000
"""How long after it was made a request is over, whatever became of it."""

AT_A_TIME: Final = 500

PROCESS_OVER: Final = "the server’s process ended before it told how the action ended"
SILENT: Final = f"nothing was heard of it for {RUNS_FOR_MS // 60_000} minutes"
APPROVER_STOPPED: Final = "who approved it is stopped now"
NOT_RUN: Final = "it did not run"

_ENDS: Final = {
    "ok": (State.DONE, ""),
    "tool_error": (State.FAILED, "the tool says that it failed"),
    "crashed": (State.FAILED, "the tool failed"),
    "cancelled": (State.FAILED, "the call was cancelled while it ran, so it may be done in part"),
    "input_required": (State.FAILED, "the tool asked for more input"),
}
"""What the status of a call's outcome makes of what it claimed."""


async def expire(db: AsyncConnection, now_ms: int) -> list[str]:
    """Expire what is due; gives what was moved."""
    moved: list[str] = []
    for state in (State.REQUESTED, State.APPROVED):
        for request in await due.over(db, state, now_ms, AT_A_TIME):
            await asking.end(db, request, now_ms)
            moved.append(request.id)
    return moved


async def take_back(db: AsyncConnection, stopped: Collection[str], now_ms: int) -> list[str]:
    """Withdraw what people approved who are stopped now, and what no call has claimed yet; gives what was moved.

    Whoever stops somebody whose sign-in was stolen must not find its yeses running for days.
    """
    given = await due.approved_by(db, stopped, AT_A_TIME) if stopped else []
    if not given:
        return []
    step = Step(now_ms, "clock", why=APPROVER_STOPPED)
    ends: dict[str, Any] = {"held": None, "ended_at_ms": now_ms, "why": APPROVER_STOPPED}
    await store.move(db, given, State.APPROVED, State.WITHDRAWN, step, **ends)
    return [request.id for request in given]


async def remind(db: AsyncConnection, announcer: Announcer, now_ms: int) -> None:
    """Announce what will expire soon, once each. What has expired was moved before."""
    late = await due.expiring(db, now_ms, AT_A_TIME)
    if late:
        await due.note_reminded(db, [request.id for request in late], now_ms)
        await announcer.announce(db, "expiring", [replace(request, reminded_at_ms=now_ms) for request in late])


async def lose(
    db: AsyncConnection, announcer: Announcer, requests: Sequence[Request], why: str, door: Door, now_ms: int
) -> list[str]:
    """Note that nobody knows how these ended; gives what was moved."""
    if not requests:
        return []
    ends: dict[str, Any] = {"ended_at_ms": now_ms, "why": why}
    step = Step(now_ms, door, why=why)
    await store.move(db, requests, State.CLAIMED, State.UNKNOWN, step, held=None, **ends)
    await announcer.announce(db, "unknown", [replace(each, state=State.UNKNOWN, **ends) for each in requests])
    return [request.id for request in requests]


async def settle(
    db: AsyncConnection, server: str, outcomes: Mapping[str, str], denied: Sequence[str], now_ms: int
) -> None:
    """End what calls had claimed, as the server's records tell.

    Args:
        server: that delivered them; what other servers' calls claimed is none of its business.
        outcomes: the status of each call's outcome, by the call's id.
        denied: ids of calls that were refused after all.
    """
    for request in await store.running(db, server, [*outcomes, *denied]):
        status = outcomes.get(request.call_id)
        after, why = _ENDS[status] if status is not None else (State.FAILED, NOT_RUN)
        step = Step(now_ms, "ledger", why=why)
        ends = {"held": None, "ended_at_ms": now_ms, "why": why}
        await store.move(db, [request], request.state, after, step, **ends)
