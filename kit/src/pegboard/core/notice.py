"""What callers are told with every result of a server, as that it is going to end.

It stands in `_meta` of each result of a tool and of the list of tools, and nowhere in their content: that is the
tool's own word, which a model may take for data or for an instruction. The command prints it for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NOTICE_KEY: Final = "pegboard.dev/notice"
"""Key under `_meta` (MCP) of the notice, a text of one sentence or two."""


def with_notice(meta: Mapping[str, Any] | None, notice: str) -> dict[str, Any] | None:
    """A result's `_meta` with what callers are to be told; without it where that is nothing, whoever put it there."""
    kept = {key: value for key, value in (meta or {}).items() if key != NOTICE_KEY}
    return (kept | ({NOTICE_KEY: notice} if notice else {})) or None


def notice_in(meta: object) -> str:
    """What a result's `_meta` tells, empty for nothing."""
    found = meta.get(NOTICE_KEY) if isinstance(meta, Mapping) else None
    return found if isinstance(found, str) else ""
