"""Asking: an owner submits a draft, or asks for another access; what that needs is opened as reviews."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.granting import Unreached, unreached
from pegboard_hub.registry.reviews.model import Difference, Kind, Review, in_order, subject_of
from pegboard_hub.registry.reviews.rights import Rights
from pegboard_hub.registry.reviews.rules import (
    ACCESS,
    UNREVIEWED_SURFACES,
    access_differences,
    common,
    within,
)

OTHERS = tuple(field for field in Access._fields if field != "surfaces")
"""What is granted beside surfaces: it holds on each of them."""


class Wish(NamedTuple):
    """What somebody asks for, whose text was checked.

    Attributes:
        by: a person of the team that owns the server, or an operator.
        asked: the access that it is to have.
        why: for the reviewers.
        expected: the server's version that the person saw.
    """

    by: PersonFacts
    asked: Access
    why: str
    expected: int


class Asked(NamedTuple):
    """What came of asking for access.

    Attributes:
        opened: reviews that were opened for it.
        granted: what holds now.
    """

    opened: tuple[Kind, ...]
    granted: Access


async def submit(changing: Changing, rights: Rights, name: str, wish: Wish) -> Asked:
    """Submit a draft: to its reviews, or where its namespace needs none, at once to what it asks for."""
    server = await rights.owned(changing, wish.by, name, wish.expected)
    _check_draft(server)
    change = Change(name, Actor(wish.by.sub), "submit", wish.why, wish.expected, requested=wish.asked)
    if not rights.is_reviewed(server):
        check_unreviewed(server, wish.asked)
        values = {"lifecycle": Lifecycle.APPROVED, "reason": _reason(wish)}
        await changing.apply(replace(change, values=values, granted=wish.asked))
        return Asked((), wish.asked)
    await changing.apply(replace(change, values={"lifecycle": Lifecycle.IN_REVIEW}))
    return await _ask_reviewers(changing, name, await store.kinds_of(changing.connection, server), wish)


async def ask_access(changing: Changing, rights: Rights, name: str, wish: Wish) -> Asked:
    """Ask for another access. What is asked for no more ends at once; what is asked for anew wants reviews."""
    server = await rights.owned(changing, wish.by, name, wish.expected)
    found = await store.round_of(changing.connection, server)
    _check_asks_otherwise(server, wish.asked, found)
    reviewed = rights.is_reviewed(server)
    if not reviewed:
        check_unreviewed(server, wish.asked)
    # Reviews look at exactly what is asked for: those of a release that waits begin anew with it.
    again = found if server.waiting is not None else {}
    after = await changing.apply(_change_of_access(server, wish, reviewed=reviewed))
    await store.supersede(changing.connection, name, tuple(Kind))
    fresh = await store.kinds_of(changing.connection, server) if reviewed and _adds(server, wish) else ()
    kinds = tuple(dict.fromkeys((*again, *fresh)))
    if not kinds:
        return Asked((), after.granted)
    return await _ask_reviewers(changing, name, kinds, wish, {kind: review.changes for kind, review in again.items()})


def _change_of_access(server: RegisteredServer, wish: Wish, *, reviewed: bool) -> Change:
    """What holds at once: where it is reviewed, no more than was granted before."""
    kept, adds = common(server.granted, wish.asked), _adds(server, wish)
    less = "give back" if kept != in_order(server.granted) else "ask for less"
    return Change(
        str(server.name),
        Actor(wish.by.sub),
        "ask for access" if adds else less,
        wish.why,
        wish.expected,
        values={"reason": _reason(wish)} if adds and not reviewed else {},
        requested=wish.asked,
        granted=kept if reviewed else wish.asked,
    )


async def _ask_reviewers(
    changing: Changing,
    name: str,
    kinds: Collection[Kind],
    wish: Wish,
    before: Mapping[Kind, Iterable[Difference]] | None = None,
) -> Asked:
    """Open reviews of what the server asks for now; what they were to look at `before` stays beside its access."""
    server = changing.server(name)
    subject, access = subject_of(server), access_differences(server.granted, server.requested)
    opened = {
        kind: [*(each for each in (before or {}).get(kind, ()) if not _of_access(each)), *access] for kind in kinds
    }
    await store.open_reviews(
        changing.connection,
        name,
        opened,
        subject.release,
        subject.requested,
        wish.by.sub,
        wish.why,
        changing.now_ms,
    )
    return Asked(tuple(kinds), server.granted)


def asks_the_same(server: RegisteredServer, asked: Access, why: Unreached | None) -> bool:
    """Whether asking for an access would change nothing, and have nobody look at it again.

    What was approved in vain can be asked for again: its reviewers are to agree on something.
    """
    in_vain = why is not None and why.in_vain
    return asked == in_order(server.requested) and within(server.granted, asked) and not in_vain


def _check_draft(server: RegisteredServer) -> None:
    if server.lifecycle is not Lifecycle.DRAFT:
        fault = f"its lifecycle is {server.lifecycle}, not draft"
        raise ChangeRefused("lifecycle", fault, "Ask for access instead.")


def _check_asks_otherwise(server: RegisteredServer, asked: Access, found: Mapping[Kind, Review]) -> None:
    if server.lifecycle in (Lifecycle.DRAFT, Lifecycle.RETIRED):
        fault = f"its lifecycle is {server.lifecycle}"
        raise ChangeRefused("lifecycle", fault, "Submit it, or bring it back, first.")
    if asks_the_same(server, asked, unreached(found, server)):
        raise ChangeRefused("access", "it is what is asked for already", "Change what it asks for.")


def check_unreviewed(server: RegisteredServer, asked: Access) -> None:
    """Keep what nobody reviews out of reach of production's surfaces; what is granted already may stay.

    Raises:
        ChangeRefused: production uses a surface of it.
    """
    beyond = sorted({*asked.surfaces} - {*UNREVIEWED_SURFACES, *server.granted.surfaces})
    if beyond:
        fault = f"production uses {', '.join(beyond)}, and nobody reviews what is in {server.name.namespace}"
        mend = f"Ask for {' or '.join(UNREVIEWED_SURFACES)}; more is the operator's grants file's to grant."
        raise ChangeRefused("surfaces", fault, mend)
    kept = [surface for surface in asked.surfaces if surface not in UNREVIEWED_SURFACES]
    more = [field for field in OTHERS if not set(getattr(asked, field)) <= set(getattr(server.granted, field))]
    if kept and more:
        fault = f"production uses {', '.join(kept)}, and nobody reviews who would get in from there"
        mend = f"Give back {', '.join(kept)}, or ask for no more than is granted; the operator's grants file can."
        raise ChangeRefused(more[0], fault, mend)


def _adds(server: RegisteredServer, wish: Wish) -> bool:
    """Whether anything is asked for that is not granted."""
    return not within(wish.asked, server.granted)


def _reason(wish: Wish) -> str:
    """Who granted what nobody reviews, for whoever asks why."""
    return f"{wish.by.sub}: {wish.why}"


def _of_access(difference: Difference) -> bool:
    return difference.what.startswith(ACCESS)
