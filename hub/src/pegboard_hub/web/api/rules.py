"""The API's routes to coarse rules: what holds and why, what a change would come to, and changes that only narrow.

What lets anybody do more wants a person at a browser (the page /rules) or somebody at the machine: whoever holds an
operator's token, as an agent does, must not be able to.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.queries import query_of, read_query
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.rules_view import (
    BODY_LIMIT,
    MOST_LISTED,
    ApplyBody,
    ChangeBody,
    DifferenceAnswer,
    EffectiveAnswer,
    EffectiveQuery,
    PreviewAnswer,
    RulesAnswer,
    RulesFileAnswer,
    VersionEntry,
    VersionsAnswer,
    apply,
    differing,
    effective_of,
    file_of,
    listed,
    previewed,
    propose,
)

AT_ONCE = 2
"""Previews that are worked out at the same time."""

_TEXT = (
    'version = 0\n\n[rules.no-chat]\neffect = "deny"\nsurfaces = ["chat"]\nservers = ["prod/presto"]\n'
    'why = "until the audit is over"\nask = "security in #sec-help"\n'
)
_VersionNumber = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


def add_rule_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""
    turns = asyncio.Semaphore(AT_ONCE)

    @router.get("/rules", summary="The coarse rules in force, for operators and security", responses=refusals())
    async def list_rules(
        caller: SignedIn,
        server: Annotated[str, Query(max_length=255, description="only rules that name this server")] = "",
        after: Annotated[str, Query(max_length=64, description="`next` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    ) -> RulesAnswer:
        _governor(parts, caller)
        return listed(parts.ruling.kept, server, after, limit)

    @router.get("/rules/file", summary="The rules as a file, of now or of a version", responses=refusals(404))
    async def rules_file(caller: SignedIn, version: _VersionNumber = None) -> RulesFileAnswer:
        _governor(parts, caller)
        return await file_of(parts, version)

    @router.get("/rules/history", summary="Who changed the rules, when and why", responses=refusals())
    async def rules_history(caller: SignedIn) -> VersionsAnswer:
        _governor(parts, caller)
        return VersionsAnswer(versions=[VersionEntry.of(made) for made in await parts.ruling.history()])

    @router.get("/rules/difference", summary="What changed between two versions", responses=refusals(404))
    async def rules_difference(
        caller: SignedIn, old: _VersionNumber = None, new: _VersionNumber = None
    ) -> DifferenceAnswer:
        _governor(parts, caller)
        return await differing(parts, old, new)

    @router.get(
        "/rules/effective",
        summary="What holds for a surface, a server, a method and groups, and where it is from",
        responses=refusals(404),
        openapi_extra=query_of(EffectiveQuery),
    )
    async def effective_rule(request: Request, caller: SignedIn) -> EffectiveAnswer:
        _governor(parts, caller)
        return await effective_of(parts, read_query(request, EffectiveQuery))

    @router.post(
        "/rules:preview",
        summary="Who would gain what and who would lose what; nothing changes",
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(ChangeBody, {"a file": {"text": _TEXT}, "a revert": {"revert_to": 0}}),
    )
    async def preview_rules(request: Request, caller: SignedIn) -> PreviewAnswer:
        _governor(parts, caller)
        proposed = await propose(parts, await read_model(request, ChangeBody, BODY_LIMIT))
        async with turns:
            return await previewed(parts, proposed)

    @router.post(
        "/rules",
        summary="Bring a set of rules into force that only refuses more; what opens is applied on /rules",
        status_code=201,
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(ApplyBody, {"a file": {"text": _TEXT, "why": "the audit, SEC-31"}}),
    )
    async def apply_rules(request: Request, caller: SignedIn) -> VersionEntry:
        by = _governor(parts, caller)
        return await apply(parts, await read_model(request, ApplyBody, BODY_LIMIT), by, widening=False)


def _governor(parts: Parts, caller: Caller) -> Actor:
    if is_person(caller) and parts.stopping.governs(Who.person(caller.sub, caller.groups)):
        return Actor(caller.sub)
    message = "Coarse rules are for operators and security to look at and to change."
    raise refuse(403, "access_denied", message, "Ask one of them.", "not_an_operator")
