"""What somebody should know of a requirement: above all, that nobody is there who could say yes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.model import CANNOT_ASK
from pegboard_hub.requiring.model import Standing


def notes(standing: Standing, people: Iterable[PersonFacts], *, exhaustive: bool) -> Iterator[str]:
    """Sentences for whoever requires it, or looks at it.

    Args:
        standing: what is required.
        people: everybody who is known here.
        exhaustive: whether there is nobody else.
    """
    yield from nobody_decides(standing.approvers, people, own=standing.requirement.own, exhaustive=exhaustive)
    if not standing.has_tool:
        yield f"{standing.server.name} has no tool {standing.tool} now: it holds for the next release that has one."
    if standing.stopped_instead:
        yield f"The tool is stopped meanwhile: {CANNOT_ASK}."


def nobody_decides(group: str, people: Iterable[PersonFacts], *, own: bool, exhaustive: bool) -> Iterator[str]:
    """A sentence where too few people are in a group to say yes to anything; none where there is no group."""
    if not group:
        return
    waits = "every call waits until it expires"
    among = [person.sub for person in people if group in person.groups]
    if not among and exhaustive:
        yield f"Nobody is in {group}, so {waits}."
    elif not among:
        yield f"Nobody who is signed in now is in {group}. If the company’s login has no such group, {waits}."
    elif len(among) == 1 and exhaustive and not own:
        yield f"{among[0]} alone is in {group}, and cannot approve what they ask for themselves."
