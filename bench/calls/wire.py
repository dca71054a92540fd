"""MCP over HTTP/1.1 as bytes: requests made cheaply, replies read and checked whole."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bench.calls.rival import ERAS, LEGACY, MODERN, Target

_CLIENT = {"name": "pegboard-bench", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


class Reply(NamedTuple):
    """A whole HTTP answer."""

    status: int
    head: bytes
    body: bytes


class Requests:
    """The requests of one era to one target. Each call has a number, which is its id and part of its text."""

    def __init__(self, target: Target, era: str) -> None:
        self._target = target
        self._legacy = era == "legacy"
        lines = [
            f"POST {target.path} HTTP/1.1",
            f"Host: {target.host}:{target.port}",
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            f"MCP-Protocol-Version: {ERAS[era]}",
            *(f"{name}: {value}" for name, value in target.headers.items()),
        ]
        self._common = "\r\n".join(lines).encode() + b"\r\n"
        routing = b"" if self._legacy else f"Mcp-Method: tools/call\r\nMcp-Name: {target.tool}\r\n".encode()
        self._call = self._common + routing
        params = {"name": target.tool, "arguments": {"text": "@TEXT@"}} | ({} if self._legacy else {"_meta": _META})
        message = {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}
        self._before, self._after = json.dumps(message).replace('"id": 0', '"id": @ID@').split('"id": @ID@')

    def call(self, number: int, session: bytes) -> bytes:
        """One call of `echo`."""
        body = f'{self._before}"id": {number}{self._after}'.replace("@TEXT@", text(number)).encode()
        return self._post(self._call, body, session)

    def open_session(self) -> list[bytes]:
        """What a legacy client says first: nothing in the modern era, which has no sessions."""
        if not self._legacy:
            return []
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        return [self._post(self._common, json.dumps(hello).encode(), b"")]

    def initialized(self, session: bytes) -> bytes:
        """The notification that ends a legacy client's greeting."""
        return self._post(self._common, b'{"jsonrpc":"2.0","method":"notifications/initialized"}', session)

    def end_session(self, session: bytes) -> bytes:
        """What a legacy client says last."""
        return self._common.replace(b"POST ", b"DELETE ", 1) + _session(session) + b"\r\n"

    def _post(self, head: bytes, body: bytes, session: bytes) -> bytes:
        return b"%s%sContent-Length: %d\r\n\r\n%s" % (head, _session(session), len(body), body)


def text(number: int) -> str:
    """The text of a call; no other call has it."""
    return f"call number {number:012d}"


def is_answer(reply: Reply, number: int) -> bool:
    """Whether this is the right answer to that call: its id, its text, and no error."""
    if reply.status != 200:
        return False
    try:
        message = _message(reply)
        result = message["result"]
        return bool(
            message["id"] == number and not result.get("isError") and result["content"][0]["text"] == text(number)
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return False


def _message(reply: Reply) -> dict[str, Any]:
    """The JSON-RPC message of a JSON body, or the last one of an event stream."""
    body = reply.body
    if b"text/event-stream" in reply.head.lower():
        body = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()][-1]
    found: dict[str, Any] = json.loads(body)
    return found


def session_of(reply: Reply) -> bytes:
    """The session that an answer names; empty when it names none."""
    return _header(reply.head, b"mcp-session-id")


def _session(session: bytes) -> bytes:
    return b"Mcp-Session-Id: " + session + b"\r\n" if session else b""


def take(data: bytes) -> Reply | None:
    """The reply that `data` holds from its first byte to its last; None while it is not whole.

    Raises:
        ValueError: it holds something else.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    status = int(head[9:12])
    length = _header(head, b"content-length")
    if length:
        return Reply(status, head, rest) if len(rest) >= int(length) else None
    if _header(head, b"transfer-encoding") == b"chunked":
        body = _unchunked(rest)
        return None if body is None else Reply(status, head, body)
    if status in (202, 204):
        return Reply(status, head, b"")
    raise ValueError(f"an answer without a length: {head[:200]!r}")


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _unchunked(data: bytes) -> bytes | None:
    """The body of a chunked message (RFC 9112 §7.1), without trailers; None while it is not whole."""
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts) if data[end + 2 : end + 4] == b"\r\n" else None
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return None
