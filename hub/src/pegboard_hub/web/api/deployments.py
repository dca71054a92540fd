"""The API's routes to deployments: what runs of a server, going back, going on, holding, and how many replicas.

A token is enough for all of it: what is gone back to was approved, and meets the people it was approved for.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.publishing.steering import Who
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.deployments_view import Action, DeploymentBody, DeploymentDetail, act, deployment_detail
from pegboard_hub.web.knowing import known_server, looks_after
from pegboard_hub.web.parts import Parts

ONE: Final = "/servers/{namespace}/{name}/deployment"

_ACTIONS: Final[tuple[tuple[Action, str, dict[str, Any]], ...]] = (
    ("promote", "Go on without waiting, or deploy a release again that was tried before", {"why": "it is good"}),
    ("rollback", "Go back to the last good release, in seconds, or to the one that is named", {"why": "it is slow"}),
    ("pause", "Hold what is going on; what is worse still goes back by itself", {"why": "we look at it first"}),
    ("resume", "Go on from where it was paused", {"why": "we have looked"}),
    ("scale", "Have other numbers of replicas than the manifest says", {"why": "a busy week", "min": 2, "max": 6}),
    ("restart", "Start its processes anew, each before an old one ends", {"why": "its secret changed"}),
)


def add_deployment_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(ONE, summary="What runs of a server, and what is on its way", responses=refusals(404))
    async def get_deployment(namespace: str, name: str, caller: SignedIn) -> DeploymentDetail:
        server = _server(parts, caller, f"{namespace}/{name}")
        return await deployment_detail(parts, server, may=parts.steering.may(_who(caller), server))

    for action, summary, example in _ACTIONS:
        _add(router, parts, action, summary, example)


def _add(router: APIRouter, parts: Parts, action: Action, summary: str, example: dict[str, Any]) -> None:
    async def route(request: Request, namespace: str, name: str, caller: SignedIn) -> DeploymentDetail:
        server = _server(parts, caller, f"{namespace}/{name}")
        body = await read_model(request, DeploymentBody)
        await act(parts, _who(caller), str(server.name), action, body)
        return await deployment_detail(parts, server, may=True)

    route.__name__ = f"{action}_deployment"
    router.post(
        f"{ONE}/{action}",
        summary=summary,
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(DeploymentBody, {action: example}),
    )(route)


def _server(parts: Parts, caller: Caller, name: str) -> RegisteredServer:
    """The server, of one in its circle.

    Raises:
        Refused: there is none that they may know of, or how it runs is none of theirs.
    """
    server = known_server(parts, caller, name)
    if not looks_after(parts, caller, server):
        ask = f"Ask {server.owner}." if server.owner else "Ask the platform team."
        raise refuse(403, "not_owner", f"How {server.name} runs is for those who look after it.", ask)
    return server


def _who(caller: Caller) -> Who:
    if not is_person(caller):
        raise refuse(403, "access_denied", "A service deploys nothing.", "Have a person do it.", "not_a_person")
    return Who.person(caller.sub, caller.groups)
