"""A shop's MCP server, written with FastMCP by somebody who has never heard of Pegboard."""

import sys
from typing import Annotated

from fastmcp import FastMCP
from pydantic import Field

mcp = FastMCP("shop", instructions="Prices and orders of the office shop.")

PRICES = {"pencil": 2, "paper": 5, "lamp": 40}
ORDERS: list[tuple[str, int]] = []


@mcp.tool(annotations={"title": "Look up a price", "readOnlyHint": True, "openWorldHint": False})
def price(item: Annotated[str, Field(description="What to look up, for example lamp")]) -> int:
    """Say what one piece of an item costs. Use it before ordering."""
    if item not in PRICES:
        raise ValueError(f"the shop has {', '.join(PRICES)}")
    return PRICES[item]


@mcp.tool(annotations={"title": "Order", "readOnlyHint": False, "destructiveHint": False, "openWorldHint": False})
def order(
    item: Annotated[str, Field(description="What to order, as price knows it")],
    count: Annotated[int, Field(description="How many pieces", ge=1)],
) -> str:
    """Order something for the office. Use it when a person has asked for exactly this."""
    ORDERS.append((item, count))
    return f"{count} x {item} for {count * PRICES[item]}, order number {len(ORDERS)}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
    else:
        mcp.run(show_banner=False)
