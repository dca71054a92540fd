"""A server that somebody else wrote, with the official SDK: what tests put behind a proxy."""

import os
import sys
import time

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

mcp = MCPServer("desk", instructions="Looks after a desk.", log_level="ERROR")


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def echo(text: str) -> str:
    """Give back the text."""
    return text


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True), structured_output=False)
def wipe(drawer: str) -> str:
    """Empty a drawer."""
    return f"{drawer} is empty"


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
async def slow(seconds: float, ctx: Context) -> str:
    """Take a while, and say how far it is."""
    for step in range(10):
        await ctx.report_progress(step, 10, f"step {step}")
        await anyio.sleep(seconds / 10)
    return "done"


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def environment() -> str:
    """Names of the variables it has."""
    return " ".join(sorted(os.environ))


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def dies() -> str:
    """End the process."""
    os._exit(3)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def fails() -> str:
    """Fail."""
    raise ValueError("No tool echo here for you: it does not exist or you may not use it.")


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def large(kib: int) -> str:
    """A large answer."""
    return "x" * (kib * 1024)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def told(ctx: Context) -> str:
    """Everything that came with the call."""
    return str(ctx.request_context.meta)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def pid() -> str:
    """The number of its process."""
    return str(os.getpid())


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] == "http":
        mcp.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    elif sys.argv[1:] and sys.argv[1] == "https":
        address, port, chain, key = sys.argv[2:]
        served = mcp.streamable_http_app(host=address)
        uvicorn.run(served, host=address, port=int(port), ssl_certfile=chain, ssl_keyfile=key, log_level="error")
    else:
        mcp.run("stdio")
    time.sleep(0)
