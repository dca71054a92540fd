"""The backend's process, and its standard streams as a transport of the official SDK, bounded.

The SDK's own `stdio_client` reads a line to its end, however long it is, and hands on whatever comes. A backend is
not trusted that far: its lines have a largest size, what is no answer has a pace, and of notifications those alone
go on that mean something to a proxy.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import (
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)

from pegboard.core.text import plain

logger = logging.getLogger(__name__)
backend_logger = logging.getLogger("pegboard.backend")

OVERHEAD: Final = 64 * 1024
"""Bytes that a message may have beside the result in it."""

MOST_SKIPPED: Final = 64 * 1024 * 1024
"""Bytes of one oversize message that are read past; a longer one ends the connection."""

MOST_STRANGE: Final = 1_000
"""Messages a second that are no answers. Beyond that the backend is not read from, and waits at its full pipe."""

LONGEST_FLOOD_S: Final = 10
"""Seconds in a row of that, after which the backend is started anew."""

MOST_LOGGED: Final = 50
"""Lines a second of the backend's standard error that are logged."""

MOST_ON_STDERR: Final = 1024 * 1024
"""Bytes a second of it that are read; who writes more waits at its full pipe, and not the calls of others for it."""

LONGEST_LOGGED: Final = 500

PASSED_ON: Final = frozenset(
    {"notifications/progress", "notifications/tools/list_changed", "notifications/cancelled"}
)
"""Notifications of a backend that are read; logging and the rest are dropped."""

END_S: Final = 2.0
"""Seconds that a backend has to end by itself once its standard input is closed; then it is killed."""

_ID: Final = re.compile(rb'^\s*\{(?:\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*"id"\s*:\s*(\d+)|"id"\s*:\s*(\d+)\s*\}\s*$')
_AROUND: Final = 256

TOO_LARGE: Final = -32090
"""Code of the error that stands in the place of an oversize answer, within the proxy alone."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one message may be.

    Attributes:
        message_bytes: largest message.
    """

    message_bytes: int


class Ended(Exception):
    """The connection is given up. The message says why, for the log."""


class BackendProcess:
    """A backend's process, with pipes.

    Attributes:
        process: the child.
        last_words: the last lines of its standard error, for whoever wonders why it ended.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.last_words: deque[str] = deque(maxlen=3)

    @property
    def ended(self) -> str:
        """How it ended, in words; empty while it runs."""
        status = self.process.returncode
        if status is None:
            return ""
        return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"

    @property
    def saying(self) -> str:
        """Its last words, to follow how it ended: its own, so for the log and its owner alone."""
        return f", saying: {' | '.join(self.last_words)}" if self.last_words else ""

    async def over(self) -> None:
        """Wait until it has ended; not for its pipes, which a grandchild may keep open."""
        while self.process.returncode is None:  # noqa: ASYNC110 - waiting for it would wait for its pipes, too
            await anyio.sleep(0.01)

    async def stop(self) -> None:
        """End it, with all that it started. Never raises, and takes no longer than a few seconds."""
        with anyio.CancelScope(shield=True):
            if self.process.stdin is not None:
                with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self.process.stdin.aclose()
            with anyio.move_on_after(END_S):
                await self.over()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with anyio.move_on_after(END_S):
                await self.over()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await stream.aclose()
            # What it started may still hold its ends of the pipes; ours are closed with the loop's own object, which
            # anyio does not show (the official SDK's stdio client does the same).
            transport = getattr(getattr(self.process, "_process", None), "_transport", None)
            if transport is not None:
                with suppress(PermissionError):
                    transport.close()


@asynccontextmanager
async def running(
    command: tuple[str, ...], variables: Mapping[str, str], folder: Path
) -> AsyncIterator[BackendProcess]:
    """A backend's process while the block runs; its standard error goes to the log.

    Raises:
        OSError: it cannot be started.
    """
    process = await anyio.open_process(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(variables),
        cwd=folder,
        start_new_session=True,
    )
    backend = BackendProcess(process)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_log, backend)
            yield backend
            tasks.cancel_scope.cancel()
    finally:
        await backend.stop()


async def discarded(backend: BackendProcess) -> None:
    """Read what it prints on standard output, which nobody needs where it is spoken to over HTTP."""
    assert backend.process.stdout is not None  # noqa: S101 - opened with a pipe
    with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        while True:
            await backend.process.stdout.receive()


@asynccontextmanager
async def streams(backend: BackendProcess, bounds: Bounds) -> AsyncIterator[TransportStreams]:
    """The backend's standard streams as a transport: one message a line (MCP, stdio transport)."""
    to_us, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, from_us = anyio.create_memory_object_stream[SessionMessage](0)
    async with to_us, read, write, from_us, anyio.create_task_group() as tasks:
        tasks.start_soon(_read, backend, to_us, bounds)
        tasks.start_soon(_write, backend, from_us, to_us)
        try:
            yield read, write
        finally:
            tasks.cancel_scope.cancel()


async def _read(
    backend: BackendProcess, to_us: MemoryObjectSendStream[SessionMessage | Exception], bounds: Bounds
) -> None:
    try:
        async with to_us:
            await _heard(backend, to_us, bounds)
    except Ended as ended:
        logger.error("the connection to the backend is given up: %s", ended)
        with suppress(ProcessLookupError):
            backend.process.kill()  # so that whoever watches it starts it anew, before a call meets it
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        return


async def _heard(
    backend: BackendProcess, to_us: MemoryObjectSendStream[SessionMessage | Exception], bounds: Bounds
) -> None:
    pace = _Pace()
    async for line in _lines(backend.process, bounds):
        message = _parsed(line)
        if _is_answer(message):
            assert message is not None  # noqa: S101 - it is an answer
            await to_us.send(message)
            continue
        await pace.one()
        if message is not None and _is_passed_on(message):
            await to_us.send(message)


async def _lines(process: Process, bounds: Bounds) -> AsyncIterator[bytes]:
    """Lines of the backend's standard output. In the place of an oversize one stands an error for whoever waits."""
    assert process.stdout is not None  # noqa: S101 - opened with a pipe
    kept, skipped = bytearray(), 0
    head = b""
    while True:
        try:
            chunk = await process.stdout.receive(65_536)
        except anyio.EndOfStream:
            return
        first, *more = chunk.split(b"\n")
        kept += first
        for part in more:
            yield _oversize(head, bytes(kept), bounds) if skipped else bytes(kept)
            kept, skipped, head = bytearray(part), 0, b""
        if len(kept) > bounds.message_bytes:
            head = head or bytes(kept[:_AROUND])
            skipped += len(kept) - _AROUND
            del kept[:-_AROUND]
            if skipped > MOST_SKIPPED:
                raise Ended(f"it writes a message of more than {MOST_SKIPPED // 2**20} MiB")


def _oversize(head: bytes, tail: bytes, bounds: Bounds) -> bytes:
    """An error in the place of a message that was too large, for the call that it answers.

    Raises:
        Ended: it is not to be seen which.
    """
    found = _ID.search(head) or _ID.search(tail)
    if found is None:
        raise Ended(f"it wrote a message of more than {bounds.message_bytes} bytes")
    number = int(found[1] or found[2])
    error = ErrorData(code=TOO_LARGE, message="too large")
    answer = JSONRPCError(jsonrpc="2.0", id=number, error=error)
    return answer.model_dump_json(by_alias=True, exclude_none=True).encode()


def _parsed(line: bytes) -> SessionMessage | None:
    """The message in a line; None of what is none."""
    if not line.strip():
        return None
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        logger.warning("the backend printed what is no message: %s", _cut(line))
        return None


def _is_answer(message: SessionMessage | None) -> bool:
    return message is not None and not isinstance(message.message, JSONRPCRequest | JSONRPCNotification)


def _is_passed_on(message: SessionMessage) -> bool:
    return isinstance(message.message, JSONRPCRequest) or message.message.method in PASSED_ON  # type: ignore[union-attr]


class _Pace:
    """Holds whoever reads to `MOST_STRANGE` messages a second."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0
        self._flooded = 0

    async def one(self) -> None:
        """Take note of one message, and wait where there were too many.

        Raises:
            Ended: there have been too many for too long.
        """
        now = anyio.current_time()
        if int(now) != self._second:
            if self._count < MOST_STRANGE:
                self._flooded = 0
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count >= MOST_STRANGE:
            self._flooded += 1
            if self._flooded > LONGEST_FLOOD_S:
                raise Ended(f"it has sent {MOST_STRANGE} messages a second that answer nothing")
            await anyio.sleep(int(now) + 1 - now)


async def _write(
    backend: BackendProcess,
    from_us: MemoryObjectReceiveStream[SessionMessage],
    to_us: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    assert backend.process.stdin is not None  # noqa: S101 - opened with a pipe
    try:
        async with from_us:
            async for each in from_us:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                await backend.process.stdin.send(text.encode() + b"\n")
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        # It may still run: whoever waits for an answer must hear that there is none.
        await to_us.aclose()


async def _log(backend: BackendProcess) -> None:
    """The backend's standard error in the server's log: cut, with nothing hidden in it, and not without bounds."""
    stderr = backend.process.stderr
    assert stderr is not None  # noqa: S101 - opened with a pipe
    second, count, left_out, read = 0, 0, 0, 0
    kept = b""
    with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        while True:
            chunk = await stderr.receive(65_536)
            if (now := anyio.current_time()) >= second + 1:
                if left_out:
                    backend_logger.warning("%d lines of the backend's were left out", left_out)
                second, count, left_out, read = int(now), 0, 0, 0
            read += len(chunk)
            *whole, kept = (kept + chunk).split(b"\n")
            kept = kept[: LONGEST_LOGGED * 4]
            lines = [line for line in whole if line]
            logged = lines[: max(0, MOST_LOGGED - count)]
            for line in logged:
                backend_logger.info("%s", _cut(line))
            backend.last_words.extend(_cut(line, 200) for line in lines[-3:])
            count, left_out = count + len(lines), left_out + len(lines) - len(logged)
            if read >= MOST_ON_STDERR:
                await anyio.sleep(second + 1 - now)


def _cut(line: bytes, longest: int = LONGEST_LOGGED) -> str:
    text = plain(line[: longest * 4].decode("utf-8", "replace").strip())
    return text if len(text) <= longest else f"{text[:longest]}…"
