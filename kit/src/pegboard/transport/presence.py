"""Whether anybody still waits for an answer. A call whose caller has gone, or whose token ended, is cancelled.

The SDK does this for modern requests, which end with their connection. In the older era it runs a call to its end,
because a client might come back for the answer; Pegboard keeps no answers (no event store), so nobody could
(docs/decisions/0014).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.types import Message, Receive

from pegboard.core.caller import Caller
from pegboard.core.token import CLOCK_SKEW_S

PRESENCE = "pegboard.presence"
"""Key in the ASGI scope's state under which the `Presence` of a request travels to the handlers."""


class Presence:
    """The presence of one request's caller.

    Attributes:
        gone: the connection that brought the request is closed.
    """

    def __init__(self) -> None:
        self.gone = False
        self._running: set[anyio.CancelScope] = set()

    def watched(self, receive: Receive) -> Receive:
        """A `receive` that takes note when the server beneath reports that the client has disconnected."""

        async def watching() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._leave()
            return message

        return watching

    @contextmanager
    def needed(self, caller: Caller) -> Iterator[anyio.CancelScope]:
        """Cancel the block when the caller leaves, or when the caller's token ends, whichever is first."""
        left_s = caller.expires_at + CLOCK_SKEW_S - time.time()
        with anyio.CancelScope(deadline=anyio.current_time() + left_s) as scope:
            self._running.add(scope)
            if self.gone:
                scope.cancel()
            try:
                yield scope
            finally:
                self._running.discard(scope)

    def _leave(self) -> None:
        self.gone = True
        for scope in self._running:
            scope.cancel("the caller has gone")
