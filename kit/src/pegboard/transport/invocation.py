"""One call as the SDK has it: how it is run, and what its client can be asked."""

from __future__ import annotations

from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.subscriptions import SubscriptionBus
from mcp_types import CallToolRequestParams, ElicitResult
from mcp_types.version import is_version_at_least
from pydantic import ValidationError

from pegboard.call.asking import QUESTION, Client, State
from pegboard.call.ports import ToolResult
from pegboard.transport.judged import hold_to_judged, hold_to_shown

ASKS_BY_ANSWER = "2026-07-28"
"""The revision from which on a server asks by its answer, and cannot ask over the connection."""


class SdkInvocation:
    """A call of one tool; what `call.ports.Invocation` is."""

    def __init__(
        self,
        mcp: MCPServer[Any],
        bus: SubscriptionBus,
        ctx: ServerRequestContext[Any, Any],
        params: CallToolRequestParams,
        read: tuple[str, ...],
    ) -> None:
        """Take it over.

        Args:
            mcp: the SDK's server.
            bus: of its subscriptions.
            ctx: of the request.
            params: of the call.
            read: arguments that the tool's policy reads.
        """
        self._mcp = mcp
        self._name = params.name
        self._read = read
        ours = State.read(params.request_state) is not None
        # What was asked of the client on our behalf is not the tool's to read.
        params = params.model_copy(update={"request_state": None, "input_responses": None}) if ours else params
        self._context = Context(request_context=ctx, mcp_server=mcp, input_params=params, subscriptions=bus)

    @property
    def context(self) -> Context[Any, Any]:
        """What the tool's code gets."""
        return self._context

    def fit(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the tool's function would get them.

        Raises:
            ToolError: they do not fit, as the SDK says it when it runs the tool.
        """
        tool = self._tool()
        self._hold(tool, arguments)
        try:
            return tool.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            raise ToolError(f"Error executing tool {self._name}: {error}") from error
        except Exception as error:
            raise UnexpectedToolError(f"Error executing tool {self._name}") from error

    def check_shown(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments that the tool would get otherwise than a person is shown them.

        Raises:
            ToolError: it would; the text says how to send them.
        """
        hold_to_shown(self._tool(), arguments)

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Run the tool."""
        self._hold(self._tool(), arguments)
        return await self._mcp.call_tool(self._name, arguments, self._context)

    def _hold(self, tool: Tool, arguments: dict[str, Any]) -> None:
        if self._read:
            hold_to_judged(tool, self._read, arguments)

    def _tool(self) -> Tool:
        tool = self._mcp._tool_manager.get_tool(self._name)
        assert tool is not None  # noqa: S101 - the chain asks for tools of the project alone
        return tool


def client_of(ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> Client:
    """What the client of a call said that it can be asked, and what it brings back."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities is not None else None
    if declared is None:
        return Client()
    # Bare `elicitation: {}` is from before there were modes, and means forms (MCP 2025-11-25, Elicitation).
    forms = declared.form is not None or declared.url is None
    if not is_version_at_least(ctx.protocol_version, ASKS_BY_ANSWER):
        fill = _fills(ctx) if forms and ctx.session.can_send_request else None
        return Client(forms=fill is not None, fill=fill)
    state = State.read(params.request_state)
    reply = (params.input_responses or {}).get(QUESTION) if state is not None else None
    return Client(
        pages=declared.url is not None,
        forms=forms,
        state=state,
        reply=reply if isinstance(reply, ElicitResult) else None,
    )


def _fills(ctx: ServerRequestContext[Any, Any]) -> Any:
    async def fill(question: str, form: dict[str, Any]) -> ElicitResult:
        return await ctx.session.elicit_form(question, form, related_request_id=ctx.request_id)

    return fill
