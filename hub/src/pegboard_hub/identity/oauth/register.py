"""Dynamic registration (RFC 7591): `POST /oauth/register`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.settings import ClientRegistrationOptions
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pegboard_hub.common.requests import Refused, read_body
from pegboard_hub.identity.clients.errors import RegistrationRefused
from pegboard_hub.identity.oauth.forms import again
from pegboard_hub.identity.oauth.provider import NOT_KEPT, Asked, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.storage.errors import StorageUnavailable

REGISTRATION_LIMIT = 16 * 1024
"""Bytes of a registration; real ones have some 500."""


def register_endpoint(server: AuthorizationServer) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint. The SDK reads and answers; what may be registered is decided by `Clients.register`."""

    async def register(request: Request) -> Response:
        try:
            body = await read_body(request, REGISTRATION_LIMIT)
            provider = Provider(server, Asked(registration=_document(body)))
            handler = RegistrationHandler(provider, ClientRegistrationOptions(enabled=True))
            return await handler.handle(again(request, body))
        except Refused as refused:
            return _refused(RegistrationRefused("invalid_client_metadata", refused.refusal.message, refused.status))
        except RegistrationRefused as refused:
            return _refused(refused)
        except StorageUnavailable:
            return _refused(RegistrationRefused("temporarily_unavailable", NOT_KEPT, 503))

    return register


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RegistrationRefused("invalid_client_metadata", "the registration is not JSON") from error
    if not isinstance(document, dict):
        raise RegistrationRefused("invalid_client_metadata", "the registration is not a JSON object")
    return document


def _refused(refused: RegistrationRefused) -> JSONResponse:
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else {}
    body = {"error": refused.code, "error_description": refused.description}
    return JSONResponse(body, refused.status, headers)
