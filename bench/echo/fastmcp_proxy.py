"""A FastMCP proxy whose calls share one client that stays connected: `fastmcp_proxy.py PORT UPSTREAM_URL`."""

import asyncio
import sys

from fastmcp import Client
from fastmcp.server import create_proxy


async def main(port: int, upstream: str) -> None:
    """Serve until ended."""
    async with Client(upstream) as client:
        proxy = create_proxy(client, name="proxy")
        await proxy.run_async(transport="http", port=port, show_banner=False, log_level="warning")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
