"""The one way in which a submission goes from a state to the next: a conditional update, and its event with it.

Whoever moves one says from where. Of two that want to, one finds it where it said, and the other finds that it came
too late; nothing happens twice, whoever dies in between.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import NEXT, State
from pegboard_hub.publishing.model import submission_events, submissions


async def move(
    connection: AsyncConnection,
    submission: str,
    before: State | Collection[State],
    to: State,
    step: str,
    now_ms: int,
    *,
    what: str = "",
    who: str = "",
    **values: Any,
) -> bool:
    """Move a submission, if it is still where it was seen, and write down that it did.

    Args:
        connection: of a write transaction; what else belongs to the step is written with it.
        submission: its id.
        before: where it must be.
        to: where it goes.
        step: what it is at then, or waits for, in a word or two.
        now_ms: milliseconds since the epoch.
        what: happened, in words, for its author.
        who: did it; empty for the platform itself.
        **values: other columns of `submissions` that change with it.

    Returns:
        Whether it moved; if not, nothing was written.

    Raises:
        ValueError: there is no such transition, whatever the tables say.
    """
    states = (before,) if isinstance(before, State) else tuple(before)
    if wrong := [state for state in states if to not in NEXT[state]]:
        raise ValueError(f"a submission does not go from {wrong[0]} to {to}")
    moved = await connection.execute(
        update(submissions)
        .where(submissions.c.id == submission, submissions.c.state.in_(states))
        .values(state=to, step=step, updated_at_ms=now_ms, **values)
    )
    if moved.rowcount != 1:
        return False
    await _write(connection, submission, to, step, now_ms, what, who)
    return True


async def tell(
    connection: AsyncConnection,
    submission: str,
    state: State,
    step: str,
    now_ms: int,
    *,
    what: str = "",
    who: str = "",
) -> bool:
    """Write down a step within a state, if the submission is still in it; returns whether it is."""
    same = await connection.execute(
        update(submissions)
        .where(submissions.c.id == submission, submissions.c.state == state)
        .values(step=step, updated_at_ms=now_ms)
    )
    if same.rowcount != 1:
        return False
    await _write(connection, submission, state, step, now_ms, what, who)
    return True


async def state_of(connection: AsyncConnection, submission: str) -> State | None:
    """Where a submission is; None where there is none of that id."""
    found = await connection.scalar(select(submissions.c.state).where(submissions.c.id == submission))
    return State(found) if found is not None else None


async def _write(
    connection: AsyncConnection, submission: str, state: State, step: str, now_ms: int, what: str, who: str
) -> None:
    await connection.execute(
        insert(submission_events).values(
            submission=submission, at_ms=now_ms, state=state, step=step, what=what, who=who
        )
    )
