"""The whole list of a backend's tools, as far as it may go."""

from __future__ import annotations

from typing import Final

from mcp.client.session import ClientSession
from mcp_types import PaginatedRequestParams

from pegboard.core.pins import PinnedTool

MOST_PAGES: Final = 50
MOST_LISTED: Final = 1_000
"""Pages, and tools, of a list that are read; a longer one is refused."""


class TooLong(Exception):
    """A list that does not end."""


async def listed(session: ClientSession) -> list[PinnedTool]:
    """All tools that a backend lists.

    Raises:
        MCPError: it does not answer.
        ValidationError: what it answers is no list of tools.
        TooLong: there are too many.
    """
    found: list[PinnedTool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        wire = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        found += [PinnedTool.of(tool) for tool in wire]
        cursor = page.next_cursor
        if cursor is None:
            return found
        if len(found) > MOST_LISTED:
            break
    raise TooLong(f"it lists more than {MOST_LISTED} tools, or on more than {MOST_PAGES} pages")
