"""The one adapter between Pegboard's chain and the official SDK.

The SDK owns the protocol in both its eras: parsing, negotiation, sessions, schemas, streams. The chain owns who may
list and call what. They meet in two request handlers, `tools/list` and `tools/call`, which replace the SDK's own at
its handler layer, so that every answer is shaped, stamped and cached by the SDK as any other.
"""

from __future__ import annotations

from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from pegboard.call.chain import Admitted, Chain, Refused
from pegboard.call.run import ToolResult
from pegboard.core.caller import Caller
from pegboard.core.names import ServerName
from pegboard.core.refusal import META_KEY, Refusal
from pegboard.core.trace import trace_id
from pegboard.project import Project
from pegboard.transport.judged import hold_to_judged
from pegboard.transport.presence import PRESENCE, Presence
from pegboard.transport.sessions import MAX_SESSIONS, SESSION_IDLE_S, bound_per_caller

ADMITTED = "pegboard.admitted"
"""Key in the ASGI scope's state under which an admitted request's facts travel to the handlers."""


class SdkServer:
    """An SDK server that lists and calls tools through the chain."""

    def __init__(self, project: Project, server: ServerName, chain: Chain, version: str) -> None:
        self._chain = chain
        self._governed = project.governed
        self._bus = InMemorySubscriptionBus()
        self._mcp: MCPServer[Any] = MCPServer(
            str(server),
            title=project.manifest.title,
            description=project.manifest.description,
            instructions=project.server.instructions,
            version=version,
            tools=[Tool.from_function(tool.function, **tool.options) for tool in project.server.tools],
            lifespan=project.server.lifespan,
            cache_hints={"tools/list": CacheHint(ttl_ms=0, scope="private")},
            subscriptions=self._bus,
            log_level="WARNING",
        )
        if project.server.extend is not None:
            project.server.extend(self._mcp)
        self.sessions = self._take_over()

    def open_sessions(self) -> int:
        """How many sessions of the older protocol are open."""
        return len(self.sessions._server_instances)

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

    def _hold_to_judged(self, name: str, arguments: dict[str, Any]) -> None:
        tool, read = self._mcp._tool_manager.get_tool(name), self._governed[name].policy.arguments
        if tool is not None and read:
            hold_to_judged(tool, read, arguments)

    async def _list_tools(
        self, ctx: ServerRequestContext[Any, Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        visible = self._chain.visible(_admitted(ctx))
        return ListToolsResult(tools=[tool for tool in await self._mcp.list_tools() if tool.name in visible])

    async def _call_tool(self, ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> ToolResult:
        arguments = params.arguments or {}
        context = Context(request_context=ctx, mcp_server=self._mcp, input_params=params, subscriptions=self._bus)

        async def run() -> ToolResult:
            self._hold_to_judged(params.name, arguments)
            return await self._mcp.call_tool(params.name, arguments, context)

        admitted, presence = _admitted(ctx), _presence(ctx)
        trace = _trace_id(ctx, admitted)
        try:
            with presence.needed(admitted.caller):
                return await self._chain.call(
                    admitted, params.name, arguments, run, protocol=ctx.protocol_version, trace_id=trace
                )
        except Refused as refused:
            return _refusal_result(refused.refusal)
        # Cancelled, and recorded as that. Only one whose token ended is still there to read this.
        return _refusal_result(_token_ended(params.name, admitted))


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
