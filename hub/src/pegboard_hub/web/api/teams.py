"""Teams: who owns which servers, of those that the caller may know of."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.listing import Asker
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.registry_schema import Team, Teams, TeamSummary
from pegboard_hub.web.api.views import entry
from pegboard_hub.web.knowing import known
from pegboard_hub.web.paging import AskedPage, page_of
from pegboard_hub.web.parts import Parts


def add_team_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "",
        summary="Teams that own servers, in order of name",
        response_model=Teams,
        responses=refusals(304, 400),
    )
    async def list_teams(request: Request, caller: SignedIn, asked: Annotated[AskedPage, Query()]) -> Response:
        owned = _owned(parts, caller)
        page = page_of(sorted(owned), str, parts.cursors, caller, "/teams", asked)
        body = Teams(
            teams=[TeamSummary(**_summary(caller, team, owned[team])) for team in page.items], next=page.next
        )
        return tagged(request, body, caller)

    @router.get(
        "/{group}",
        summary="A team and its servers",
        response_model=Team,
        responses=refusals(304, 400, 404),
    )
    async def get_team(
        request: Request, group: str, caller: SignedIn, asked: Annotated[AskedPage, Query()]
    ) -> Response:
        servers = _owned(parts, caller).get(group)
        if servers is None:
            message = "No such team here that owns a server which you may know of."
            raise refuse(404, "unknown_team", message, "List the teams that there are.")
        page = page_of(servers, lambda server: str(server.name), parts.cursors, caller, f"/teams {group}", asked)
        status, asker = parts.status.read(), Asker(caller)
        body = Team(
            **_summary(caller, group, servers),
            owned=[entry(parts, asker, each, status.standing(each)) for each in page.items],
            next=page.next,
        )
        return tagged(request, body, caller)


def _owned(parts: Parts, caller: Caller) -> dict[str, list[RegisteredServer]]:
    found = defaultdict(list)
    for server in known(parts, caller):
        if server.owner:
            found[server.owner].append(server)
    return dict(found)


def _summary(caller: Caller, team: str, servers: list[RegisteredServer]) -> dict[str, object]:
    return {
        "team": team,
        "yours": caller.sub_type == "person" and team in caller.groups,
        "servers": len(servers),
        "support_channels": sorted({server.support_channel for server in servers if server.support_channel}),
    }
