"""The API's route to servers' logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pegboard_hub.publishing.steering import Who
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.knowing import known_server
from pegboard_hub.web.logs_view import AskedLogs, LogAnswer, LogEntry, lines_of
from pegboard_hub.web.parts import Parts


def add_log_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/servers/{namespace}/{name}/logs",
        summary="Lines of a server's logs, for its owners and operators",
        responses=refusals(404, 409),
    )
    async def get_logs(
        namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedLogs, Query()]
    ) -> LogAnswer:
        server = known_server(parts, caller, f"{namespace}/{name}")
        who = Who.person(caller.sub, caller.groups if is_person(caller) else ())
        found = await lines_of(parts, who, server, asked)
        return LogAnswer(lines=[LogEntry.of(line) for line in found.lines], more=found.more)
