"""The echo tool on FastMCP: `with_fastmcp.py PORT`."""

import sys

from fastmcp import FastMCP

server: FastMCP = FastMCP("echo")


@server.tool
async def echo(text: str) -> str:
    """Give back the text it was given, unchanged."""
    return text


if __name__ == "__main__":
    server.run(transport="http", port=int(sys.argv[1]), show_banner=False, log_level="warning")
