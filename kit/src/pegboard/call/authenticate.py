"""Step 1: who is calling? The token is verified again, and the edge's headers must agree with it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pegboard.call.ports import Standing
from pegboard.core.access import ServerAccess
from pegboard.core.caller import Caller
from pegboard.core.errors import TokenRefused
from pegboard.core.refusal import Refusal
from pegboard.core.token import REASONS

USER_HEADER = "x-forwarded-user"
GROUPS_HEADER = "x-forwarded-groups"
SURFACE_HEADER = "x-forwarded-surface"
ORIGIN_HEADER = "origin"


def authenticate(headers: Mapping[str, list[str]], standing: Standing, now: float) -> Caller:
    """The caller a request's bearer token stands for (RFC 6750 §2.1; the header form only).

    Args:
        headers: lower-case names to every value that came.
        standing: whose keys and audience count.
        now: seconds since the epoch.

    Raises:
        TokenRefused: no token, several, or one that does not verify.
    """
    return standing.tokens.verify(bearer(headers), now)


def bearer(headers: Mapping[str, list[str]]) -> str:
    """The bearer token of a request, which nobody has verified yet.

    Raises:
        TokenRefused: there is none, or several.
    """
    values = headers.get("authorization", [])
    if not values:
        raise TokenRefused("token_missing")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token:
        raise TokenRefused("token_invalid")
    return token.strip()


def identity_mismatch(headers: Mapping[str, list[str]], caller: Caller) -> str:
    """How the edge's identity headers differ from the verified token, in words for the log; empty when they agree.

    Absent headers differ too: an edge in its right mind always sets them.
    """
    expected = {
        USER_HEADER: caller.sub,
        SURFACE_HEADER: caller.surface,
        GROUPS_HEADER: list(caller.groups),
    }
    for name, wanted in expected.items():
        values = headers.get(name, [])
        if len(values) != 1:
            return f"{name} came {len(values)} times"
        if _read(name, values[0]) != wanted:
            return f"{name} is not what the token says"
    return ""


def foreign_origin(headers: Mapping[str, list[str]], access: ServerAccess) -> str:
    """The origin of a web page that is not ours and sends this request; empty when there is none.

    Only browsers name an origin, and a page must not reach a server by a rebound name (MCP 2025-11-25,
    Transports: Security Warning, which asks for 403). Ours is the origin of the server's own URL.
    """
    ours = access.resource_url.removesuffix(access.server.path)
    return next((origin for origin in headers.get(ORIGIN_HEADER, []) if origin != ours), "")


def _read(name: str, value: str) -> object:
    if name != GROUPS_HEADER:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def refuse_token(reason: str) -> Refusal:
    """The refusal for a token that did not verify."""
    return Refusal(
        code="unauthenticated",
        message=f"Not signed in: {REASONS[reason]}.",
        layer="server",
        reason=reason,
        what_to_do="Sign in again and use a token for this server.",
    )


def refuse_mismatch(ask: str) -> Refusal:
    """The refusal when edge and token disagree about the caller. The caller is not told how."""
    return Refusal(
        code="identity_mismatch",
        message=f"The request says different things about who you are, so it was not believed. {ask}",
        layer="server",
        reason="identity_mismatch",
        what_to_do="Send requests through the edge and let it set the identity headers.",
    )


def refuse_origin(ask: str) -> Refusal:
    """The refusal of a request that a foreign web page sent."""
    return Refusal(
        code="foreign_origin",
        message=f"A web page of another origin sent this request, so it was not run. {ask}",
        layer="server",
        reason="foreign_origin",
        what_to_do="Call from a client of your own, or from a page at Pegboard's own address.",
    )
