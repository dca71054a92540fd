"""Who is asking the API: a bearer token bound to the API's own audience."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from pegboard.core.caller import Caller
from pegboard.core.errors import TokenRefused
from pegboard.core.token import REASONS
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.keys import RingVerifier


def bearer(verifier: RingVerifier) -> Callable[[Request], Awaitable[None]]:
    """A dependency of a whole router: it notes the verified caller, or refuses with 401 (RFC 6750 §3)."""

    async def verify(request: Request) -> None:
        try:
            request.state.caller = verifier.verify(_token(request), time.time())
        except TokenRefused as error:
            raise _unauthenticated(error.reason) from error

    return verify


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


def _unauthenticated(reason: str) -> Refused:
    what_to_do = "Sign in again and use a token for the API."
    refused = refuse(401, "unauthenticated", f"Not signed in: {REASONS[reason]}.", what_to_do, reason)
    refused.headers["WWW-Authenticate"] = "Bearer" if reason == "token_missing" else 'Bearer error="invalid_token"'
    return refused
