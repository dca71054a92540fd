"""Deployments at the internal door: runtimes ask what should run, and say what does."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError

from pegboard.core.address import UNIX
from pegboard.core.names import ServerName
from pegboard_hub.common.faults import every
from pegboard_hub.common.home import Home
from pegboard_hub.common.requests import read_body, refuse
from pegboard_hub.common.runtimes import MACHINE, known_runtimes, runs
from pegboard_hub.publishing.orders import DESIRED, LONGEST_WAIT_S, OBSERVED, Desired, Observed, ObservedRelease
from pegboard_hub.web.internal.operator import check_runs
from pegboard_hub.web.parts import Parts

log = logging.getLogger(__name__)

LONGEST_WORD = 16 * 1024 * 1024
"""Bytes of what a runtime sees; of a thousand servers it is some hundred thousand."""


def deployment_door(parts: Parts) -> APIRouter:
    """The routes of runtimes."""
    router = APIRouter(include_in_schema=False)

    @router.get(DESIRED)
    async def desired(
        request: Request,
        version: Annotated[str, Query(max_length=64)] = "",
        wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
    ) -> Desired:
        name = check_runs(parts, request)
        found = await parts.deployments.desired(version, wait_s)
        if found is None:
            message = "This hub has not looked at what should run yet."
            raise refuse(503, "not_ready", message, "Leave everything as it is, and ask again.")
        known = known_runtimes(parts.rotation.keys.home.runtimes)
        mine = tuple(each for each in found.servers if runs(known, name, namespace_of(each.server)))
        return found.model_copy(update={"servers": mine})

    @router.post(OBSERVED, status_code=204)
    async def observed(request: Request) -> Response:
        name = check_runs(parts, request)
        try:
            word = Observed.model_validate_json(await read_body(request, LONGEST_WORD))
        except ValidationError as error:
            told = every(error.errors(include_url=False, include_input=False))
            raise refuse(422, "invalid_request", told, "Mend what is named.") from error
        known = known_runtimes(parts.rotation.keys.home.runtimes)
        if word.runtime != name:
            message = f"Nothing was taken: runtime: this is the credential of {name}."
            raise refuse(422, "invalid_request", message, "Tell what you run under your own name.")
        # Of a namespace that is not its own it has nothing to say: nobody speaks of another's replicas.
        home = parts.rotation.keys.home
        mine = tuple(
            _there(home, name, each) for each in word.releases if runs(known, name, namespace_of(each.server))
        )
        await parts.deployments.observe(word.model_copy(update={"releases": mine}))
        return Response(status_code=204)

    return router


def _there(home: Home, runtime: str, release: ObservedRelease) -> ObservedRelease:
    """A release with those of its replicas that are where such a runtime has them: this machine's behind sockets of
    their own server, another's behind ports. No word sends a server's calls to another, or to a part of Pegboard's.
    """
    own = f"{UNIX}{home.socket(ServerName.parse(release.server)).parent.relative_to(home.run)}/"

    def fits(address: str) -> bool:
        return not address or (address.startswith(own) if runtime == MACHINE else not address.startswith(UNIX))

    if strays := [each.address for each in release.replicas if not fits(each.address)]:
        facts = {"runtime": runtime, "server": release.server, "address": strays[0][:200]}
        log.error("a runtime names a replica where it has none", extra=facts)
    return release.model_copy(update={"replicas": tuple(each for each in release.replicas if fits(each.address))})


def namespace_of(server: str) -> str:
    """The namespace of `namespace/name`."""
    return server.partition("/")[0]
