"""The HTTP front of a server: every request is admitted before the SDK sees it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pegboard.call.agree import METHOD_HEADER
from pegboard.call.chain import Admitted, Chain, Refused
from pegboard.core.refusal import Refusal
from pegboard.transport.presence import PRESENCE, Presence
from pegboard.transport.sdk import ADMITTED, session_user

HEALTH_PATH = "/healthz"
MAX_BODY_BYTES = 4 * 1024 * 1024

LISTEN = "subscriptions/listen"
"""The one modern method that is answered by an endless stream. Only modern requests have it, and those must name
their method in a header, which the chain has held to the body."""


class GovernedApp:
    """An ASGI application: one MCP endpoint behind the chain, and a health probe."""

    def __init__(
        self,
        chain: Chain,
        mcp: ASGIApp,
        path: str,
        issuer: str,
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        """Assemble.

        Args:
            chain: admits, and checks bodies.
            mcp: the SDK's endpoint.
            path: the one path it answers at, for example `/mcp/prod/presto`.
            issuer: of tokens; part of a session's principal.
            lifespan: entered while the application runs.
        """
        self._chain = chain
        self._mcp = mcp
        self._path = path
        self._issuer = issuer
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["path"] == HEALTH_PATH and scope["method"] == "GET":
            await _respond(send, 200, {"status": "ok"})
        elif scope["path"] != self._path:
            await _respond(send, 404, {"error": "not found"})
        else:
            await self._serve(scope, receive, send)

    def running(self) -> AbstractAsyncContextManager[None]:
        """What must be entered while requests are served; an ASGI server enters it through the lifespan protocol."""
        return self._lifespan()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = _trimmed(scope)
        headers = _headers(scope)
        request_id = (headers.get("x-request-id") or [""])[0][:64]
        try:
            admitted = self._chain.admit(headers, request_id)
            if scope["method"] == "POST":
                body = await _read_body(receive)
                self._chain.agree(admitted, headers, body)
                receive = _replay(body, receive)
        except Refused as refused:
            await _refuse(send, refused)
        except _Gone:
            return
        else:
            streams = scope["method"] == "GET" or headers.get(METHOD_HEADER) == [LISTEN]
            await self._pass_on(scope, receive, send, admitted, streams)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, admitted: Admitted, streams: bool) -> None:
        user = session_user(admitted.caller, self._issuer)
        presence = Presence()
        state = {**scope.get("state", {}), ADMITTED: admitted, PRESENCE: presence}
        scope = {**scope, "user": user, "state": state}
        receive = presence.watched(receive)
        if not streams:
            await self._mcp(scope, receive, send)
            return
        # A stream ends when the token that opened it does; the client opens another with a fresh one.
        with anyio.move_on_after(max(0.0, admitted.caller.expires_at - time.time())):
            await self._mcp(scope, receive, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.shutdown.complete"})


class _Gone(Exception):
    """The client left before its request was complete."""


def _trimmed(scope: Scope) -> Scope:
    """The scope with header values as they are meant: blanks around one are no part of it (RFC 9110 §5.5).

    Not every HTTP parser takes them away, and all that read a header here must read the same.
    """
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}


def _headers(scope: Scope) -> dict[str, list[str]]:
    """Lower-case names to every value. The edge writes claims as UTF-8; bytes that are not stay what they are."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in scope["headers"]:
        found[name.decode("latin-1").lower()].append(value.decode("utf-8", "surrogateescape"))
    return dict(found)


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Refused(_too_large(), 413)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then waits for the real one, which reports a disconnect."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _too_large() -> Refusal:
    return Refusal(
        code="request_too_large",
        message=f"The request is larger than {MAX_BODY_BYTES} bytes.",
        layer="server",
        reason="request_too_large",
        what_to_do="Send less in one call.",
    )


async def _refuse(send: Send, refused: Refused) -> None:
    extra = [(b"www-authenticate", b'Bearer error="invalid_token"')] if refused.status == 401 else []
    await _respond(send, refused.status, refused.refusal.as_jsonrpc(refused.message_id), extra)


async def _respond(send: Send, status: int, document: object, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
