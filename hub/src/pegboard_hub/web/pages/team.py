"""Teams: what each of them owns, how it stands, and what it did for everybody."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.caller import Caller
from pegboard.core.names import NAME_PATTERN
from pegboard_hub.common.requests import refuse
from pegboard_hub.ledger.model import Figures
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.model import Review, State
from pegboard_hub.web.knowing import known
from pegboard_hub.web.pages.frame import Frame, Framer, with_query
from pegboard_hub.web.pages.standing import Standing, standing
from pegboard_hub.web.parts import Parts

PATH = "/teams"
MOST_TEAMS = 500
PAGE_SERVERS = 100
MOST_REVIEWS = 1000
"""Open reviews, of all teams, that are looked through."""

MOST_SUMMED = 2000
"""Servers of one team whose figures are summed up."""


class TeamRow(NamedTuple):
    """One team of the list."""

    name: str
    servers: int
    mine: bool


@dataclass(frozen=True, slots=True)
class TeamsView:
    """Every team that owns a server one may know of; `more` are not shown."""

    teams: tuple[TeamRow, ...]
    more: int


class ServerRow(NamedTuple):
    """One server of a team."""

    server: RegisteredServer
    now: Standing
    figures: Figures


@dataclass(frozen=True, slots=True)
class TeamView:
    """One team.

    Attributes:
        total: what was done with all of its servers; callers are not added up, since they may be the same.
        states: how many servers stand how.
        reviews: that are open, the oldest first.
        next: address of the next page; empty on the last.
    """

    name: str
    mine: bool
    count: int
    total: Figures
    states: tuple[tuple[str, int], ...]
    servers: tuple[ServerRow, ...]
    reviews: tuple[Review, ...]
    next: str
    first: str


def add_team_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(PATH)
    async def teams(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        return framer.answer("teams.html", frame, teams_view(parts, frame.caller))

    @router.get(f"{PATH}/{{group}}")
    async def team(request: Request, group: str) -> HTMLResponse:
        frame = replace(framer.frame(request, f"{PATH}/{group}", f"Team {group}"), section=PATH)
        view = await team_view(parts, frame, group, request.query_params.get("cursor", ""))
        return framer.answer("team.html", frame, view)


def teams_view(parts: Parts, caller: Caller) -> TeamsView:
    """What the list shows: one's own teams first, then those that own most."""
    counts = Counter(server.owner for server in known(parts, caller))
    groups = frozenset(caller.groups)
    rows = [TeamRow(name, count, name in groups) for name, count in counts.items() if name]
    rows.sort(key=lambda row: (not row.mine, -row.servers, row.name))
    return TeamsView(tuple(rows[:MOST_TEAMS]), max(len(rows) - MOST_TEAMS, 0))


async def team_view(parts: Parts, frame: Frame, group: str, cursor: str) -> TeamView:
    """What one team's page shows.

    Raises:
        Refused: no server that one may know of is the team's.
    """
    caller = frame.caller
    servers = [s for s in known(parts, caller) if s.owner == group]
    if not re.fullmatch(NAME_PATTERN, group) or not servers:
        message = "No server that is here for you is owned by such a team."
        raise refuse(404, "unknown_team", message, "Look at the page of teams.")
    names = [str(server.name) for server in servers]
    figures = await parts.ledger.figures_of(names[:MOST_SUMMED])
    own = frozenset(names)
    waiting = await parts.reviewing.listed(states=[State.OPEN], limit=MOST_REVIEWS)
    status = parts.status.read()
    states = Counter(standing(status, server).word for server in servers)
    begin = next((place for place, name in enumerate(names) if name > cursor), len(names)) if cursor else 0
    page = servers[begin : begin + PAGE_SERVERS]
    kept = frame.viewer.query if frame.viewer else ()
    here, more = f"{PATH}/{group}", len(servers) > begin + PAGE_SERVERS
    return TeamView(
        name=group,
        mine=group in caller.groups,
        count=len(servers),
        total=Figures(
            sum(each.calls for each in figures.values()), 0, sum(each.minutes_saved for each in figures.values())
        ),
        states=tuple(states.most_common()),
        servers=tuple(ServerRow(s, standing(status, s), figures.get(str(s.name), Figures())) for s in page),
        reviews=tuple(review for review in reversed(waiting) if review.server in own),
        next=with_query(here, [*kept, ("cursor", str(page[-1].name))]) if more else "",
        first=with_query(here, kept) if begin else "",
    )
