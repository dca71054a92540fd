"""The `Server` an author declares tools on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

F = TypeVar("F", bound=Callable[..., Any])

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A function with the options given to `Server.tool`."""

    function: Callable[..., Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The name callers use."""
        return str(self.options.get("name") or self.function.__name__)

    def sdk_tool(self) -> Tool:
        """The SDK's tool.

        Raises:
            InvalidSignature, ValueError, TypeError: the function cannot be a tool.
        """
        return Tool.from_function(self.function, **self.options)


class Server:
    """A company MCP server as its author sees it: tools, and nothing of hosting, identity or measurement.

    Name, owner and what the server asks for stand in its `pegboard.toml`; policies in its `policies/`.
    """

    def __init__(
        self,
        *,
        instructions: str | None = None,
        lifespan: Lifespan | None = None,
        extend: Callable[[MCPServer[Any]], None] | None = None,
    ) -> None:
        """Declare a server.

        Args:
            instructions: what a model should know before using the tools.
            lifespan: entered once per process before the first call; tools reach what it yields through
                `ctx.request_context.lifespan_context`.
            extend: called with the SDK's server when it is built, to register resources, prompts and completions.
                They are open to everyone whom the business-group gate lets in, and are not in the ledger. Tools
                registered here are not served: a tool needs `Server.tool` and a policy.
        """
        self.instructions = instructions
        self.lifespan = lifespan
        self.extend = extend
        self.tools: list[DeclaredTool] = []

    def blocked(self, tool: str) -> str:  # noqa: ARG002 - a server of its own code blocks none
        """Why a declared tool is not called now, in words that follow its name; empty where it is."""
        return ""

    def tool(
        self,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        structured_output: bool | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Callable[[F], F]:
        """Declare a function as a tool; its docstring describes it, its annotations are its schema.

        `async def` functions run in the event loop, plain ones in a worker thread. The arguments are the SDK's
        (`MCPServer.tool`): see there for `annotations`, `structured_output` and `meta`.
        """
        options = {
            "name": name,
            "title": title,
            "description": description,
            "annotations": annotations,
            "structured_output": structured_output,
            "meta": meta,
        }

        def note(function: F) -> F:
            self.tools.append(DeclaredTool(function, options))
            return function

        return note
