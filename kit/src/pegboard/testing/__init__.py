"""An in-memory hub for authors' own tests: real tokens, real policies, the real chain, no network.

hub = InMemoryHub(Path("servers/scratch"))
async with hub.client("ana", groups=["ads-eng"], surface="cli") as client:
    result = await client.call_tool("echo", {"text": "hello"})
"""

from pegboard.testing.hub import InMemoryHub

__all__ = ["InMemoryHub"]
