"""Who would gain what, in the words of pages and of the API: one answer, shown in two forms.

A page gives `impact_view` to the macro of `impact.html`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.impact import Impact, People, Row, ToolChange, TooManyCases, Who, impact
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.parts import Parts

MOST_ROWS = 200
"""Rows of one answer; the figures above them count everybody."""

NOT_EXHAUSTIVE = (
    "The company’s login alone knows who is in a group. People who are signed in now are named; everybody else in "
    "the same groups gains and loses the same."
)


@dataclass(frozen=True, slots=True)
class ImpactRow:
    """One line of the table.

    Attributes:
        who: the group or groups, the person, or the service.
        people: who they are, as far as it is known, in one sentence; empty for a service.
        places: where from.
        gains: what may be done then, each with the tools.
        loses: what may still be done, each with the tools.
    """

    who: str
    people: str
    places: str
    gains: Mapping[str, list[str]]
    loses: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class ImpactView:
    """The whole table.

    Attributes:
        summary: what it comes to, in one sentence.
        sensitivity: of the data; both, where it changes.
        notes: what the reader must know beside the table.
        more: rows that are not shown.
    """

    server: str
    summary: str
    sensitivity: str
    rows: tuple[ImpactRow, ...]
    notes: tuple[str, ...]
    more: int


async def find_impact(parts: Parts, before: RegisteredServer, after: RegisteredServer) -> Impact:
    """Who would gain what between two states of a server, of everybody who is known here.

    It is computed beside the event loop: with many people and policies it takes a while.
    """
    known, exhaustive = await known_people(parts)
    people = People(tuple(known), exhaustive=exhaustive)
    return await asyncio.to_thread(impact, before, after, people, parts.public_url)


async def known_people(parts: Parts) -> tuple[list[PersonFacts], bool]:
    """Everybody who is known here, and whether there is nobody else: the demo directory, or who is signed in now."""
    demo = parts.identity.demo
    if demo is not None:
        return demo.everybody(), True
    return await parts.identity.sessions.everybody(), False


async def impact_view(parts: Parts, before: RegisteredServer, after: RegisteredServer) -> ImpactView:
    """The same for a page; where it cannot be worked out, it says so."""
    try:
        return view_of(await find_impact(parts, before, after))
    except TooManyCases as error:
        words = f"It cannot be told who would gain what: {error}. Have its owners ask for less at once."
        return ImpactView(str(after.name), words, after.sensitivity, (), (), 0)


def view_of(found: Impact) -> ImpactView:
    """An answer in words."""
    notes = [] if found.exhaustive or not found.rows else [NOT_EXHAUSTIVE]
    if found.before != found.after and found.keeping:
        who = f"{_people(found.keeping)} who may use it already"
        notes.append(f"{who} would be shown {found.after} data in place of {found.before}.")
    if found.stopped:
        notes.append(f"It is stopped now: {found.stopped}. This is what holds once it is not.")
    return ImpactView(
        server=found.server,
        summary=_summary(found),
        sensitivity=found.after if found.before == found.after else f"{found.before}, then {found.after}",
        rows=tuple(_row(row) for row in found.rows[:MOST_ROWS]),
        notes=tuple(notes),
        more=max(0, len(found.rows) - MOST_ROWS),
    )


def _summary(found: Impact) -> str:
    if not found.rows:
        return "Nobody gains or loses anything."
    told = [
        f"{_people(count)} {verb}{'s' if count == 1 else ''} tools"
        for verb, count in (("gain", found.gaining), ("lose", found.losing))
        if count
    ]
    if services := len({row.who.service for row in found.rows if row.who.service}):
        told.append(f"{services} {'service gains or loses' if services == 1 else 'services gain or lose'} tools")
    return f"{', '.join(told)}." if told else "Nobody who is signed in now gains or loses anything."


def _row(row: Row) -> ImpactRow:
    return ImpactRow(
        who=who_in_words(row.who),
        people="" if row.who.service else _who_they_are(row),
        places=", ".join(map(str, row.places)),
        gains=_by_outcome(row.gains),
        loses=_by_outcome(row.loses),
    )


def who_in_words(who: Who) -> str:
    """Whom a row is about."""
    if who.service:
        return who.service
    groups = " and ".join(who.groups)
    return f"{who.person}, in {groups}" if who.person else groups


def _who_they_are(row: Row) -> str:
    if not row.people:
        return "nobody who is signed in is in exactly this"
    rest = row.people - len(row.named)
    return ", ".join(person.name for person in row.named) + (f" and {rest} more" if rest else "")


def _by_outcome(changes: Iterable[ToolChange]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in changes:
        found.setdefault(_becomes(change), []).append(change.tool)
    return found


def _becomes(change: ToolChange) -> str:
    """What may be done with the tool then."""
    if not change.after:
        return "no more"
    return change.after.words if not change.before else f"{change.before.words}, then {change.after.words}"


def _people(count: int) -> str:
    return f"{count:,} {'person' if count == 1 else 'people'}".replace(",", "\u202f")
