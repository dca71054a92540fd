"""Endless streams, and their ends: with the token that opened them, and with the right to open them.

A request is asked about when it comes. A stream stays for hours after that, so it is asked about again and again:
what flows on it must not outlive a grant that was taken, nor go on after a stop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from pegboard.call.chain import Admitted, Chain

LOOK_S = 0.5
"""How often the open streams are looked over, in seconds."""


class OpenStreams:
    """The endless streams that are open at one server."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._open: dict[anyio.CancelScope, Admitted] = {}

    @contextmanager
    def one(self, admitted: Admitted) -> Iterator[None]:
        """End the block when its caller's token ends, or when the caller could no longer open it."""
        with anyio.move_on_after(max(0.0, admitted.caller.expires_at - time.time())) as scope:
            self._open[scope] = admitted
            try:
                yield
            finally:
                del self._open[scope]

    async def watch(self) -> None:
        """Look them over until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            for scope, admitted in list(self._open.items()):
                if not self._chain.still_open(admitted):
                    scope.cancel("the caller could not open this stream any more")
