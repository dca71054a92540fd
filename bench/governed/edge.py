"""An edge alone: the agent, and Envoy as its child. `python edge.py HOME URL PORT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pegboard_hub.common.home import Home
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.edge.command import envoy_command


async def main(root: str, url: str, port: str) -> None:
    """Run both until they are ended."""
    home = Home.open(Path(root))
    agent = EdgeAgent(home, url, int(port), ("127.0.0.1",))
    running = asyncio.create_task(agent.run())
    await agent.rendered.wait()
    await asyncio.create_subprocess_exec(*envoy_command(home))
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
