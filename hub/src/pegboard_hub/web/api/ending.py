"""The API's routes to the end of a server: deprecating it, with a date and what takes its place, and retiring it.

Both only take away, so a token is enough; to bring a server back wants a person at a browser.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry import releases
from pegboard_hub.registry.ending import NO_ENDING, Ending
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.record import LONGEST_WHY
from pegboard_hub.registry.tables import SERVER_LENGTH
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, not_so, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.registry_schema import ServerDetail
from pegboard_hub.web.api.views import detail
from pegboard_hub.web.failures import FAILURES, refusal_of
from pegboard_hub.web.knowing import known_server
from pegboard_hub.web.parts import Parts

ONE: Final = "/servers/{namespace}/{name}"


class RetireBody(BaseModel):
    """Why a server is retired."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=LONGEST_WHY, description="shown to everybody who uses it")


class DeprecateBody(RetireBody):
    """Why a server is deprecated, when it closes, and what takes its place."""

    ends_at: int | None = Field(default=None, description="when it closes by itself, in milliseconds since the epoch")
    successor: str | None = Field(
        default=None, max_length=SERVER_LENGTH, description="what to use instead, as prod/presto"
    )


def add_ending_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.post(
        f"{ONE}/deprecate",
        summary="Say that a server goes: it stays callable, callers are told, and it closes at its date",
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(
            DeprecateBody,
            {"date": {"why": "presto has all of it", "successor": "prod/presto", "ends_at": 1800000000000}},
        ),
    )
    async def deprecate_server(request: Request, namespace: str, name: str, caller: SignedIn) -> ServerDetail:
        body = await read_model(request, DeprecateBody)
        ending = Ending(body.ends_at, body.successor or None)
        return await _moved(parts, caller, f"{namespace}/{name}", "deprecate", body.why, ending)

    @router.post(
        f"{ONE}/retire",
        summary="Retire a server: nobody can call it any more, and its record stays",
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(RetireBody, {"why": {"why": "nobody has called it for a year"}}),
    )
    async def retire_server(request: Request, namespace: str, name: str, caller: SignedIn) -> ServerDetail:
        body = await read_model(request, RetireBody)
        return await _moved(parts, caller, f"{namespace}/{name}", "retire", body.why)


async def _moved(
    parts: Parts, caller: Caller, name: str, action: str, why: str, ending: Ending = NO_ENDING
) -> ServerDetail:
    server = known_server(parts, caller, name)
    if not is_person(caller):
        message = "Servers are deprecated and retired by people."
        raise refuse(403, "not_a_person", message, "Have somebody of the team do it.")
    person = PersonFacts(caller.sub, caller.sub, caller.groups)
    try:
        moved = await parts.reviewing.move(person, str(server.name), action, why, None, ending)
    except ChangeRefused as error:
        if error.field == "lifecycle":
            raise refuse(409, "conflict", f"{name} is {server.lifecycle}: {error.fault}.", error.mend) from error
        raise not_so(error) from error
    except FAILURES as error:
        raise refusal_of(error) from error
    async with parts.database.read() as connection:
        outcomes = await releases.outcomes(connection, str(moved.name))
    return detail(parts, caller, moved, outcomes)
