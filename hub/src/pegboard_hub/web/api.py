"""The rich API, version 1: what a signed-in caller may know of servers, access and calls."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from pegboard.core.caller import Caller
from pegboard.core.decide import Decision
from pegboard.core.names import ServerName
from pegboard_hub.common.requests import Refused, refuse, request_id
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.registry.explain import explain, insider, reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.walk import walk
from pegboard_hub.web.auth import SignedIn, bearer
from pegboard_hub.web.ledger_api import ledger_routes
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.schema import AccessAnswer, Explanation, Servers, ServerSummary, WhoAmI

MOST_ARGUMENTS = 16 * 1024
"""Characters of the arguments in a question: they are in its URL, and policies look at short ones."""


def api_routes(parts: Parts) -> APIRouter:
    """The routes under `/api/v1`. Every one needs a token bound to the API."""
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(bearer(parts.api_tokens))])
    _add_registry_routes(router, parts)
    _add_explain_routes(router, parts)
    router.include_router(ledger_routes(parts))

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        document: dict[str, Any] = request.app.openapi()
        return document

    return router


def _add_registry_routes(router: APIRouter, parts: Parts) -> None:
    @router.get("/whoami", summary="Who this token says you are")
    async def whoami(caller: SignedIn) -> WhoAmI:
        return WhoAmI(
            **{name: getattr(caller, name) for name in WhoAmI.model_fields if name != "groups"},
            groups=list(caller.groups),
        )

    @router.get("/servers", summary="The servers you may reach from here, with the tools you may see")
    async def servers(caller: SignedIn) -> Servers:
        status = parts.status.read()
        reachable = [s for s in parts.registry.current.all_deployed if reaches(caller, s, parts.public_url)]
        return Servers(servers=[_summary(parts, caller, server, status.state(server)) for server in reachable])

    @router.get("/servers/{namespace}/{name}/access", summary="May you use this server?")
    async def access(request: Request, namespace: str, name: str, caller: SignedIn) -> AccessAnswer:
        server = _server(parts, f"{namespace}/{name}")
        decision = explain(caller, server, None, parts.public_url, insider=False)
        return AccessAnswer(**_answer(request, server, decision))


def _add_explain_routes(router: APIRouter, parts: Parts) -> None:
    @router.get("/explain", summary="What would a call meet, rule by rule? Of others: for owners and security only")
    async def explanation(
        request: Request,
        caller: SignedIn,
        server: Annotated[str, Query(description="NAMESPACE/NAME")],
        tool: Annotated[str | None, Query(max_length=255)] = None,
        person: str | None = None,
        surface: str | None = None,
        channel: str | None = None,
        arguments: Annotated[str | None, Query(max_length=MOST_ARGUMENTS, description="A JSON object")] = None,
    ) -> Explanation:
        given = _arguments(arguments, tool)
        found = _server(parts, server)
        knows = insider(caller, found)
        if person is not None and person != caller.sub and not knows:
            raise _not_yours(found)
        subject = _subject(parts, caller, person, surface, channel)
        decision = explain(subject, found, tool, parts.public_url, insider=knows, arguments=given)
        state, url = parts.status.read().state(found), found.name.resource_url(parts.public_url)
        return Explanation(
            **_answer(request, found, decision),
            person=subject.sub,
            surface=subject.surface,
            tool=tool,
            steps=[step._asdict() for step in walk(decision, found, tool, state, url)],
        )


def _subject(parts: Parts, caller: Caller, person: str | None, surface: str | None, channel: str | None) -> Caller:
    """Whose call is explained: the caller's own as it is, or one of the demo directory's."""
    if surface is None and channel is None and person in (None, caller.sub):
        return caller
    try:
        return parts.sign_in.caller(person or caller.sub, surface or caller.surface, channel)
    except OAuthRefused as error:
        status, code = (404, "unknown_person") if error.code == "invalid_grant" else (422, "invalid_request")
        raise refuse(status, code, f"{error.description}.", "Use one of the known ones.") from error


def _server(parts: Parts, name: str) -> RegisteredServer:
    try:
        found = parts.registry.current.deployed(str(ServerName.parse(name)))
    except ValueError as error:
        raise refuse(422, "invalid_request", f"{error}.", "Name it as NAMESPACE/NAME.") from error
    if found is None:
        raise refuse(
            404,
            "unknown_server",
            f"No server {name} is registered and deployed here.",
            "List the servers you may use, or ask the platform team to register it.",
        )
    return found


def _arguments(text: str | None, tool: str | None) -> dict[str, Any] | None:
    """The arguments of the call that is asked about, as the call would carry them."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise refuse(422, "invalid_request", "arguments is not a JSON object.", 'Write it as {"name": value}.')
    if tool is None:
        raise refuse(422, "invalid_request", "arguments needs a tool.", "Name the tool that they are for.")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _not_yours(server: RegisteredServer) -> Refused:
    access = server.bundled()
    ask = f"Ask {access.owner} in {access.support_channel}, or somebody in security."
    message = f"Another person's access to {server.name} is for its owners and security to look at. {ask}"
    return refuse(403, "not_owner", message, ask)


def _summary(parts: Parts, caller: Caller, server: RegisteredServer, status: Any) -> ServerSummary:
    assert server.release is not None  # noqa: S101 - only deployed servers are reachable
    manifest = server.release.manifest
    tools = visible_tools(caller, server, parts.public_url)
    return ServerSummary(
        **{name: getattr(manifest, name) for name in ("title", "description", "owner", "support_channel")},
        server=str(server.name),
        sensitivity=manifest.sensitivity,
        release=server.release.digest,
        status=status,
        resource_url=server.name.resource_url(parts.public_url),
        tools=[tool.model_dump(include={"name", "title", "description", "minutes_saved"}) for tool in tools],
    )


def _answer(request: Request, server: RegisteredServer, decision: Decision) -> dict[str, Any]:
    refusal = decision.refusal.for_request(request_id(request)).as_json() if decision.refusal else None
    return {
        "server": str(server.name),
        "allowed": decision.allowed,
        "checks": [check._asdict() for check in decision.checks],
        "refusal": refusal,
    }
