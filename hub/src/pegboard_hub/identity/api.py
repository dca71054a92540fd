"""Signing in over HTTP: the token endpoint (RFC 6749) and protected-resource metadata (RFC 9728)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from pegboard.core.names import ServerName
from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.common.requests import read_body
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.service import DEMO_GRANT, DemoSignIn, Issued

log = logging.getLogger(__name__)

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 §5.1: nobody keeps a copy of a token response."""

_FORM = "application/x-www-form-urlencoded"
_FORM_LIMIT = 16 * 1024
"""Bytes of a token request; a real one has some 300."""

Form = dict[str, list[str]]


def identity_routes(sign_in: DemoSignIn, public_url: str, title_of: Callable[[str], str | None]) -> APIRouter:
    """The routes.

    Args:
        sign_in: issues tokens.
        public_url: the edge's origin.
        title_of: the title of a server that can be called; None for any other name.
    """
    router = APIRouter(include_in_schema=False)

    @router.post("/oauth/token")
    async def token(request: Request) -> JSONResponse:
        try:
            issued = _issue(sign_in, await _form(request, public_url))
        except OAuthRefused as refused:
            body = {"error": refused.code, "error_description": refused.description}
            return JSONResponse(body, 400, _NO_STORE)
        return JSONResponse(issued.as_json(), headers=_NO_STORE)

    @router.get("/.well-known/oauth-protected-resource/mcp/{namespace}/{server}")
    async def protected_resource(namespace: str, server: str) -> JSONResponse:
        title = title_of(f"{namespace}/{server}")
        if title is None:
            body = {"error": "not_found", "error_description": "no such server is registered here"}
            return JSONResponse(body, 404)
        return JSONResponse(_metadata(ServerName(namespace, server), title, public_url))

    return router


def _metadata(name: ServerName, title: str, public_url: str) -> dict[str, Any]:
    return {
        "resource": name.resource_url(public_url),
        "authorization_servers": [public_url],
        "bearer_methods_supported": ["header"],
        "resource_name": title,
    }


async def _form(request: Request, public_url: str) -> Form:
    """The request's form.

    A page of another site could make a browser post here. It could not read the answer, but it has no business
    asking for a person's token either.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin != public_url:
        raise OAuthRefused("invalid_request", "token requests from pages of other sites are refused")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthRefused("invalid_request", f"send the parameters as {_FORM} (RFC 6749 §4)")
    try:
        body = (await read_body(request, _FORM_LIMIT)).decode()
        return parse_qs(body, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise OAuthRefused("invalid_request", "the parameters cannot be read as a form in UTF-8") from error


def _issue(sign_in: DemoSignIn, form: Form) -> Issued:
    if _parameter(form, "grant_type") != DEMO_GRANT:
        raise OAuthRefused("unsupported_grant_type", f"grant_type must be {DEMO_GRANT}")
    channel = _parameter(form, "channel") if any(form.get("channel", [])) else None
    person, surface = _parameter(form, "person"), _parameter(form, "surface")
    issued = sign_in.issue(person, surface, channel, _parameter(form, "resource"), _lifetime(form))
    log.info("token issued", extra={"sub": person, "surface": surface, "resource": _parameter(form, "resource")})
    return issued


def _lifetime(form: Form) -> int | None:
    """Our own optional parameter `lifetime`: seconds, when a caller wants a token that ends sooner."""
    if not any(form.get("lifetime", [])):
        return None
    text = _parameter(form, "lifetime")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_LIFETIME_S):
        raise OAuthRefused(
            "invalid_request", f"lifetime {text[:20]!r} is not a number of seconds from 1 to {MAX_LIFETIME_S}"
        )
    return int(text)


def _parameter(form: Form, name: str) -> str:
    """One parameter. RFC 6749 §3.2: none may be repeated, and one without a value counts as absent."""
    values = form.get(name, [])
    if len(values) > 1:
        raise OAuthRefused("invalid_request", f"{name} came {len(values)} times; send it once")
    if not values or not values[0]:
        raise OAuthRefused("invalid_request", f"{name} is missing")
    return values[0]
