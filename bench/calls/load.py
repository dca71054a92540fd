"""Callers in a closed loop: each sends its next call when the last was answered. Every reply is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from bench.calls.rival import Target
from bench.calls.wire import Reply, Requests, is_answer, session_of, take

MOST_SESSIONS = 16
"""Legacy sessions at once; more callers than that share them, as calls of one client do."""

PATIENCE_S = 30.0
"""A call that has no answer so long after the others is given up."""

_NUMBERS = count(1)
_DICE = random.Random(7)  # the order of calls


@dataclass(slots=True)
class Seen:
    """What the callers saw between two moments.

    Attributes:
        latencies: seconds of each right answer.
        faults: how many replies were wrong, and how many connections failed, by kind.
    """

    latencies: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class Load:
    """`concurrency` callers of one target, each on a connection of its own."""

    def __init__(self, target: Target, era: str, concurrency: int) -> None:
        self._target = target
        self._requests = Requests(target, era)
        self._concurrency = concurrency
        self._sessions: list[bytes] = []
        self._seen = Seen()
        self._stopping = False

    async def start(self) -> list[asyncio.Task[None]]:
        """Open sessions, where the era has them, and begin to call."""
        for hello in self._requests.open_session() * min(self._concurrency, MOST_SESSIONS):
            session = session_of(await self._one(hello))
            await self._one(self._requests.initialized(session))
            self._sessions.append(session)
        sessions = self._cycle()
        return [asyncio.create_task(self._call_on(next(sessions))) for _ in range(self._concurrency)]

    @property
    def answered(self) -> int:
        """Right answers since the last `take`."""
        return len(self._seen.latencies)

    def take(self) -> Seen:
        """What was seen since the last time."""
        seen, self._seen = self._seen, Seen()
        return seen

    async def stop(self, callers: list[asyncio.Task[None]]) -> None:
        """Let calls that are under way end, and end the sessions."""
        self._stopping = True
        _, hanging = await asyncio.wait(callers, timeout=PATIENCE_S)
        for caller in hanging:
            self._seen.faults["no answer"] += 1
            caller.cancel()
        for session in filter(None, self._sessions):
            await self._one(self._requests.end_session(session))

    def _cycle(self) -> Iterator[bytes]:
        for number in count():
            yield self._sessions[number % len(self._sessions)] if self._sessions else b""

    async def _call_on(self, session: bytes) -> None:
        while not self._stopping:
            try:
                connection = await _connect(self._target.port)
            except OSError as error:
                self._seen.faults[type(error).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            try:
                await self._call_with(connection, session)
            except (OSError, ValueError) as error:
                self._seen.faults[type(error).__name__] += 1
            finally:
                connection.close()

    async def _call_with(self, connection: _Connection, session: bytes) -> None:
        while not self._stopping:
            number = next(_NUMBERS)
            request = self._requests.call(number, session)
            began = time.perf_counter()
            reply = await connection.ask(request)
            took = time.perf_counter() - began
            if is_answer(reply, number):
                self._seen.latencies.append(took)
            else:
                self._seen.faults[f"wrong reply {reply.status} {reply.body[:80]!r}"] += 1
            if b"connection: close" in reply.head.lower():
                return

    async def _one(self, request: bytes) -> Reply:
        connection = await _connect(self._target.port)
        try:
            return await connection.ask(request)
        finally:
            connection.close()


async def in_turn(targets: Sequence[Target], era: str, rounds: int) -> list[list[float]]:
    """Seconds that each right answer took, by target: one call of each at a time, round after round.

    What slows the machine down for a moment slows all of them down alike.

    Raises:
        ValueError: an answer was wrong.
        OSError: a connection broke.
    """
    requests = [Requests(target, era) for target in targets]
    connections = [await _connect(target.port) for target in targets]
    sessions = [b""] * len(targets)
    took: list[list[float]] = [[] for _ in targets]
    try:
        for place, hello in ((i, hello) for i, each in enumerate(requests) for hello in each.open_session()):
            sessions[place] = session_of(await connections[place].ask(hello))
            await connections[place].ask(requests[place].initialized(sessions[place]))
        order = [*range(len(targets))]
        for _ in range(rounds):
            _DICE.shuffle(order)  # what comes after a dear one may find the machine warm, or busy
            for place in order:
                number = next(_NUMBERS)
                request = requests[place].call(number, sessions[place])
                began = time.perf_counter()
                reply = await connections[place].ask(request)
                took[place].append(time.perf_counter() - began)
                if not is_answer(reply, number):
                    raise ValueError(f"wrong reply {reply.status} {reply.body[:80]!r}")
        return took
    finally:
        for connection in connections:
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection with one request under way at most."""

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._waiting is None or self._waiting.done():
            return
        try:
            reply = take(self._data)
        except ValueError as error:
            self._waiting.set_exception(error)
            return
        if reply is not None:
            self._data = b""
            self._waiting.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("closed before the answer was whole"))

    async def ask(self, request: bytes) -> Reply:
        """Send a request and give back its whole answer.

        Raises:
            OSError: the connection broke.
            ValueError: what came is no answer.
        """
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionResetError("closed between two calls")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Close."""
        assert self._transport is not None
        self._transport.close()


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection
