"""A server's own smoke calls: made inside its process before it says that it is ready, of read-only tools alone.

Nobody calls: there is no identity, no token, and no policy is asked, so nothing is opened by them. They are in no
ledger. What is said of one that failed is for the server's author, and in the log; the answer itself is nowhere.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from mcp_types import CallToolResult, TextContent

from pegboard.call.ports import ToolResult
from pegboard.core.logs import annotated
from pegboard.core.manifest import SmokeCall
from pegboard.core.readiness import OK, SMOKE_FAILED, SMOKE_RUNNING

logger = logging.getLogger(__name__)

LONGEST_WORDS = 300
"""Characters of what is said of one call."""

Call = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]


class SmokeCalls:
    """The smoke calls of one process."""

    def __init__(self, calls: Sequence[SmokeCall], forbidden: Mapping[str, str], call: Call) -> None:
        """Prepare; nothing is called yet.

        Args:
            calls: as the manifest says.
            forbidden: tools that may not be called so, each with why.
            call: runs a tool's code.
        """
        self._outcome: dict[str, str] = {}
        self._calls = calls
        self._forbidden = forbidden
        self._call = call
        self._done = not calls

    @property
    def made(self) -> bool:
        """Whether all were made, or there are none."""
        return self._done

    @property
    def outcome(self) -> Mapping[str, str]:
        """How each went, by tool: `ok`, or what was wrong; empty until all were made. A second of one is numbered."""
        return self._outcome if self._done else {}

    def status(self) -> str:
        """What readiness says of them, one of `core.readiness.UNREADY`; empty once all went as they should."""
        if not self._done:
            return SMOKE_RUNNING
        return "" if all(word == OK for word in self._outcome.values()) else SMOKE_FAILED

    async def run(self) -> None:
        """Make them one after another; whatever goes wrong with one is said, and the others are made."""
        for call in self._calls:
            began = time.monotonic()
            with annotated(surface="smoke"):
                word = self._forbidden.get(call.tool) or await self._one(call)
                level = logging.INFO if word == OK else logging.ERROR
                logger.log(level, "smoke call of %s: %s (%.2f s)", call.tool, word, time.monotonic() - began)
            self._outcome[self._key(call.tool)] = word[:LONGEST_WORDS]
        self._done = True

    async def _one(self, call: SmokeCall) -> str:
        try:
            with anyio.fail_after(call.within_s):
                result = await self._call(call.tool, dict(call.arguments))
        except TimeoutError:
            return f"did not answer within {call.within_s:g} s"
        except Exception as error:
            logger.error("smoke call of %s failed", call.tool, exc_info=error)
            return f"failed: {error}" if str(error) else f"failed: {type(error).__name__}"
        if not isinstance(result, CallToolResult):
            return "asks its caller something, and nobody calls"
        text = _text(result)
        if result.is_error:
            return f"answered with an error: {text}"
        if call.expect and call.expect not in text:
            return f"answered without {call.expect!r}"
        return OK

    def _key(self, tool: str) -> str:
        number = 1
        while (key := tool if number == 1 else f"{tool} ({number})") in self._outcome:
            number += 1
        return key


def _text(result: CallToolResult) -> str:
    parts = [part.text for part in result.content if isinstance(part, TextContent)]
    if result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(parts)
