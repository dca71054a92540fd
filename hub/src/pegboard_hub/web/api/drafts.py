"""Registering a server, and editing it while it is a draft.

A draft has no power: nobody can call it, and nothing is granted to it. So a token is enough to make and change one,
where everything that widens access wants a person at a browser. What makes it more than a draft is not set here:
lifecycle, releases, grants and where its code is are no fields of a draft, and are refused by name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.changes import Change, check_room
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused, NameTaken, TooManyDrafts, UnknownServer
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.record import check_apart, check_record, check_server_name, check_why
from pegboard_hub.registry.visibility import edits
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, invalid, not_so, read_model
from pegboard_hub.web.api.etag import conflict, expected_version, tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.registry_schema import AskedRetire, DraftBody, DraftChange, DraftChecked, ServerDetail
from pegboard_hub.web.api.views import detail, version_for
from pegboard_hub.web.knowing import known, known_server, no_server, owners_for
from pegboard_hub.web.parts import Parts

ONE = "/servers/{namespace}/{name}"

_BODY = {
    "server": "prod/weather",
    "title": "Weather",
    "description": "Forecasts for the places we deliver to",
    "owner": "platform",
    "support_channel": "#data-platform",
    "links": {"docs": "https://wiki.example/weather"},
    "sensitivity": "internal",
    "uses_models": False,
    "why": "delivery planning asks for it",
}
_CHANGE = {"description": "Forecasts for every place we deliver to", "why": "new places"}

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="the ETag that you got with what you are changing; needed"),
]
"""For the document; it is read from the request itself, where a header that comes twice is seen."""


def add_draft_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""
    _add_check(router, parts)
    _add_create(router, parts)
    _add_change(router, parts)
    _add_retire(router, parts)


def _add_check(router: APIRouter, parts: Parts) -> None:
    @router.post(
        "/drafts:check",
        summary="Would a server be registered as a draft? Nothing is made; of names you learn what you may know",
        responses=refusals(400, 409, 413),
        openapi_extra=body_of(DraftBody, {"weather": _BODY}),
    )
    async def check_draft(request: Request, caller: SignedIn) -> DraftChecked:
        body = await read_model(request, DraftBody)
        _check_owner(parts, caller, body.owner)
        names = [server.name for server in known(parts, caller)]
        with _told():
            check_why(body.why)
            name = check_server_name(body.server)
            if name in names:
                raise NameTaken(body.server)
            check_apart(name, names)
            check_record(_record(body))
            check_room(body.owner, parts.registry.current.servers.values(), now_ms=int(time.time() * 1000))
        return DraftChecked(server=body.server)


def _add_create(router: APIRouter, parts: Parts) -> None:
    @router.post(
        "/servers",
        summary="Register a server as a draft",
        status_code=201,
        response_model=ServerDetail,
        responses=refusals(400, 409, 413),
        openapi_extra=body_of(DraftBody, {"weather": _BODY}),
    )
    async def create_draft(request: Request, caller: SignedIn) -> Response:
        body = await read_model(request, DraftBody)
        _check_owner(parts, caller, body.owner)
        with _told():
            why = check_why(body.why)
            async with parts.registry.changing() as changing:
                draft = await changing.register(body.server, _record(body), Actor(caller.sub), why)
        return _answer(parts, request, caller, draft, 201)


def _add_change(router: APIRouter, parts: Parts) -> None:
    @router.patch(
        ONE,
        summary="Change a draft's record",
        response_model=ServerDetail,
        responses=refusals(400, 404, 409, 412, 413, 428),
        openapi_extra=body_of(DraftChange, {"description": _CHANGE}),
    )
    async def change_draft(
        request: Request,
        namespace: str,
        name: str,
        caller: SignedIn,
        if_match: IfMatch = None,  # noqa: ARG001
    ) -> Response:
        draft = _draft(parts, caller, namespace, name)
        expected = expected_version(request, str(draft.name))
        body = await read_model(request, DraftChange)
        values = {field: getattr(body, field) for field in body.model_fields_set - {"why"}}
        if "owner" in values:
            _check_owner(parts, caller, body.owner)
        with _told():
            change = Change(
                str(draft.name), Actor(caller.sub), "edit", check_why(body.why), expected=expected, values=values
            )
            changed = await _apply(parts, caller, change)
        return _answer(parts, request, caller, changed)


def _add_retire(router: APIRouter, parts: Parts) -> None:
    @router.delete(
        ONE,
        summary="Give a draft up: it is retired, and its name stays taken",
        response_model=ServerDetail,
        responses=refusals(404, 409, 412, 428),
    )
    async def retire_draft(
        request: Request,
        namespace: str,
        name: str,
        caller: SignedIn,
        asked: Annotated[AskedRetire, Query()],
        if_match: IfMatch = None,  # noqa: ARG001
    ) -> Response:
        draft = _draft(parts, caller, namespace, name)
        expected = expected_version(request, str(draft.name))
        with _told():
            why = check_why(asked.why)
            values = {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": why}
            change = Change(str(draft.name), Actor(caller.sub), "retire", why, expected=expected, values=values)
            retired = await _apply(parts, caller, change)
        return _answer(parts, request, caller, retired)


async def _apply(parts: Parts, caller: Caller, change: Change) -> RegisteredServer:
    """Make a change of a draft; whether it is one, and the caller's, is asked again in the transaction."""
    async with parts.registry.changing() as changing:
        now = changing.server(change.server)
        if change.expected == now.version:
            _check_editable(parts, caller, now)
        return await changing.apply(change)


def _record(body: DraftBody) -> dict[str, Any]:
    return body.model_dump(exclude={"server", "why"})


def _draft(parts: Parts, caller: Caller, namespace: str, name: str) -> RegisteredServer:
    server = known_server(parts, caller, f"{namespace}/{name}")
    _check_editable(parts, caller, server)
    return server


def _check_editable(parts: Parts, caller: Caller, server: RegisteredServer) -> None:
    if edits(parts.reviewing.rights.roles, caller, server):
        return
    if server.lifecycle is not Lifecycle.DRAFT:
        message = f"{server.name} is {server.lifecycle}: drafts alone are edited here."
        mend = (
            "Change its pegboard.toml, and make a new release; its page leads to what else can be changed."
            if server.released
            else f"Its owners take it back to a draft, or ask for other access, at /servers/{server.name}/access."
        )
        raise refuse(409, "not_a_draft", message, mend)
    ask = f"Ask {server.owner}." if server.owner else "Ask the platform team."
    raise refuse(403, "not_owner", f"The draft {server.name} is for its owner's team and operators to edit.", ask)


def _check_owner(parts: Parts, caller: Caller, owner: str) -> None:
    if caller.sub_type != "person":
        raise refuse(403, "not_a_person", "Servers are registered by people.", "Have somebody of the team do it.")
    owners = owners_for(parts, caller.groups)
    if owners is None or owner in owners:
        return
    if owners > frozenset(caller.groups):
        raise invalid("owner", "Nobody here is in that group.", f"Use one of {', '.join(sorted(owners))}.")
    mend = f"Use one of {', '.join(caller.groups)}."
    if not caller.groups:
        mend = "You are in no group: ask whoever looks after your company’s groups."
    raise invalid("owner", "It is none of your groups.", mend)


@contextmanager
def _told() -> Iterator[None]:
    """What the registry says of a change that it does not make, as the API says it."""
    try:
        yield
    except ChangeConflict as error:
        raise conflict(error) from error
    except NameTaken as error:
        raise refuse(409, "name_taken", f"{error.field}: {error.fault}.", error.mend) from error
    except TooManyDrafts as error:
        raise refuse(409, "too_many_drafts", f"owner: {error.fault}.", error.mend) from error
    except ChangeRefused as error:
        raise not_so(error) from error
    except UnknownServer as error:
        raise no_server() from error


def _answer(parts: Parts, request: Request, caller: Caller, server: RegisteredServer, status: int = 200) -> Response:
    # A draft has had no review.
    body = detail(parts, caller, server, ())
    response = tagged(request, body, caller, version=version_for(parts, caller, server), status=status)
    if status == 201:
        response.headers["Location"] = f"/api/v1/servers/{server.name}"
    return response
