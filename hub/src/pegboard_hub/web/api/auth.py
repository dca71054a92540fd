"""Who is asking the API: a bearer token bound to the API's own audience."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import Depends, Request

from pegboard.core.caller import Caller
from pegboard.core.challenge import Error, challenge, metadata_url
from pegboard.core.errors import TokenRefused
from pegboard.core.names import api_audience
from pegboard.core.revoked import Revoked
from pegboard.core.scopes import SCOPE_API, has_scope
from pegboard.core.stops import ASK, CALLER_KINDS, Stops, told
from pegboard.core.token import REASONS
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.keys import RingVerifier


def bearer(
    verifier: RingVerifier,
    public_url: str,
    revoked: Callable[[], Revoked],
    stops: Callable[[], Stops],
    scopes: Sequence[str] = (SCOPE_API,),
) -> Callable[[Request], Awaitable[None]]:
    """A dependency of a whole router: it notes the verified caller, or refuses with 401 or 403 (RFC 6750 §3).

    Args:
        verifier: of tokens for the API.
        public_url: the edge's origin, where the API's metadata is.
        revoked: tells what is revoked now.
        stops: tells who is stopped now.
        scopes: of which a token has one, at least.
    """
    metadata = metadata_url(api_audience(public_url))

    async def verify(request: Request) -> None:
        try:
            caller = verifier.verify(_token(request), time.time())
            if revoked().voids(caller):
                raise TokenRefused("token_revoked")
        except TokenRefused as error:
            raise _unauthenticated(error.reason, metadata) from error
        refuse_stopped(stops(), caller)
        if not any(has_scope(caller.scope, scope) for scope in scopes):
            raise _out_of_scope(metadata)
        request.state.caller = caller

    return verify


def refuse_stopped(stops: Stops, caller: Caller) -> None:
    """Let nobody pass who is stopped, or calls by what is.

    Raises:
        Refused: 403, saying why, as edge and servers say it.
    """
    for kind in CALLER_KINDS:
        if why := stops.why(kind, caller):
            raise refuse(403, "stopped", f"{told(kind, why)}.", ASK, f"{kind}_stopped")


async def _caller(request: Request) -> Caller:
    # Without `bearer` on the router there is no caller and this fails: no route is open by omission.
    caller: Caller = request.state.caller
    return caller


SignedIn = Annotated[Caller, Depends(_caller)]
"""The verified caller of a request, as a route's parameter."""


def _token(request: Request) -> str:
    values = request.headers.getlist("authorization")
    if not values:
        raise TokenRefused("token_missing")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token:
        raise TokenRefused("token_invalid")
    return token.strip()


def _unauthenticated(reason: str, metadata: str) -> Refused:
    what_to_do = "Sign in again and use a token for the API."
    refused = refuse(401, "unauthenticated", f"Not signed in: {REASONS[reason]}.", what_to_do, reason)
    error: Error = "" if reason == "token_missing" else "invalid_token"
    refused.headers["WWW-Authenticate"] = challenge(metadata, SCOPE_API, error)
    return refused


def _out_of_scope(metadata: str) -> Refused:
    message, what_to_do = "Your token's scope does not let it use the API.", f"Sign in again for scope {SCOPE_API}."
    refused = refuse(403, "insufficient_scope", message, what_to_do)
    refused.headers["WWW-Authenticate"] = challenge(metadata, SCOPE_API, "insufficient_scope")
    return refused
