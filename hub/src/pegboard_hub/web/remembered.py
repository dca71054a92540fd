"""What the database said, remembered until the registry changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from pegboard_hub.registry.model import Snapshot
from pegboard_hub.web.parts import Parts

T = TypeVar("T")


class Remembered(Generic[T]):
    """Answers that follow from tables which change through `Registry.changing` alone.

    Each such change replaces `Registry.current`, and what is remembered goes with it. Where there may be other hubs
    nothing is remembered: what they change is told here only if it is in the history.
    """

    def __init__(self, parts: Parts, most: int) -> None:
        """Prepare; at `most` answers it begins anew."""
        self._parts = parts
        self._most = most
        self._of: Snapshot | None = None
        self._kept: dict[Hashable, T] = {}

    async def get(self, question: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` answers to a question, which holds all that the answer depends on beside the tables."""
        if not self._parts.database.embedded:
            return await read()
        if self._of is not self._parts.registry.current:
            self._of, self._kept = self._parts.registry.current, {}
        kept = self._kept  # of the state before the reading: what is read while it ends is not for the next
        if question in kept:
            return kept[question]
        found = await read()
        if len(kept) >= self._most:
            kept.clear()
        kept[question] = found
        return found
