"""Limits that an author puts on costly tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from pegboard.call.context import FOR_NOBODY, current_caller


class ConcurrencyLimit:
    """How many costly calls run at once in this process: for each caller, in all, and in a short queue.

        queries = ConcurrencyLimit("queries", per_caller=2, at_once=4, waiting=8, wait_s=10)

        @server.tool()
        @authorize_tool(policy="granted")
        async def run_query(sql: str) -> Rows:
            async with queries.turn():
                return await engine.run(sql)

    A caller is a person or a service, whatever surface the call comes from. One that already has its share is refused
    at once and never waits, so nobody can fill the queue alone. Each replica of a server counts for itself. Smoke
    calls, which have no caller, are the server's own.
    """

    def __init__(self, what: str, *, per_caller: int, at_once: int, waiting: int, wait_s: float) -> None:
        """Set the limits.

        Args:
            what: the plural that refusals use, for example `queries`.
            per_caller: calls that one caller may have, running or waiting.
            at_once: calls that run.
            waiting: calls that wait for a turn, first come, first served.
            wait_s: seconds a call waits at most.

        Raises:
            ValueError: a limit that would let nobody in.
        """
        if per_caller < 1 or at_once < 1 or waiting < 0 or wait_s < 0:
            raise ValueError("per_caller and at_once must be 1 or more, waiting and wait_s 0 or more")
        self._what = what
        self._per_caller = per_caller
        self._waiting = waiting
        self._wait_s = wait_s
        self._running = anyio.CapacityLimiter(at_once)
        self._held: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one place of the calling person or service until the block ends, however it ends.

        Raises:
            ToolError: the caller has its share already, the queue is full, or no turn came free in time. The text
                names the limit and what to do.
            LookupError: no tool is running in this context.
        """
        who = _whose_turn()
        self._refuse_a_full_share(self._held[who])
        turn = object()
        self._held[who] += 1
        try:
            await self._wait(turn)
            try:
                yield
            finally:
                self._running.release_on_behalf_of(turn)
        finally:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

    def _refuse_a_full_share(self, held: int) -> None:
        if held >= self._per_caller:
            raise ToolError(
                f"You have {held} {self._what} running or waiting here, and one caller may have {self._per_caller}. "
                "Wait until one ends, or cancel one, then ask again."
            )

    async def _wait(self, turn: object) -> None:
        try:
            self._running.acquire_on_behalf_of_nowait(turn)
        except anyio.WouldBlock:
            await self._queue(turn)

    async def _queue(self, turn: object) -> None:
        now = self._running.statistics()
        busy = f"This server is busy: {now.borrowed_tokens} {self._what} are running"
        if now.tasks_waiting >= self._waiting:
            raise ToolError(
                f"{busy} and {now.tasks_waiting} are waiting, which is all that it takes. Try again in a few seconds."
            )
        try:
            with anyio.fail_after(self._wait_s):
                await self._running.acquire_on_behalf_of(turn)
        except TimeoutError as error:
            raise ToolError(
                f"{busy}, and none ended within {self._wait_s:g} s. Try again in a few seconds."
            ) from error


def _whose_turn() -> tuple[str, str]:
    if FOR_NOBODY.get():
        return "", ""
    caller = current_caller()
    return caller.sub_type, caller.sub
