"""The tables of reviews: opening, deciding and reading them, and who may not decide because it is their own."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, Text, and_, cast, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.history import RESUME, STOP
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.model import (
    Comment,
    Difference,
    Kept,
    Kind,
    Review,
    State,
    Subject,
    in_order,
    review_comments,
    reviews,
    subject_of,
)
from pegboard_hub.registry.reviews.rules import ACCESS, access_differences, needed_of
from pegboard_hub.registry.tables import history, releases

TAKE_BACK = "take back to draft"
GRANT = "grant"
REOPEN = "reopen"
ASK_GENAI = "ask for genai review"
LIFT_GENAI = "lift genai reviews"
DECIDING = ("approve", "reject", REOPEN, ASK_GENAI, LIFT_GENAI, GRANT)
"""What reviewers do, as the history calls it: it makes nobody the author of what they look at."""

MOVES = ("deprecate", "retire", "bring back", TAKE_BACK)
"""What owners and operators do with a server's lifecycle, as the history calls it."""

AUTHORLESS = (*DECIDING, *MOVES, STOP, RESUME)
"""What makes nobody an author. Whatever else a person does with a server is a wish of theirs, as far as is known."""

Place = tuple[int, str]
"""Where a review stands in the order of time: when it was opened, in milliseconds since the epoch, and its id."""

MOST_LISTED = 100
"""Reviews that are listed where nobody says how many."""


class Which(TypedDict, total=False):
    """Which reviews are listed; what is left out, or empty, leaves out none.

    Attributes:
        server: only of this one.
        states: only in one of these.
        kinds: only of one of these.
        opened_by: only those that this person asked for.
    """

    server: str | None
    states: Collection[State]
    kinds: Collection[Kind]
    opened_by: str | None


async def open_reviews(
    connection: AsyncConnection,
    server: str,
    concerned: Mapping[Kind, Sequence[Difference]],
    release: str,
    requested: Access,
    by: str,
    why: str,
    now_ms: int,
) -> None:
    """Open a review of each kind; what was open of those kinds before is superseded.

    Args:
        connection: inside a write transaction.
        server: its name.
        concerned: the kinds, each with what differs.
        release: digest of the release to look at; empty where there is none yet.
        requested: the access to look at.
        by: who asks for it.
        why: in their words.
        now_ms: milliseconds since the epoch.
    """
    await supersede(connection, server, concerned)
    rows = [
        _row(server, kind, release, requested, listed, by, why, now_ms) | {"state": State.OPEN}
        for kind, listed in concerned.items()
    ]
    if rows:
        await connection.execute(insert(reviews), rows)


async def record_approved(
    connection: AsyncConnection,
    server: str,
    kinds: Iterable[Kind],
    release: str,
    access: Access,
    by: str,
    why: str,
    now_ms: int,
    *,
    supersedes: bool = True,
) -> None:
    """Write down reviews that were decided elsewhere, as in the operator's git."""
    kinds = tuple(kinds)
    if supersedes:
        await supersede(connection, server, kinds)
    decided = {
        "state": State.APPROVED,
        "decided_at_ms": now_ms,
        "decided_by": by,
        "outcome_why": why,
        "granted": access._asdict(),
    }
    rows = [_row(server, kind, release, access, (), by, why, now_ms) | decided for kind in kinds]
    if rows:
        await connection.execute(insert(reviews), rows)


async def supersede(
    connection: AsyncConnection, server: str, kinds: Iterable[Kind], release: str | None = None
) -> None:
    """End what is open of these kinds, or of them that look at one release: nobody asks for it any more."""
    open_ones = and_(reviews.c.server == server, reviews.c.kind.in_(list(kinds)), reviews.c.state == State.OPEN)
    if release is not None:
        open_ones = and_(open_ones, reviews.c.release == release)
    ended = {"state": State.SUPERSEDED, "version": reviews.c.version + 1}
    await connection.execute(update(reviews).where(open_ones).values(ended))


async def find(connection: AsyncConnection, review: str) -> Review | None:
    """The review of an id."""
    row = (await connection.execute(select(reviews).where(reviews.c.id == review))).first()
    return _review(row) if row else None


async def list_reviews(
    connection: AsyncConnection,
    *,
    before: Place | None = None,
    by_decision: bool = False,
    limit: int = MOST_LISTED,
    **which: Unpack[Which],
) -> list[Review]:
    """Reviews, those that were opened last first, or with `by_decision` those that were decided last.

    Args:
        connection: inside a transaction.
        before: only after this place in the order, as `opened_at_ms` and `id`; by decision as `since_ms` and `id`.
        by_decision: whether they come by when they were decided.
        limit: most of them.
        which: narrows them.
    """
    opened = reviews.c.opened_at_ms
    order = func.coalesce(reviews.c.decided_at_ms, opened) if by_decision else opened
    query = select(reviews).order_by(order.desc(), reviews.c.id.desc()).limit(limit)
    for column in ("server", "opened_by"):
        if (value := which.get(column)) is not None:
            query = query.where(reviews.c[column] == value)
    for column, values in (("state", which.get("states")), ("kind", which.get("kinds"))):
        if values:
            query = query.where(reviews.c[column].in_([*values]))
    if before is not None:
        at_ms, review = before
        query = query.where(or_(order < at_ms, and_(order == at_ms, reviews.c.id < review)))
    return [_review(row) for row in await connection.execute(query)]


async def with_open(connection: AsyncConnection) -> list[str]:
    """The names of the servers that have open reviews, in order."""
    query = select(reviews.c.server).where(reviews.c.state == State.OPEN).distinct().order_by(reviews.c.server)
    return list(await connection.scalars(query))


async def round_of(connection: AsyncConnection, server: RegisteredServer) -> dict[Kind, Review]:
    """The newest review of each kind that looks at what the server asks for now, without those nobody asks for."""
    subject = subject_of(server)
    query = (
        select(reviews)
        .where(
            reviews.c.server == str(server.name),
            reviews.c.release == subject.release,
            reviews.c.state != State.SUPERSEDED,
        )
        # Of two of one moment the one that is still open was opened when the other had been decided.
        .order_by(reviews.c.opened_at_ms, reviews.c.state == State.OPEN)
    )
    found = [_review(row) for row in await connection.execute(query)]
    return {review.kind: review for review in found if review.subject == subject}


async def also_needed(connection: AsyncConnection, server: str) -> tuple[Kind, ...]:
    """The kinds of reviews that a server needs whatever its author declares.

    GenAI, where a security reviewer asked for it, until one of its own reviewers says that it does not apply; and
    until a release is approved, where it was looked at without code: what was decided on a description does not
    cover the tools.
    """
    without_code = (
        select(reviews.c.id)
        .where(
            reviews.c.server == server,
            reviews.c.kind == Kind.GENAI,
            reviews.c.release == "",
            ~exists().where(releases.c.server == server, releases.c.approved_at_ms.is_not(None)),
        )
        .limit(1)
    )
    if await genai_asked(connection, server) or await connection.scalar(without_code) is not None:
        return (Kind.GENAI,)
    return ()


async def genai_asked(connection: AsyncConnection, server: str) -> bool:
    """Whether a security reviewer asked for GenAI reviews of a server, and no reviewer of them has lifted that."""
    said = history.c.action.in_((ASK_GENAI, LIFT_GENAI))
    query = select(history.c.action).where(history.c.server == server, said).order_by(history.c.seq.desc()).limit(1)
    return await connection.scalar(query) == ASK_GENAI


async def kinds_of(connection: AsyncConnection, server: RegisteredServer) -> tuple[Kind, ...]:
    """The reviews that a server needs: by what its author says, and by what reviewers asked for."""
    return tuple(dict.fromkeys((*needed_of(server), *await also_needed(connection, str(server.name)))))


async def grants_at(connection: AsyncConnection, server: str, at_ms: int) -> list[Mapping[str, Any]]:
    """What changed with the grants of a moment, by field, as the history tells it."""
    query = select(history.c.fields).where(
        history.c.server == server, history.c.at_ms == at_ms, history.c.action == GRANT
    )
    return list(await connection.scalars(query))


async def asked_still(
    connection: AsyncConnection, server: RegisteredServer, asked: Access
) -> dict[Kind, list[Difference]]:
    """Reviews of access that somebody asked for on a page, and still asks for, where one of them is open."""
    found = await round_of(connection, server)
    of_access = any(change.what.startswith(ACCESS) for review in found.values() for change in review.changes)
    if asked != server.requested or not of_access or not any(review.open for review in found.values()):
        return {}
    return {kind: access_differences(server.granted, asked) for kind in found}


async def keep(connection: AsyncConnection, review: Review, values: Mapping[str, Any]) -> bool:
    """Change a review that is open and still as it was read; False where it is not."""
    as_read = and_(reviews.c.id == review.id, reviews.c.version == review.version, reviews.c.state == State.OPEN)
    changed = {**values, "version": review.version + 1}
    return (await connection.execute(update(reviews).where(as_read).values(changed))).rowcount == 1


async def comment(connection: AsyncConnection, review: str, author: str, text: str, now_ms: int) -> None:
    """Add a comment."""
    await connection.execute(insert(review_comments).values(review=review, at_ms=now_ms, author=author, text=text))


async def comments(connection: AsyncConnection, review: str) -> list[Comment]:
    """The comments on a review, oldest first."""
    query = select(review_comments).where(review_comments.c.review == review).order_by(review_comments.c.id)
    return [Comment(row.at_ms, row.author, row.text) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Authors:
    """Whose wish a server is, so that they do not decide on it: its owners, and who asked for something of it."""

    groups: frozenset[str]
    people: frozenset[str]

    def are(self, sub: str, groups: Iterable[str]) -> bool:
        """Whether somebody is one of them."""
        return sub in self.people or not self.groups.isdisjoint(groups)


async def authors_of(connection: AsyncConnection, server: RegisteredServer) -> Authors:
    """The authors of a server.

    An owner group that a release or an edit replaces stays one until the new one has passed its reviews: nobody gets
    out of it by naming another group.
    """
    # The history of a server grows without end: what is asked of it is asked of the database, and not read.
    name = str(server.name)
    last = await connection.scalar(select(func.max(releases.c.approved_at_ms)).where(releases.c.server == name))
    counts = or_(releases.c.approved_at_ms.is_(None), releases.c.approved_at_ms == last)
    manifests = await connection.scalars(select(releases.c.manifest).where(releases.c.server == name, counts))
    groups = {server.owner, *(manifest["owner"] for manifest in manifests)}
    of_server = history.c.server == name
    since = select(history.c.fields).where(of_server, history.c.at_ms > (last or 0), _tells_of("owner"))
    for fields in await connection.scalars(since):
        groups |= set(fields.get("owner", ()))
    by_people = and_(of_server, history.c.actor_kind == "person", history.c.action.not_in(AUTHORLESS))
    people = await connection.scalars(select(history.c.actor).where(by_people).distinct())
    # Who has a review opened again wishes nothing of the server: whose wish it is opened the one before.
    reopened = select(history.c.fields).where(of_server, history.c.action.in_((REOPEN, ASK_GENAI)))
    again = {told.rpartition(" ")[2] for fields in await connection.scalars(reopened) for told in fields}
    opened = select(reviews.c.opened_by).where(reviews.c.server == name, reviews.c.id.not_in(sorted(again)))
    asked = await connection.scalars(opened.distinct())
    return Authors(frozenset(groups - {"", None}), frozenset({*people, *asked}))


def _tells_of(field: str) -> ColumnElement[bool]:
    """Whether an entry may tell of a field. JSON writes its name like that; in a text the quotes are escaped."""
    return cast(history.c.fields, Text).contains(f'"{field}":', autoescape=True)


_OUTCOME = ("outcome_why", "conditions")
"""Columns that hold what a reviewer put down for later, and with the decision what it was."""


def _review(row: Any) -> Review:
    said = dict(row._mapping)
    release, requested, granted = said.pop("release"), said.pop("requested"), said.pop("granted")
    kept = None
    if said["state"] in (State.OPEN, State.SUPERSEDED):
        # Nobody decided: what stands in these columns was put down for later, and is no outcome.
        if granted is not None:
            kept = Kept(_access(granted), said["conditions"], said["outcome_why"])
        granted = None
        said |= dict.fromkeys(_OUTCOME, "")
    return Review(
        **said
        | {
            "kind": Kind(said["kind"]),
            "state": State(said["state"]),
            "changes": tuple(Difference(**change) for change in said["changes"]),
        },
        subject=Subject(release, _access(requested)),
        granted=None if granted is None else _access(granted),
        kept=kept,
    )


def _access(told: Mapping[str, Any]) -> Access:
    return in_order(Access(*(tuple(told.get(field, ())) for field in Access._fields)))


def _row(
    server: str,
    kind: Kind,
    release: str,
    requested: Access,
    changes: Sequence[Difference],
    by: str,
    why: str,
    now_ms: int,
) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(8),
        "server": server,
        "kind": kind,
        "release": release,
        "requested": in_order(requested)._asdict(),
        "changes": [difference._asdict() for difference in changes],
        "opened_at_ms": now_ms,
        "opened_by": by,
        "opened_why": why,
    }
