"""The lists of reviews: what waits for whom, what somebody asked for, and what was decided."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from pegboard_hub.identity.person import PersonFacts, caller_of
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.model import TITLES, Review, State, subject_of
from pegboard_hub.registry.reviews.store import Place
from pegboard_hub.web.knowing import knows
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, with_query
from pegboard_hub.web.paging import cursor_of, place_of
from pegboard_hub.web.parts import Parts

PATH = "/reviews"
MOST_ROWS = 50
MOST_WAITING = 200
DECIDED = (State.APPROVED, State.REJECTED, State.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Row:
    """One review in a list; `vain` where it is approved, and nobody gets into its server all the same."""

    review: Review
    title: str
    href: str
    vain: bool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was asked for and not approved; empty unless it is approved."""
        granted = self.review.granted
        if granted is None:
            return ()
        pairs = zip(self.review.subject.requested, granted, strict=True)
        return tuple(value for asked, given in pairs for value in asked if value not in given)


@dataclass(frozen=True, slots=True)
class InboxView:
    """The lists; a review is in the first one that it fits.

    Attributes:
        mine: what the person or their teams asked for.
        more: how many more wait than are shown; those that wait longest are.
        older: the address of older decided ones; empty where there are none.
        decides: whether the person decides on any kind of review.
    """

    waiting: tuple[Row, ...]
    more: int
    mine: tuple[Row, ...]
    open: tuple[Row, ...]
    decided: tuple[Row, ...]
    older: str
    decides: bool


async def inbox_view(parts: Parts, person: PersonFacts, before: str = "") -> InboxView:
    """What the list of reviews shows to somebody."""
    reviewing, servers = parts.reviewing, parts.registry.current.servers
    caller = caller_of(person, DEFAULT_SURFACE, CLIENT)

    def sees(server: RegisteredServer) -> bool:
        return knows(parts, caller, server)

    waiting = await reviewing.waiting_for(person)
    open_ones, _ = await reviewing.known(sees, MOST_ROWS * 4, states=[State.OPEN])
    asked, _ = await reviewing.known(sees, MOST_ROWS, opened_by=person.sub)
    teams = [each for each in open_ones if _owner(servers.get(each.server)) in person.groups]
    decided, last = await reviewing.known(
        sees,
        MOST_ROWS,
        _place(place_of(parts.cursors, before or None, caller, PATH)),
        by_decision=True,
        states=DECIDED,
    )
    told = {review.id for review in waiting}
    mine = _unseen([*asked, *teams], told)
    others = _unseen(open_ones, told)
    shown = _unseen(decided, told)
    vain = await _in_vain(parts, [*mine, *shown])
    return InboxView(
        waiting=rows_of(waiting[:MOST_WAITING]),
        more=max(0, len(waiting) - MOST_WAITING),
        mine=rows_of(mine, vain),
        open=rows_of(others),
        decided=rows_of(shown, vain),
        older=with_query(PATH, [("before", cursor_of(parts.cursors, last, caller, PATH))]) if last else "",
        decides=bool(reviewing.rights.kinds_of(person.groups)),
    )


def rows_of(reviews: Iterable[Review], vain: Collection[str] = ()) -> tuple[Row, ...]:
    """Reviews for a list; `vain` are the ids of those approved in vain."""
    return tuple(Row(each, TITLES[each.kind], f"{PATH}/{each.id}", each.id in vain) for each in reviews)


async def _in_vain(parts: Parts, reviews: Iterable[Review]) -> frozenset[str]:
    """The approved ones of what is asked for now, where nobody gets in all the same, by their ids."""
    current = parts.registry.current.servers
    approved = [each for each in reviews if each.state is State.APPROVED and each.server in current]
    held = [each for each in approved if each.subject == subject_of(current[each.server])]
    closed = await parts.reviewing.unreached({each.server: current[each.server] for each in held}.values())
    return frozenset(each.id for each in held if each.server in closed)


def _unseen(reviews: Iterable[Review], told: set[str]) -> list[Review]:
    """Those that were not told of yet; now they were."""
    found = [review for review in reviews if review.id not in told]
    told |= {review.id for review in found}
    return list({review.id: review for review in found}.values())


def _owner(server: RegisteredServer | None) -> str | None:
    return server.owner if server else None


def _place(read: Any) -> Place | None:
    return (read[0], read[1]) if read else None
