"""What surrounds every request of both doors: an id, a log line, safe headers, and one shape for every refusal."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pegboard.core.logs import annotated
from pegboard.core.refusal import Refusal
from pegboard.core.trace import trace_id
from pegboard_hub.common.faults import MOST_TOLD, field, words

log = logging.getLogger("pegboard_hub.request")

LONGEST_PATH = 256
"""Characters of a path that are logged. Ours are shorter; a token that somebody put into one is longer."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""No script (but see `WITH_SCRIPTS`), nothing from elsewhere, never in a frame."""

OPENED_BY_CLIENTS = ("/oauth/authorize", "/sign-in", "/consent", "/acting")
"""At paths that begin so, a window keeps its opener: a client in a web page opens one for people to sign in, waits
until it is closed, and is told the answer by it. All other pages have nothing to do with who opened them."""

_OPENED = {**SECURITY_HEADERS, "Cross-Origin-Opener-Policy": "unsafe-none"}

WITH_SCRIPTS = (
    # htmx, which asks for the list again while one types.
    (re.compile(r"/servers"), "script-src 'self'; connect-src 'self'"),
    # The same: what waits for somebody, and how one request stands, which follow by themselves. What one decides on
    # is at `/approvals/…` and stands still.
    (re.compile(r"/approvals(?:/[^/]+/live)?"), "script-src 'self'; connect-src 'self'"),
    # `copy.js`, which copies what the page shows.
    (re.compile(r"/servers/[^/]+/[^/]+/connect"), "script-src 'self'"),
)
"""The paths whose pages run a script of ours, and what they may do for it beside what all pages may. No form that
changes anything is at one of them."""

OFFICIAL_PREFIX = "/v0.1/"
"""The official registry API. Editors read it from pages of their own, without a sign-in."""

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
}
"""What GitHub asks of a registry that Copilot shall read, on every answer and so on every refusal too."""

_OFFICIAL = {**SECURITY_HEADERS, "Cross-Origin-Resource-Policy": "cross-origin", **CORS_HEADERS}

PEER_HEADER = "x-pegboard-peer"
"""The edge's own word, over whatever the caller sent. `X-Forwarded-For` will not do: for a caller on 127.0.0.1 Envoy
writes the machine's address into it."""

SPIFFE_HEADER = "x-pegboard-spiffe-id"
"""The edge's own word at the port for services: the SPIFFE ID of the certificate that the connection was opened with.
Everywhere else the edge takes it away."""

SPIFFE_ENDS_HEADER = "x-pegboard-spiffe-ends"
"""Beside it: when that certificate ends, in seconds since the epoch."""

SPIFFE_ISSUER_HEADER = "x-pegboard-spiffe-issuer"
"""And the name of the authority that signed it (RFC 2253)."""

OF_CERTIFICATE = (SPIFFE_HEADER, SPIFFE_ENDS_HEADER, SPIFFE_ISSUER_HEADER)
"""All that the edge says of a certificate."""

ROUTINE_PATHS = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/internal/v1/grants",
    "/internal/v1/registry/taken",
    "/internal/v1/keys",
    "/internal/v1/acknowledgement",
    "/internal/v1/edge/acknowledgement",
)


class Refused(Exception):
    """A request that is answered with a refusal instead of what it asked for."""

    def __init__(self, status: int, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.refusal = refusal
        self.headers = dict(headers or {})
        self.details: Mapping[str, Any] = {}
        """What programs are told beside the refusal, under keys of its own."""
        super().__init__(refusal.message)


class NoRoute(Refused):
    """A request for something that none of our routes is for."""


Tell = Callable[[Request, Refused], Awaitable[Response]]
"""Makes the response that tells of a refusal: to a program, or to a person who looks at a page."""


def refuse(status: int, code: str, message: str, what_to_do: str, reason: str = "") -> Refused:
    """A refusal by the hub; the reason is the code where no finer word is given."""
    return Refused(status, Refusal(code, message, "hub", reason or code, what_to_do))


def request_id(request: Request) -> str:
    """The id of the request: the edge's, or one made here when there was none."""
    return str(request.state.request_id)


def peer_of(request: Request) -> str:
    """The address that connected to the edge, as the edge saw it; empty where no edge, or more than one, says it."""
    return word_of_edge(request, PEER_HEADER)


def word_of_edge(request: Request, header: str) -> str:
    """What the edge says in a header that it alone may write; empty where it says nothing, or it came twice."""
    written = request.headers.getlist(header)
    return written[0] if len(written) == 1 else ""


class RequestEnvelope:
    """ASGI middleware: gives the request an id, logs one line, and keeps an unexpected error's insides here.

    The log line has the path without its query and no header, so no token can be in it.
    """

    def __init__(self, app: ASGIApp, door: str, answered: Callable[[str, int, float], None], tell: Tell) -> None:
        """Wrap.

        Args:
            app: what answers.
            door: public or internal; for the log.
            answered: told of each request's path, status and seconds.
            tell: makes the answer to a request that failed here.
        """
        self._app = app
        self._door = door
        self._answered = answered
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        identity = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = identity
        status = 0

        async def send_enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = {**_headers(scope["path"]), "X-Request-Id": identity}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in extra.items()),
                ]
            await send(message)

        with annotated(request_id=identity, trace_id=trace_id(_header(scope, b"traceparent"), identity)):
            try:
                await self._app(scope, receive, send_enveloped)
            except Exception:
                log.exception("unexpected error")
                if status:
                    raise
                response = await self._tell(Request(scope), _unexpected())
                await response(scope, receive, send_enveloped)
            finally:
                seconds = time.perf_counter() - began
                self._answered(scope["path"], status, seconds)
                self._log(scope, status, seconds)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        facts = {
            "door": self._door,
            "method": scope["method"],
            "path": scope["path"][:LONGEST_PATH],
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
        }
        if caller := scope["state"].get("caller"):
            facts["sub"] = caller.sub
        elif sub := scope["state"].get("signed_in_sub"):
            facts["sub"] = sub
        # Asked every second or two, or by every server each minute: a line each would bury all others.
        routine = scope["path"] in ROUTINE_PATHS and status in (200, 204)
        log.log(logging.DEBUG if routine else logging.INFO, "request", extra=facts)


async def tell_as_json(request: Request, refused: Refused) -> Response:
    """A refusal for programs."""
    return answer(request, refused)


def add_refusal_handlers(app: FastAPI, tell: Tell) -> None:
    """Answer every error of `app` with a refusal, as `tell` makes it."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return await tell(request, error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        known = _HTTP.get(error.status_code, ("bad_request", "The request cannot be answered.", "Look at the API."))
        code, message, what_to_do = known
        refusal = Refusal(code, message, "hub", code, what_to_do)
        return await tell(request, NoRoute(error.status_code, refusal, error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = dict.fromkeys(f"{field(fault['loc'])}: {words(fault)}" for fault in error.errors()[:MOST_TOLD])
        message = f"The request is not as it must be: {'; '.join(faults)}."
        return await tell(request, refuse(422, "invalid_request", message, "Mend what is named."))


_HTTP: dict[int, tuple[str, str, str]] = {
    404: ("not_found", "There is nothing here.", "Look at /api/v1/openapi.json for what there is."),
    405: ("method_not_allowed", "This cannot be done here.", "Look at /api/v1/openapi.json for what can be done."),
}


def answer(request: Request, refused: Refused) -> JSONResponse:
    """A refusal in the one shape, under the key `error`."""
    body = {"error": refused.refusal.for_request(request_id(request)).as_json(), **refused.details}
    return JSONResponse(body, refused.status, refused.headers)


def _unexpected() -> Refused:
    message = "Something went wrong here; it is in the hub's log under this request id."
    return refuse(500, "internal_error", message, "Try again; if it stays, tell the platform team the request id.")


def _headers(path: str) -> Mapping[str, str]:
    if path.startswith(OPENED_BY_CLIENTS):
        return _OPENED
    if path.startswith(OFFICIAL_PREFIX):
        return _OFFICIAL
    for pattern, more in WITH_SCRIPTS:
        if pattern.fullmatch(path):
            policy = f"{SECURITY_HEADERS['Content-Security-Policy']}; {more}"
            return {**SECURITY_HEADERS, "Content-Security-Policy": policy}
    return SECURITY_HEADERS


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body.

    Raises:
        Refused: it is longer than `limit` bytes.
    """
    return b"".join([part async for part in body_parts(request, limit)])


async def body_parts(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The request's body as it comes.

    Raises:
        Refused: it is longer than `limit` bytes.
    """
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise refuse(413, "too_large", f"The body is longer than {limit} bytes.", "Send less at once.")
        yield part


async def read_json(request: Request, limit: int) -> Any:
    """The request's body as JSON.

    Raises:
        Refused: it is longer than `limit` bytes, or is not JSON.
    """
    return as_json(await read_body(request, limit))


def as_json(body: bytes) -> Any:
    """A body as JSON.

    Raises:
        Refused: it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refuse(400, "invalid_request", "The body is not JSON.", "Send JSON.") from error
