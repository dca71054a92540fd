"""The API's answer to: who would gain what? A change that is thought of, and everybody whose tools it would change.

Asking changes nothing. It is for those who look after a server: the answer names people and tools.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pegboard.core.caller import Caller
from pegboard.core.declared import MOST_BYTES, declaration_problems
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Name, Sensitivity, known_surfaces
from pegboard.core.release import Declaration
from pegboard.core.spiffe import LONGEST, SPIFFE_ID
from pegboard_hub.common.faults import every
from pegboard_hub.common.requests import Refused, read_body, refuse
from pegboard_hub.registry.impact import Impact, Place, Proposal, Row, ToolChange, TooManyCases, Words, proposed
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.impact_view import MOST_ROWS, find_impact, view_of
from pegboard_hub.web.knowing import known_server, looks_after
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import strict_json

BODY_LIMIT = MOST_BYTES + 64 * 1024
"""Bytes of a request: the largest declaration, with all that may stand beside it."""

AT_ONCE = 2
"""Answers that are computed at the same time: each takes a processor for as long as it has people and policies."""

_Channel = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_Service = Annotated[str, StringConstraints(max_length=LONGEST, pattern=f"^{SPIFFE_ID}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProposedAccess(_Strict):
    """What would be granted. A kind that is left out stays as it is; an empty list grants nobody."""

    groups: tuple[Name, ...] | None = Field(default=None, max_length=200)
    surfaces: Annotated[tuple[str, ...], Field(max_length=20), AfterValidator(known_surfaces)] | None = None
    channels: tuple[_Channel, ...] | None = Field(default=None, max_length=200)
    services: tuple[_Service, ...] | None = Field(default=None, max_length=200)


class ProposedChange(_Strict):
    """A change that is thought of. What is left out stays as it is."""

    granted: ProposedAccess | None = None
    sensitivity: Sensitivity | None = None
    policies: dict[str, str] = Field(default={}, max_length=200, description="new Cedar text by name of the policy")
    release: Literal["waiting"] | None = Field(default=None, description="the release that waits for its reviews")
    declaration: Declaration | None = Field(default=None, description="a whole release that does not exist yet")
    lifecycle: Lifecycle | None = None


class ImpactedPerson(BaseModel):
    """Somebody who is known."""

    sub: str
    name: str


class ImpactPlace(BaseModel):
    """Where a call comes from."""

    surface: str
    channel: str | None = Field(description="of a bot")


class ImpactedTool(BaseModel):
    """What may be done with a tool before and after."""

    tool: str
    before: Words
    after: Words


class ImpactedGroup(BaseModel):
    """People whom no rule of the server tells apart, or one service, and what they gain and lose from some places."""

    groups: list[str] = Field(description="they are in exactly these of the groups that grants or policies name")
    person: str | None = Field(description="the one whom a policy names; null: all of them")
    service: str | None = Field(description="SPIFFE ID; null for people")
    people: int = Field(description="how many are known; 0 where nobody of them is signed in")
    named: list[ImpactedPerson] = Field(description="the first of them, in order of name")
    places: list[ImpactPlace]
    gains: list[ImpactedTool]
    loses: list[ImpactedTool]


class ImpactAnswer(BaseModel):
    """Who would gain and lose what, as if nothing of the server were stopped."""

    server: str
    summary: str
    sensitivity_before: Sensitivity
    sensitivity_after: Sensitivity
    gaining: int = Field(description="known people who gain something")
    losing: int = Field(description="known people who lose something")
    keeping: int = Field(description="known people who may use some tool both before and after")
    exhaustive: bool = Field(description="false: a company's login alone knows who else is in a group")
    stopped: str = Field(description="why it is stopped now; empty while it is not")
    rows: list[ImpactedGroup] = Field(description=f"the first {MOST_ROWS}")
    rows_in_all: int


def _standing_alone(schema: Any, known: dict[str, Any]) -> Any:
    """A schema with what it refers to written out: within OpenAPI a `#` is the whole document."""
    if isinstance(schema, list):
        return [_standing_alone(each, known) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _standing_alone(known[schema["$ref"].removeprefix("#/$defs/")], known)
    return {key: _standing_alone(value, known) for key, value in schema.items() if key != "$defs"}


_CHANGE = ProposedChange.model_json_schema()
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _standing_alone(_CHANGE, _CHANGE["$defs"]),
            "examples": {"surfaces": {"value": {"granted": {"surfaces": ["chat", "cli"]}}}},
        }
    },
}
"""For OpenAPI. The body is read here, after the sign-in and within a limit, which FastAPI's own reading is not."""


def add_impact_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""
    turns = asyncio.Semaphore(AT_ONCE)

    @router.post(
        "/servers/{namespace}/{name}/impact",
        summary="Who would gain what? For the server's owners, reviewers, operators and security",
        openapi_extra={"requestBody": _BODY},
        responses=refusals(400, 404, 413),
    )
    async def ask_impact(request: Request, namespace: str, name: str, caller: SignedIn) -> ImpactAnswer:
        server = _find(parts, caller, f"{namespace}/{name}")
        change = _read(await read_body(request, BODY_LIMIT))
        async with turns:
            try:
                return _answer(await find_impact(parts, server, _after(server, change)))
            except TooManyCases as error:
                raise _invalid("granted", f"{error}: ask about less at once") from error


def _find(parts: Parts, caller: Caller, name: str) -> RegisteredServer:
    server = known_server(parts, caller, name)
    if not looks_after(parts, caller, server):
        ask = f"Ask {server.owner} in {server.support_channel}, or somebody in security."
        words = (
            f"Who would gain what of {name} is for its owners, reviewers, operators and security to look at. {ask}"
        )
        raise refuse(403, "not_owner", words, ask)
    return server


def _read(body: bytes) -> ProposedChange:
    try:
        change = ProposedChange.model_validate(strict_json(body))
    except ValidationError as error:
        told = every(error.errors(include_url=False, include_input=False))
        raise refuse(422, "invalid_request", told, "Mend what is named.") from error
    except ValueError as error:
        raise refuse(400, "invalid_request", f"The body is not JSON: {error}.", "Send one JSON object.") from error
    if change.declaration is not None and change.release is not None:
        raise _invalid("release", "It stands beside a declaration: name one release")
    return change


def _after(server: RegisteredServer, change: ProposedChange) -> RegisteredServer:
    try:
        return proposed(
            server,
            Proposal(
                granted=_granted(server.granted, change.granted),
                sensitivity=change.sensitivity,
                policies=change.policies,
                release=_release(server, change),
                lifecycle=change.lifecycle,
            ),
        )
    except ConfigurationError as error:
        raise _invalid(error.where, "; ".join(error.problems)) from error


def _granted(now: Access, change: ProposedAccess | None) -> Access | None:
    if change is None:
        return None
    said = {kind: values for kind, values in change if values is not None}
    return now._replace(**said)


def _release(server: RegisteredServer, change: ProposedChange) -> Release | None:
    if change.declaration is not None:
        if problems := declaration_problems(change.declaration):
            raise _invalid("declaration", problems[0])
        missing = sorted({tool.policy for tool in change.declaration.tools} - change.declaration.policies.keys())
        if missing:
            raise _invalid("declaration.policies", f"tools name {missing[0]}, and it is not there")
        return Release.of(change.declaration)
    if change.release is not None and server.waiting is None:
        raise _invalid("release", "No release waits")
    return server.waiting if change.release is not None else None


def _answer(found: Impact) -> ImpactAnswer:
    return ImpactAnswer(
        server=found.server,
        summary=view_of(found).summary,
        sensitivity_before=found.before,
        sensitivity_after=found.after,
        gaining=found.gaining,
        losing=found.losing,
        keeping=found.keeping,
        exhaustive=found.exhaustive,
        stopped=found.stopped,
        rows=[_row(row) for row in found.rows[:MOST_ROWS]],
        rows_in_all=len(found.rows),
    )


def _row(row: Row) -> ImpactedGroup:
    return ImpactedGroup(
        groups=list(row.who.groups),
        person=row.who.person or None,
        service=row.who.service or None,
        people=row.people,
        named=[ImpactedPerson(sub=person.sub, name=person.name) for person in row.named],
        places=[_place(place) for place in row.places],
        gains=[_tool(change) for change in row.gains],
        loses=[_tool(change) for change in row.loses],
    )


def _place(place: Place) -> ImpactPlace:
    return ImpactPlace(surface=place.surface, channel=place.channel)


def _tool(change: ToolChange) -> ImpactedTool:
    return ImpactedTool(tool=change.tool, before=change.before.words, after=change.after.words)


def _invalid(field: str, problem: str) -> Refused:
    return refuse(422, "invalid_request", f"{field}: {problem}.", "Mend the named field.")
