"""The echo tool on the bare official SDK: `with_mcp.py PORT|SOCKET [--fast]`."""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("echo", log_level="WARNING")


@server.tool()
async def echo(text: str) -> str:
    """Give back the text it was given, unchanged."""
    return text


if __name__ == "__main__":
    where, *options = sys.argv[1:]
    at = {"port": int(where)} if where.isdigit() else {"uds": where}
    # A choice is named both times: what `auto` takes depends on what happens to be installed.
    parts = {"loop": "uvloop", "http": "httptools"} if options == ["--fast"] else {"loop": "asyncio", "http": "h11"}
    uvicorn.run(server.streamable_http_app(), log_level="warning", access_log=False, **at, **parts)
