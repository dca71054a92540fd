"""The page of edges: which there are behind the one name, what each decides with, and what it does not take."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard_hub.common.requests import refuse
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.edges_view import NOT_THEIRS, EdgeEntry, edge_entries
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.parts import Parts

PATH = "/edges"
TITLE = "Edges"

WORDS = {
    "live": "live",
    "unready": "takes no calls",
    "awaited": "awaited: the hub has just started",
    "away": "away",
    "never": "has not come yet",
    "removed": "removed",
    "unknown": "unknown",
}
GOOD = frozenset({"live"})
BAD = frozenset({"unready", "away"})


@dataclass(frozen=True, slots=True)
class EdgesView:
    """What the page shows.

    Attributes:
        there: the edges that there are, the instance's own first.
        gone: those that were removed, the newest first.
        unwell: how many of them are away, take no calls, or refuse something.
        words: how each standing is called.
    """

    there: tuple[EdgeEntry, ...]
    gone: tuple[EdgeEntry, ...]
    unwell: int
    words: dict[str, str]
    good: frozenset[str] = GOOD
    bad: frozenset[str] = BAD


def add_edge_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the route of the page."""

    @router.get(PATH)
    async def look(request: Request, session: HereSession) -> HTMLResponse:
        facts = session.facts
        if not parts.stopping.governs(Who.person(facts.sub, facts.groups)):
            raise refuse(403, "access_denied", *NOT_THEIRS, "not_an_operator")
        return framer.answer("edges.html", framer.frame(request, PATH, TITLE), edges_view(parts))


def edges_view(parts: Parts) -> EdgesView:
    """The page, for operators and security."""
    found = edge_entries(parts)
    there = tuple(each for each in found if each.removed_at is None)
    return EdgesView(
        there=there,
        gone=tuple(each for each in found if each.removed_at is not None),
        unwell=sum(1 for each in there if each.standing in BAD or each.faults),
        words=WORDS,
    )
