"""Servers that misbehave behind an edge, a tool each; and callers who do: byte by byte, and HTTP/2 by the frame."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.system.edge_rig import DEADLINE_S, Rig


async def misbehave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that does what the tool in the body is called."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1])) if length else b""
        await MISDEEDS[re.search(rb'"name": "([a-z_]+)"', body)[1].decode()](reader, writer)  # type: ignore[index]


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


async def echo(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: 2\r\n\r\n{}")


waiting = 0
"""Calls that get no answer, now."""


async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    global waiting
    waiting += 1
    try:
        await reader.read()
    finally:
        waiting -= 1


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def drip_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    number = 0
    while not writer.is_closing():
        writer.write(b"x-%d: y\r\n" % (number := number + 1))
        await writer.drain()
        await asyncio.sleep(0.2)


async def large_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"x-large: " + b"x" * 200_000 + b"\r\ncontent-length: 2\r\n\r\n{}")


async def many_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"".join(b"x-%d: y\r\n" % number for number in range(200)) + b"content-length: 2\r\n\r\n{}")


async def no_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


resets = 0


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global resets
    resets += 1
    writer.transport.abort()


async def fails(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")


async def torn(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.transport.abort()


MISDEEDS = {
    each.__name__: each
    for each in (echo, never, drip, drip_head, large_head, many_headers, no_http, reset, fails, torn)
}


@contextmanager
def connected(edge: Rig, port: int | None = None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port or edge.port), timeout=DEADLINE_S) as connection:
        yield connection


def answered(connection: socket.socket) -> bytes:
    """Everything until the edge closes the connection."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def head(edge: Rig, length: int, *more: str) -> bytes:
    lines = [
        "POST /mcp/prod/presto HTTP/1.1",
        f"host: localhost:{edge.port}",
        f"authorization: Bearer {edge.token()}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        f"content-length: {length}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def trickle(connection: socket.socket, text: bytes) -> bytes:
    """Send a byte at a time until the edge has enough; its answer."""
    connection.settimeout(0.1)
    for byte in text:
        try:
            connection.sendall(bytes([byte]))
            if answer := connection.recv(65536):
                connection.settimeout(DEADLINE_S)
                return answer + answered(connection)
            return b""
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
    raise AssertionError("the edge took all of it")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
MAX_CONCURRENT_STREAMS = 3
"""RFC 9113 §6.5.2."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each frame, until the edge closes the connection."""
    read = connection.makefile("rb")
    with suppress(ConnectionError):
        while len(head := read.read(9)) == 9:
            yield head[3], read.read(int.from_bytes(head[:3], "big"))
