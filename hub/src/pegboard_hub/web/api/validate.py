"""Is this the server, the endpoint and the release that it claims to be: approved, and unchanged?

For clients and gateways that have an address, a release or a list of tools from somewhere, and ask before they trust
it. What is not there and what is not for the caller get the same answer, so nothing can be found out by asking.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request

from pegboard.core.caller import Caller
from pegboard_hub.registry.explain import visible_tools
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.registry_schema import Claims, Validation, Verdict
from pegboard_hub.web.api.views import tools_digest
from pegboard_hub.web.knowing import knows, stop_told
from pegboard_hub.web.parts import Parts

NOT_HERE = "there is no such server here, or you may not know of it"
NOTHING_TO_HOLD = "nothing can be said of it, since the server is not known"

_EXAMPLE = {"server": "prod/presto", "endpoint": "https://mcp.example.com/mcp/prod/presto", "release": "1.0.3"}


def add_validate_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""

    @router.post(
        "/servers:validate",
        summary="Is this the server, endpoint and release it claims to be: approved, and unchanged?",
        responses=refusals(400, 413),
        openapi_extra=body_of(Claims, {"presto": _EXAMPLE}),
    )
    async def validate_server(request: Request, caller: SignedIn) -> Validation:
        claims = await read_model(request, Claims)
        server = parts.registry.current.servers.get(claims.server)
        if server is not None and not knows(parts, caller, server):
            server = None
        verdicts = list(_unknown(claims) if server is None else _verdicts(parts, caller, server, claims))
        return Validation(server=claims.server, valid=all(each.holds for each in verdicts), verdicts=verdicts)


def _unknown(claims: Claims) -> Iterator[Verdict]:
    yield Verdict(claim="server", holds=False, reason=NOT_HERE)
    yield Verdict(claim="approved", holds=False, reason=NOTHING_TO_HOLD)
    if claims.endpoint is not None:
        yield Verdict(claim="endpoint", holds=False, reason=NOTHING_TO_HOLD)
    if claims.release is not None:
        yield Verdict(claim="release", holds=False, reason=NOTHING_TO_HOLD)
    if claims.tools_digest is not None:
        yield Verdict(claim="tools_digest", holds=False, reason=NOTHING_TO_HOLD)


def _verdicts(parts: Parts, caller: Caller, server: RegisteredServer, claims: Claims) -> Iterator[Verdict]:
    yield Verdict(claim="server", holds=True, reason=f"{server.name} is registered here, owned by {server.owner}")
    yield _approved(parts, caller, server)
    if claims.endpoint is not None:
        url = server.name.resource_url(parts.public_url)
        holds = claims.endpoint == url
        yield Verdict(
            claim="endpoint", holds=holds, reason=f"its endpoint is {url}{'' if holds else ', and no other'}"
        )
    if claims.release is not None:
        yield _release(server, claims.release)
    if claims.tools_digest is not None:
        yield _tools(parts, caller, server, claims.tools_digest)


def _approved(parts: Parts, caller: Caller, server: RegisteredServer) -> Verdict:
    if not server.reachable:
        return Verdict(claim="approved", holds=False, reason=f"it is {server.lifecycle}, and cannot be called")
    if server.stopped:
        return Verdict(claim="approved", holds=False, reason=f"it is stopped: {stop_told(parts, caller, server)}")
    if server.lifecycle is Lifecycle.DEPRECATED:
        return Verdict(claim="approved", holds=True, reason=f"it is deprecated: {server.lifecycle_why}")
    return Verdict(claim="approved", holds=True, reason="its release is approved and deployed")


def _release(server: RegisteredServer, claimed: str) -> Verdict:
    if server.release is None or not server.reachable:
        return Verdict(claim="release", holds=False, reason="no release of it is deployed")
    now = f"{server.semver} ({server.release.digest})"
    if claimed in (server.semver, server.release.digest):
        return Verdict(claim="release", holds=True, reason=f"{now} is deployed")
    return Verdict(claim="release", holds=False, reason=f"it is not the one that is deployed, which is {now}")


def _tools(parts: Parts, caller: Caller, server: RegisteredServer, claimed: str) -> Verdict:
    tools = visible_tools(caller, server, parts.public_url)
    if not tools:
        return Verdict(claim="tools_digest", holds=False, reason="none of its tools is listed for you from here")
    holds = claimed == tools_digest(tools)
    reason = "the tools that are listed for you are those that were pinned"
    return Verdict(
        claim="tools_digest",
        holds=holds,
        reason=reason if holds else "the tools that are listed for you from here are others, or read otherwise",
    )
