"""The HTTP front of a server: every request is admitted before the SDK sees it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pegboard.call.agree import METHOD_HEADER
from pegboard.call.chain import Admitted, Chain, Headers
from pegboard.call.refusing import Refused
from pegboard.core.challenge import challenge, metadata_url
from pegboard.core.logs import annotated
from pegboard.core.readiness import HEALTH_PATH, OK, READY_PATH, SMOKE
from pegboard.core.refusal import Refusal
from pegboard.core.replicas import without_mark
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard.core.trace import trace_id
from pegboard.remote.metrics import CONTENT_TYPE, ServerMeter
from pegboard.transport.presence import PRESENCE, Presence
from pegboard.transport.sdk import ADMITTED, session_user
from pegboard.transport.smoke import SmokeCalls
from pegboard.transport.streams import OpenStreams

CALLS_PATH = "/healthz/calls"
"""How many requests are being answered, endless streams aside: who ends this server waits until there are none.
Beside it, how many there were since the start, and how many streams and sessions are open: who lets it sleep asks."""
METRICS_PATH = "/metrics"
"""All are for supervisor and prober, which reach the socket themselves; the edge passes the endpoint's path alone."""

MAX_BODY_BYTES = 4 * 1024 * 1024

LISTEN = "subscriptions/listen"
"""The one modern method that is answered by an endless stream. Only modern requests have it, and those must name
their method in a header, which the chain has held to the body."""


class GovernedApp:
    """An ASGI application: one MCP endpoint behind the chain, the probes, and the metrics."""

    def __init__(
        self,
        chain: Chain,
        streams: OpenStreams,
        mcp: ASGIApp,
        path: str,
        issuer: str,
        meter: ServerMeter,
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
        smoke: SmokeCalls,
        sessions: Callable[[], int] = lambda: 0,
        blocked: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Assemble.

        Args:
            chain: admits, and checks bodies.
            streams: where endless streams are watched.
            mcp: the SDK's endpoint.
            path: the one path it answers at, for example `/mcp/prod/presto`.
            issuer: of tokens, and the origin of the endpoint's own URL; part of a session's principal.
            meter: makes the page of metrics.
            lifespan: entered while the application runs.
            smoke: the server's smoke calls, which are part of whether it is ready.
            sessions: how many legacy sessions are open.
            blocked: tools that are not called now, each with why; told beside the smoke calls.
        """
        self._chain = chain
        self._streams = streams
        self._smoke = smoke
        self._sessions = sessions
        self._blocked = blocked
        self._calls = 0
        self._served = 0
        self._listening = 0
        self._mcp = mcp
        self._path = path
        self._issuer = issuer
        self._metadata = metadata_url(f"{issuer.rstrip('/')}{path}")
        self._meter = meter
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["path"] == HEALTH_PATH and scope["method"] == "GET":
            await _respond(send, 200, {"status": OK})
        elif scope["path"] == READY_PATH and scope["method"] == "GET":
            unready = self._chain.unready() or self._smoke.status()
            outcome = {**self._smoke.outcome, **self._blocked()} if self._smoke.made else {}
            said = {SMOKE: outcome} if outcome else {}
            await _respond(send, 503 if unready else 200, {"status": unready or OK, **said})
        elif scope["path"] == METRICS_PATH and scope["method"] == "GET":
            await _send(send, 200, self._meter.page(), CONTENT_TYPE)
        elif scope["path"] == CALLS_PATH and scope["method"] == "GET":
            counts = {"calls": self._calls, "served": self._served, "streams": self._listening}
            await _respond(send, 200, {**counts, "sessions": self._sessions()})
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
        trace = trace_id((headers.get("traceparent") or [""])[0], request_id)
        with annotated(request_id=request_id, trace_id=trace):
            await self._serve_request(scope, receive, send, headers, request_id, trace)

    async def _serve_request(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str, trace: str
    ) -> None:
        try:
            admitted = self._chain.admit(headers, request_id, trace)
            if scope["method"] == "POST":
                body = await _read_body(receive, self._meter)
                self._chain.agree(admitted, headers, body)
                self._chain.permit(admitted, body)
                self._chain.step_up(admitted, body)
                receive = _replay(body, receive)
        except Refused as refused:
            await _refuse(send, refused, self._metadata)
        except _Gone:
            return
        else:
            listens = headers.get(METHOD_HEADER) == [LISTEN]
            if listens:
                admitted = replace(admitted, method=LISTEN)
            streams = scope["method"] == "GET" or listens
            with annotated(sub=admitted.caller.sub, surface=admitted.caller.surface):
                await self._pass_on(scope, receive, send, admitted, streams)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, admitted: Admitted, streams: bool) -> None:
        user = session_user(admitted.caller, self._issuer)
        presence = Presence()
        state = {**scope.get("state", {}), ADMITTED: admitted, PRESENCE: presence}
        scope = {**scope, "user": user, "state": state}
        receive = presence.watched(receive)
        if streams:
            # It ends when the token that opened it does; the client opens another with a fresh one.
            self._listening += 1
            try:
                with self._streams.one(admitted):
                    await self._mcp(scope, receive, send)
            finally:
                self._listening -= 1
            return
        self._calls += 1
        self._served += 1
        try:
            await self._mcp(scope, receive, send)
        finally:
            self._calls -= 1

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

    Not every HTTP parser takes them away, and all that read a header here must read the same. A session's id is the
    one that was given here, without what the edge finds its replica by.
    """
    headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
    return {**scope, "headers": [(name, _own(value) if name == _SESSION else value) for name, value in headers]}


_SESSION = b"mcp-session-id"


def _own(session: bytes) -> bytes:
    return without_mark(session.decode("latin-1")).encode("latin-1")


def _headers(scope: Scope) -> dict[str, list[str]]:
    """Lower-case names to every value. The edge writes claims as UTF-8; bytes that are not stay what they are."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in scope["headers"]:
        found[name.decode("latin-1").lower()].append(value.decode("utf-8", "surrogateescape"))
    return dict(found)


async def _read_body(receive: Receive, meter: ServerMeter) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            refusal = _too_large()
            meter.refused(refusal.code, refusal.reason)
            raise Refused(refusal, 413)
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


async def _refuse(send: Send, refused: Refused, metadata: str) -> None:
    asked = _challenge(refused, metadata)
    extra = [(b"www-authenticate", asked.encode())] if asked else []
    await _respond(send, refused.status, refused.refusal.as_jsonrpc(refused.message_id), extra)


def _challenge(refused: Refused, metadata: str) -> str:
    """What to sign in for where another token would do; empty where none would."""
    if refused.refusal.code == "insufficient_scope":
        return challenge(metadata, SCOPE_TOOLS, "insufficient_scope")
    if refused.status != 401:
        return ""
    return challenge(metadata, SCOPE_TOOLS, "" if refused.refusal.reason == "token_missing" else "invalid_token")


async def _respond(send: Send, status: int, document: object, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    await _send(send, status, json.dumps(document, separators=(",", ":")).encode(), "application/json", extra)


async def _send(
    send: Send, status: int, body: bytes, content_type: str, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *(extra or [])]})
    await send({"type": "http.response.body", "body": body})
