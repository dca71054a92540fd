"""The API's routes to stops: what is stopped, and stopping something at once.

To stop only takes away, so a token is enough. To resume widens access, and wants a person at a browser (the page
/stops) or somebody at the machine: whoever holds an operator's token, as an agent does, must not be able to.
"""

from __future__ import annotations

from fastapi import APIRouter, Request

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.stopping.errors import StopRefused
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.stops_view import StopBody, StopEntry, StopsAnswer, stop_refusal

_BODY = {"kind": "server", "name": "prod/presto", "why": "it answers with last year’s figures"}


def add_stop_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/stops",
        summary="What is stopped: everything for operators and security, their own servers’ for owners",
        responses=refusals(),
    )
    async def list_stops(caller: SignedIn) -> StopsAnswer:
        found = await parts.stopping.listed(_who(caller))
        return StopsAnswer(stops=[StopEntry.of(stop) for stop in found])

    @router.post(
        "/stops",
        summary="Stop something for everybody, in under two seconds; it is resumed in a browser, on /stops",
        status_code=201,
        responses=refusals(400, 404, 413),
        openapi_extra=body_of(StopBody, {"server": _BODY}),
    )
    async def stop(request: Request, caller: SignedIn) -> StopEntry:
        body = await read_model(request, StopBody)
        try:
            return StopEntry.of(await parts.stopping.stop(_who(caller), body.kind, body.name, body.why, body.until))
        except StopRefused as error:
            raise stop_refusal(error) from error


def _who(caller: Caller) -> Who:
    if not is_person(caller):
        raise refuse(403, "access_denied", "A service stops nothing.", "Have a person do it.", "not_a_person")
    return Who.person(caller.sub, caller.groups)
