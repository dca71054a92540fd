"""The one adapter between Pegboard's chain and the official SDK.

The SDK owns the protocol in both its eras: parsing, negotiation, sessions, schemas, streams. The chain owns who may
list and call what. They meet in two request handlers, `tools/list` and `tools/call`, which replace the SDK's own at
its handler layer, so that every answer is shaped, stamped and cached by the SDK as any other.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.request_state import RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    LATEST_PROTOCOL_VERSION,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from pegboard.call.chain import Admitted, Chain
from pegboard.call.context import FOR_NOBODY
from pegboard.call.ports import ToolResult
from pegboard.call.refusing import Refused
from pegboard.core.approval import LONGEST_S
from pegboard.core.caller import Caller
from pegboard.core.names import ServerName
from pegboard.core.notice import with_notice
from pegboard.core.refusal import META_KEY, Refusal
from pegboard.core.trace import trace_id
from pegboard.project import Project
from pegboard.transport.invocation import SdkInvocation, client_of
from pegboard.transport.presence import PRESENCE, Presence
from pegboard.transport.sessions import MAX_SESSIONS, SESSION_IDLE_S, bound_per_caller

ADMITTED = "pegboard.admitted"
"""Key in the ASGI scope's state under which an admitted request's facts travel to the handlers."""


class SdkServer:
    """An SDK server that lists and calls tools through the chain."""

    def __init__(
        self, project: Project, server: ServerName, chain: Chain, version: str, state_key: bytes, issuer: str
    ) -> None:
        self._chain = chain
        self._governed = project.governed
        self._bus = InMemorySubscriptionBus()
        self._mcp: MCPServer[Any] = MCPServer(
            str(server),
            title=project.manifest.title,
            description=project.manifest.description,
            instructions=project.server.instructions,
            version=version,
            tools=[tool.sdk_tool() for tool in project.server.tools],
            lifespan=project.server.lifespan,
            cache_hints={"tools/list": CacheHint(ttl_ms=0, scope="private")},
            subscriptions=self._bus,
            request_state_security=_sealed(state_key, issuer),
            log_level="WARNING",
        )
        if project.server.extend is not None:
            project.server.extend(self._mcp)
        self.sessions = self._take_over()

    def open_sessions(self) -> int:
        """How many sessions of the older protocol are open."""
        return len(self.sessions._server_instances)

    async def call_for_nobody(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Run a tool's code without a caller, inside the server's lifespan: for its own smoke calls alone.

        Raises:
            ToolError: as the tool's code, or its arguments, have it.
        """
        request: ServerRequestContext[Any, Any] = ServerRequestContext(
            session=_Nobody(),  # type: ignore[arg-type]
            lifespan_context=self.sessions._lifespan_state,
            protocol_version=LATEST_PROTOCOL_VERSION,
            method="tools/call",
        )
        context: Context[Any, Any] = Context(request_context=request, mcp_server=self._mcp, subscriptions=self._bus)
        before = FOR_NOBODY.set(True)
        try:
            return await self._mcp.call_tool(tool, arguments, context)
        finally:
            FOR_NOBODY.reset(before)

    def _take_over(self) -> StreamableHTTPSessionManager:
        """Replace the SDK's handlers for tools, and give back its HTTP side.

        The SDK would look up a tool's schema to check `Mcp-Param-*` headers before any handler runs, and so answer
        differently for a hidden tool than for an unknown one. Without that lookup it asks `tools/list`, as filtered
        for the caller; where no tool uses such headers the check has nothing to do and is left out.
        """
        # The edge answers to no other Host, and the chain has looked at the Origin.
        no_host_check = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._mcp.streamable_http_app(
            transport_security=no_host_check, max_sessions=MAX_SESSIONS, session_idle_timeout=SESSION_IDLE_S
        )
        sessions = self._mcp.session_manager
        bound_per_caller(sessions)
        sessions.app.add_request_handler("tools/list", PaginatedRequestParams, self._list_tools)
        sessions.app.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        sessions.app.get_tool_input_schema = None if self._uses_param_headers() else _no_schema
        return sessions

    def _uses_param_headers(self) -> bool:
        tools = self._mcp._tool_manager.list_tools()
        return any("x-mcp-header" in str(tool.parameters) for tool in tools)

    async def _list_tools(
        self, ctx: ServerRequestContext[Any, Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        admitted = _admitted(ctx)
        visible = self._chain.visible(admitted)
        tools = [tool for tool in await self._mcp.list_tools() if tool.name in visible]
        return ListToolsResult(tools=tools, _meta=with_notice(None, admitted.standing.notice))

    async def _call_tool(self, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> ToolResult:
        result = await self._called(ctx, params)
        if notice := _admitted(ctx).standing.notice:
            return result.model_copy(update={"meta": with_notice(result.meta, notice)})
        return result

    async def _called(self, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> ToolResult:
        admitted, presence = _admitted(ctx), _presence(ctx)
        governed = self._governed.get(params.name)
        read = governed.policy.arguments if governed is not None else ()
        invocation = SdkInvocation(self._mcp, self._bus, ctx, params, read)
        try:
            with presence.needed(admitted.caller):
                return await self._chain.call(
                    admitted,
                    params.name,
                    params.arguments or {},
                    invocation,
                    client_of(ctx, params),
                    protocol=ctx.protocol_version,
                    trace_id=_trace_id(ctx, admitted),
                )
        except Refused as refused:
            return _refusal_result(refused.refusal)
        # Cancelled, and recorded as that. Only one whose token ended is still there to read this.
        return _refusal_result(_token_ended(params.name, admitted))


class _Nobody:
    """The session of a call that nobody makes: what a tool tells its client on the way goes nowhere."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("send_") or name in ("report_progress", "log"):
            return _say_nothing
        raise RuntimeError(f"nobody calls, so there is no client with {name}")


async def _say_nothing(*_: Any, **__: Any) -> None:
    return None


def session_user(caller: Caller, issuer: str) -> AuthenticatedUser:
    """The principal the SDK binds a legacy session and a sealed `requestState` to.

    A session belongs to one subject on one surface (and channel), through however many tokens; the SDK compares
    client, issuer and subject, so surface and channel are folded into the subject.
    """
    subject = "|".join((caller.sub_type, caller.sub, caller.surface, caller.channel or ""))
    token = AccessToken(
        token="",
        client_id=caller.client_id,
        scopes=caller.scope.split(),
        expires_at=caller.expires_at,
        resource=caller.audience,
        subject=subject,
        claims={"iss": issuer},
    )
    return AuthenticatedUser(token)


def _sealed(key: bytes, issuer: str) -> RequestStateSecurity:
    """How what clients bring back is sealed: for every process of this server alike, so that each goes on where
    another began, and for one caller alone (MCP 2026-07-28, Multi Round-Trip Requests: Security).

    The SDK binds it to the tool, its arguments and the server besides.
    """

    def principal(ctx: ServerRequestContext[Any, Any]) -> str:
        return json.dumps(principal_components(session_user(_admitted(ctx).caller, issuer).access_token))

    return RequestStateSecurity(keys=[key], ttl=LONGEST_S, bind_principal=principal)


def _admitted(ctx: ServerRequestContext[Any, Any]) -> Admitted:
    assert ctx.request is not None  # noqa: S101 - HTTP is the only transport
    admitted = ctx.request.scope["state"][ADMITTED]
    assert isinstance(admitted, Admitted)  # noqa: S101 - put there by the HTTP front, the only way in
    return admitted


def _presence(ctx: ServerRequestContext[Any, Any]) -> Presence:
    assert ctx.request is not None  # noqa: S101 - HTTP is the only transport
    presence = ctx.request.scope["state"][PRESENCE]
    assert isinstance(presence, Presence)  # noqa: S101 - put there by the HTTP front, the only way in
    return presence


def _token_ended(tool: str, admitted: Admitted) -> Refusal:
    return Refusal(
        code="unauthenticated",
        message=f"{tool} was cancelled because the token it was called with has ended.",
        layer="server",
        reason="token_expired",
        what_to_do="Get a new token and call again; a call must end before its token does.",
        request_id=admitted.request_id,
    )


def _trace_id(ctx: ServerRequestContext[Any, Any], admitted: Admitted) -> str:
    """The trace of a call: that of a W3C `traceparent` in `_meta`, else the request's.

    The edge carries the one in `_meta` over into the header, so that all layers name the same trace.
    """
    return trace_id((ctx.meta or {}).get("traceparent"), "") or admitted.trace_id


def _refusal_result(refusal: Refusal) -> CallToolResult:
    """A refusal in the form in which the SDK answers an unknown tool: an error result with a text."""
    return CallToolResult(
        content=[TextContent(type="text", text=refusal.message)],
        is_error=True,
        _meta={META_KEY: refusal.as_json()},
    )


def _no_schema(_name: str) -> None:
    return None
