"""HTTP/2 by hand, so that a request can say what no library would (RFC 9113, RFC 7541)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
"""Entries of HPACK's static table (RFC 7541, appendix A)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A header block of literals without indexing: whatever bytes are given."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in pairs)


def opening(pairs: Iterable[tuple[str, str]], body: bytes, trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A connection's first bytes, and one request on stream 1."""
    trailing = fields(trailers)
    sent = PREFACE + frame(SETTINGS, 0, 0)
    sent += frame(HEADERS, END_HEADERS | (0 if body or trailing else END_STREAM), 1, fields(pairs))
    for at in range(0, len(body), 16_000):
        last = at + 16_000 >= len(body) and not trailing
        sent += frame(DATA, END_STREAM if last else 0, 1, body[at : at + 16_000])
    return sent + (frame(HEADERS, END_HEADERS | END_STREAM, 1, trailing) if trailing else b"")


SOON_S = 0.25
"""Seconds after which we say that nothing more comes: the edge keeps for a second what it ends."""


def answer(connection: socket.socket, first_s: float, patience_s: float) -> tuple[int, bytes]:
    """Status and body of the answer on stream 1; status 0 where the stream or connection was ended instead.

    Args:
        connection: on which the request was sent.
        first_s: how long it may take to begin.
        patience_s: how long an answer may take after it began.
    """
    status, body, buffer, asked = 0, b"", b"", False
    connection.settimeout(first_s)
    try:
        while True:
            try:
                part = connection.recv(65536)
            except TimeoutError:
                if asked:
                    break
                asked = True
                connection.settimeout(patience_s)
                connection.shutdown(socket.SHUT_WR)
                continue
            if not part:
                break
            buffer += part
            while len(buffer) >= 9 + (length := int.from_bytes(buffer[:3], "big")):
                kind, flags, payload = buffer[3], buffer[4], buffer[9 : 9 + length]
                buffer = buffer[9 + length :]
                if kind == SETTINGS and not flags & ACK:
                    connection.sendall(frame(SETTINGS, ACK, 0))
                elif kind == HEADERS and not status:
                    status = _status(payload)
                    connection.settimeout(patience_s)
                elif kind == DATA:
                    body += payload
                if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
                    return status, body
    except OSError:
        pass  # ended: what came counts
    return status, body


def _status(block: bytes) -> int:
    """The status is first (RFC 9113 §8.3.2): indexed, or a literal of three digits, Huffman-coded or not."""
    if block and block[0] & 0x80:
        return STATUSES.get(block[0] & 0x7F, 1)
    length, text = block[1] & 0x7F, block[2 : 2 + (block[1] & 0x7F)]
    digits = _digits(text) if block[1] & 0x80 else text.decode("latin-1")
    return int(digits) if length and digits.isdigit() else 1


def _digits(text: bytes) -> str:
    """Three digits in Huffman's code (RFC 7541, appendix B): 0 to 2 have five bits, the others six."""
    bits, found = f"{int.from_bytes(text, 'big'):0{8 * len(text)}b}", ""
    while len(found) < 3:
        short = int(bits[:5], 2)
        found += str(short) if short < 3 else str(int(bits[:6], 2) - 0b011001 + 3)
        bits = bits[5 if short < 3 else 6 :]
    return found


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, found = len(raw) - 127, b"\x7f"
    while rest >= 128:
        found += bytes([rest % 128 + 128])
        rest //= 128
    return found + bytes([rest]) + raw
