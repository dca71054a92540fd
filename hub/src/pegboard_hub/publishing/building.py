"""Orders to build: given to whoever asks next, heard of while they are worked on, and told what came of them.

An order is its builder's for as long as it is heard of. Then it is given out again, and what the one before may still
tell is not taken: builder and attempt must be those of now. Whatever dies, nothing is built into two things.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, or_, outerjoin, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import Artifact, State, Trouble, sha256
from pegboard.core.text import hidden_in
from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing.errors import ClaimLost
from pegboard_hub.publishing.model import submissions
from pegboard_hub.publishing.orders import CLAIM_S, BuildOrder, BuildResult, Progress, Told
from pegboard_hub.publishing.submissions import Submission, find
from pegboard_hub.publishing.transitions import move, tell
from pegboard_hub.registry.tables import servers

MOST_ATTEMPTS: Final = 5
"""How often an order is given out: by then its trouble is no passing one."""

PAUSE_MS: Final = 5_000
"""Before the second attempt, in milliseconds; twice as long before each later one."""

LONGEST_PAUSE_MS: Final = PAUSE_MS * 2**MOST_ATTEMPTS

LATELY_MS: Final = 24 * 3600 * 1000
"""Of a team for which nothing was submitted for so long it does not matter when it was built for, in milliseconds."""

BUILDING: Final = "building"
WAITING: Final = "waiting for a builder"

_GIVEN_UP: Final = (
    f"It was tried {MOST_ATTEMPTS} times, and is not tried again: see that what it names answers, and submit it "
    "again. If it stays so, tell the platform team."
)

_TELL_US: Final = "Tell the platform team the submission's id; submitting it again begins anew."


async def claim(
    connection: AsyncConnection, builder: str, now_ms: int, gone: Collection[str] = ()
) -> BuildOrder | None:
    """The next order that nobody works on; None where there is none.

    Teams take turns: first whoever has the fewest builds under way, of those whoever was built for longest ago, and
    of one team the oldest. One that was given out too often fails instead.

    Args:
        connection: of a write transaction.
        builder: who asks.
        now_ms: milliseconds since the epoch.
        gone: builders that have ended; what they had is given out again.
    """
    for row in await _in_turn(connection, now_ms, gone):
        if row.attempt >= MOST_ATTEMPTS:
            what = f"It was given to a builder {row.attempt} times, and none of them came to an end."
            await fail(connection, row.id, State.SUBMITTED, Trouble(step=BUILDING, what=what, mend=_TELL_US), now_ms)
            continue
        if await artifacts.missing(connection, [row.source]):
            what = "Its source is not kept any more, or has changed on the disk of the hub's database."
            lost = Trouble(step=BUILDING, what=what, mend="Submit it again.")
            await fail(connection, row.id, State.SUBMITTED, lost, now_ms)
            continue
        attempt = row.attempt + 1
        await tell(connection, row.id, State.SUBMITTED, BUILDING, now_ms, what=_again(attempt), who=builder)
        await connection.execute(
            update(submissions)
            .where(submissions.c.id == row.id)
            .values(builder=builder, attempt=attempt, heard_at_ms=now_ms, retry_at_ms=None)
        )
        return BuildOrder(id=row.id, server=row.server, source=row.source, attempt=attempt)
    return None


async def _in_turn(connection: AsyncConnection, now_ms: int, gone: Collection[str]) -> list[Any]:
    """Orders that nobody works on, those first whose turn it is."""
    silent_ms = int(CLAIM_S * 1000)
    heard, again, builder = submissions.c.heard_at_ms, submissions.c.retry_at_ms, submissions.c.builder
    # What was written under a clock that was ahead does not wait until it is right.
    free = or_(builder.is_(None), heard < now_ms - silent_ms, heard > now_ms + silent_ms, builder.in_(sorted(gone)))
    due = or_(again.is_(None), again <= now_ms, again > now_ms + LONGEST_PAUSE_MS)
    submitted, team = submissions.c.state == State.SUBMITTED, func.coalesce(servers.c.owner, "").label("team")
    owned = outerjoin(submissions, servers, servers.c.name == submissions.c.server)
    waiting = (
        select(submissions.c.id, submissions.c.server, submissions.c.source, submissions.c.attempt, team)
        .select_from(owned)
        .where(and_(submitted, free, due))
        .order_by(submissions.c.created_at_ms, submissions.c.id)
    )
    found = list(await connection.execute(waiting))
    teams = sorted({row.team for row in found})
    if len(teams) < 2:
        return found

    async def by_team(what: ColumnElement[int], which: ColumnElement[bool]) -> dict[str, int]:
        counted = select(team, what).select_from(owned).where(team.in_(teams), which).group_by(team)
        return {name: int(count or 0) for name, count in await connection.execute(counted)}

    under_way = await by_team(func.count(), and_(submitted, ~free))
    last = await by_team(func.max(heard), submissions.c.created_at_ms > now_ms - LATELY_MS)
    return sorted(found, key=lambda row: (under_way.get(row.team, 0), last.get(row.team, 0)))


async def progress(connection: AsyncConnection, id_: str, word: Progress, now_ms: int) -> None:
    """Hear of a builder; another step than before is an event.

    Raises:
        ClaimLost: the order is not its own any more.
    """
    found = await _own(connection, id_, word.builder, word.attempt)
    if found is None or found.state is not State.SUBMITTED:
        raise ClaimLost(f"{id_} is not {word.builder}'s any more")
    await connection.execute(update(submissions).where(submissions.c.id == id_).values(heard_at_ms=now_ms))
    step = shown(word.step)
    if step != found.step or word.what:
        await tell(connection, id_, State.SUBMITTED, step, now_ms, what=shown(word.what), who=word.builder)


async def result(connection: AsyncConnection, id_: str, word: Told, now_ms: int) -> None:
    """Take what came of an order; told again it is as it was taken.

    Raises:
        ClaimLost: the order is somebody else's by now.
    """
    found = await _own(connection, id_, word.builder, word.attempt)
    if found is None:
        raise ClaimLost(f"{id_} is not {word.builder}'s any more")
    if found.state is not State.SUBMITTED:
        return
    trouble = word.result.trouble or await _incomplete(connection, word.result)
    if trouble is None:
        await _built(connection, found, word.result, now_ms)
    elif word.result.again and word.result.trouble and found.attempt < MOST_ATTEMPTS:
        await _later(connection, found, trouble, now_ms)
    else:
        if word.result.again:
            trouble = trouble.model_copy(update={"mend": _GIVEN_UP})
        await fail(connection, id_, State.SUBMITTED, trouble, now_ms)


async def fail(
    connection: AsyncConnection, id_: str, before: State, trouble: Trouble, now_ms: int, who: str = "", **more: Any
) -> bool:
    """Let a submission fail, saying why; what it needed is swept later."""
    told = Trouble(step=shown(trouble.step), what=shown(trouble.what), mend=shown(trouble.mend))
    kept = {"trouble": told.model_dump(mode="json"), "retry_at_ms": None, **more}
    return await move(connection, id_, before, State.FAILED, told.step, now_ms, what=told.what, who=who, **kept)


async def _built(connection: AsyncConnection, found: Submission, told: BuildResult, now_ms: int) -> None:
    artifact, declaration = told.artifact, told.declaration
    assert artifact is not None  # noqa: S101 - `_incomplete` saw to it
    assert declaration is not None  # noqa: S101
    await artifacts.use(connection, found.id, named(artifact, told.sbom))
    await move(
        connection,
        found.id,
        State.SUBMITTED,
        State.BUILT,
        "checking",
        now_ms,
        what=f"release {declaration.digest[:12]}" + ("" if told.sandboxed else ", whose tools were read unconfined"),
        release=declaration.digest,
        artifact=artifact.model_dump(mode="json"),
        declaration=declaration.model_dump(mode="json"),
        sbom=told.sbom,
        sandboxed=told.sandboxed,
        packages={
            "packages": [each.model_dump(mode="json") for each in told.packages],
            "advisories": told.advisories,
        },
        trouble=None,
        retry_at_ms=None,
    )


async def _later(connection: AsyncConnection, found: Submission, trouble: Trouble, now_ms: int) -> None:
    pause_ms = PAUSE_MS * 2 ** (found.attempt - 1)
    what = f"{shown(trouble.what).rstrip('.')}. It is tried again in {pause_ms // 1000} s."
    await tell(connection, found.id, State.SUBMITTED, WAITING, now_ms, what=what)
    await connection.execute(
        update(submissions)
        .where(submissions.c.id == found.id)
        .values(
            builder=None, heard_at_ms=None, retry_at_ms=now_ms + pause_ms, trouble=trouble.model_dump(mode="json")
        )
    )


async def _incomplete(connection: AsyncConnection, told: BuildResult) -> Trouble | None:
    """Why what a builder tells is no result, whatever was submitted."""
    if told.artifact is None or told.declaration is None or told.sbom is None:
        what = "Its builder told neither what it built, nor why it could not."
    elif missing := await artifacts.missing(connection, named(told.artifact, told.sbom)):
        what = f"Its builder named files that it did not hand in: {', '.join(each[:12] for each in missing[:5])}."
    else:
        return None
    return Trouble(step=BUILDING, what=what, mend=_TELL_US)


def named(artifact: Artifact, sbom: str | None) -> set[str]:
    """Digests of everything of an artifact that the hub keeps."""
    own = {each.sha256 for each in artifact.files if each.origin == "own"}
    return own | {artifact.source, artifact.project} - {sha256(b"")} | ({sbom} if sbom else set())


async def _own(connection: AsyncConnection, id_: str, builder: str, attempt: int) -> Submission | None:
    """The submission, if that attempt at it is this builder's."""
    found = await find(connection, id_)
    return found if found and (found.builder, found.attempt) == (builder, attempt) else None


def _again(attempt: int) -> str:
    return "" if attempt == 1 else f"attempt {attempt} of {MOST_ATTEMPTS}"


def shown(text: str) -> str:
    """A builder's text, which may quote an author's: what hides in it is shown as an escape, and it ends."""
    text = text[:2000]
    return (
        text if not hidden_in(text, lines=True) else text.encode("ascii", "backslashreplace").decode().translate(_C)
    )


_C = {code: f"\\x{code:02x}" for code in (*range(9), 11, 12, *range(14, 32), 127)}
