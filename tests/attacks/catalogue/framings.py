"""Framing that two parsers read differently, in HTTP/1.0, 1.1 and 2: most carry a second request inside the first."""

from __future__ import annotations

from typing import Any

from tests.attacks.catalogue.attack import (
    ATTACKER,
    BOTH,
    CLOSED,
    EDGE,
    OPEN,
    OWN_LOOK,
    VICTIM,
    Attack,
    Held,
    Request,
    Token,
)
from tests.attacks.catalogue.heads import ANA, OF_HTTP, OWN_CLOSED

_HTTP2 = "the edge's HTTP/2 refuses it, and servers speak none"

SMUGGLED = (
    b"POST /mcp/prod/atlas HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-User: ana\r\n"
    b'X-Forwarded-Groups: ["ads-eng"]\r\nX-Forwarded-Surface: cli\r\nContent-Type: application/json\r\n'
    b"Content-Length: 61\r\n\r\n"
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look"}}'
)
"""A second request, with the victim's identity, that must never be one of its own."""


def _framing(
    id_: str,
    sends: str,
    *lines: str,
    body: bytes = b"{call}",
    behind: bytes = b"",
    answer: tuple[int, ...] = (400,),
    may: frozenset[str] = frozenset(),
    hopeless: str = OF_HTTP,
    **more: Any,
) -> Attack:
    request = Request(lines=lines, body=body, behind=behind, framed=False, ends=bool(behind), **more)
    return Attack(f"framing-{id_}", "one-meaning", sends, request, answer, BOTH, may, hopeless)


_CHUNKED = b"0\r\n\r\n" + SMUGGLED

FRAMINGS = (
    _framing(
        "length-and-chunks",
        "says a length and chunks; a second request lies between the two ends (CL.TE)",
        "Content-Length: 6",
        "Transfer-Encoding: chunked",
        body=_CHUNKED,
    ),
    _framing(
        "chunks-and-length",
        "says chunks and a length (TE.CL)",
        "Transfer-Encoding: chunked",
        "Content-Length: 4",
        body=b"5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    ),
    _framing("two-lengths", "says two lengths", "Content-Length: 300", "Content-Length: 4"),
    _framing("list-of-lengths", "says a list of lengths", "Content-Length: 300, 300"),
    _framing("length-signed", "says a length with a sign", "Content-Length: +300"),
    _framing("length-negative", "says a length below zero", "Content-Length: -1"),
    _framing("length-hex", "says a length in hexadecimal", "Content-Length: 0x12c"),
    _framing("length-spaced", "says a length with a space in it", "Content-Length: 3 00"),
    _framing("length-huge", "says a length that no number holds", "Content-Length: 99999999999999999999"),
    _framing("length-empty", "says an empty length", "Content-Length: "),
    _framing(
        "coding-unknown",
        "says a coding that nobody knows",
        "Transfer-Encoding: xchunked",
        body=_CHUNKED,
        answer=(400, 501),
    ),
    _framing(
        "coding-twice", "says chunked twice", "Transfer-Encoding: chunked, chunked", body=_CHUNKED, answer=(400, 501)
    ),
    _framing(
        "coding-identity",
        "says identity and chunked",
        "Transfer-Encoding: identity, chunked",
        body=_CHUNKED,
        answer=(400, 501),
        hopeless="",
    ),
    _framing(
        "coding-two-lines",
        "says chunked and identity in two lines",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        body=_CHUNKED,
        answer=(400, 501),
    ),
    _framing(
        "coding-space",
        "puts a space before the colon of its coding",
        "Transfer-Encoding : chunked",
        "Content-Length: 5",
        body=_CHUNKED,
    ),
    _framing(
        "coding-tab",
        "puts a tab and a vertical tab before its coding",
        "Transfer-Encoding:\x0bchunked",
        "Content-Length: 5",
        body=_CHUNKED,
        answer=(400, 501),
    ),
    _framing(
        "coding-quoted", "puts its coding in quotes", 'Transfer-Encoding: "chunked"', body=_CHUNKED, answer=(400, 501)
    ),
    _framing(
        "coding-folded",
        "folds its coding into a second line",
        "X-A: b\r\n Transfer-Encoding: chunked",
        "Content-Length: 5",
        body=_CHUNKED,
        hopeless="",
    ),
    _framing(
        "chunk-size-none",
        "sends a chunk whose size is no number",
        "Transfer-Encoding: chunked",
        body=b"zz\r\n{call}\r\n0\r\n\r\n",
    ),
    _framing(
        "chunk-size-huge",
        "sends a chunk whose size no number holds",
        "Transfer-Encoding: chunked",
        body=b"fffffffffffffffff\r\n{call}\r\n0\r\n\r\n",
    ),
    _framing(
        "chunk-size-hex",
        "sends a chunk whose size begins with 0x",
        "Transfer-Encoding: chunked",
        body=b"0x5\r\n{call}\r\n0\r\n\r\n",
    ),
    _framing(
        "chunk-size-negative",
        "sends a chunk of a size below zero",
        "Transfer-Encoding: chunked",
        body=b"-1\r\n{call}\r\n0\r\n\r\n",
    ),
    _framing(
        "chunk-bare-lf", "ends a chunk's size with a bare LF", "Transfer-Encoding: chunked", body=b"5\n{call}\n0\n\n"
    ),
    _framing(
        "head-bare-lf",
        "ends its head with bare LFs, and another begins",
        "X: y\n\nGET /mcp/prod/atlas HTTP/1.1",
        "Content-Length: 0",
        body=b"",
        hopeless="",
    ),
    _framing(
        "trailer-identity",
        "says in a trailer that it is the victim",
        "Transfer-Encoding: chunked",
        "Trailer: x-forwarded-user",
        body=b'1\r\n{\r\n0\r\nX-Forwarded-User: ana\r\nX-Forwarded-Groups: ["ads-eng"]\r\n\r\n',
        hopeless="",
    ),
    _framing(
        "get-with-body",
        "sends a second request as the body of a GET",
        f"Content-Length: {len(SMUGGLED)}",
        body=SMUGGLED,
        verb="GET",
        answer=(400, 404, 405, 403, 200),
        may=OWN_LOOK,
        hopeless="nobody reads the body of a GET",
    ),
    _framing(
        "behind",
        "sends a second request behind the first, without a token of its own",
        "Content-Length: 2",
        body=b"{}",
        behind=SMUGGLED,
        without=("connection",),
        answer=(400,),
        hopeless="",
    ),
)


def _h2(
    id_: str,
    sends: str,
    *lines: str,
    answer: tuple[int, ...] = (0, 400),
    promise: str = "one-meaning",
    hopeless: str = _HTTP2,
    may: frozenset[str] = frozenset(),
    held: Held = BOTH,
    **more: Any,
) -> Attack:
    usual: dict[str, Any] = {
        "token": OWN_CLOSED,
        "server": CLOSED,
        "version": "HTTP/2",
        "lines": lines,
        "ends": 0 in answer,
    }
    return Attack(f"http2-{id_}", promise, sends, Request(**{**usual, **more}), answer, held, may, hopeless)


_GOOD = {"token": Token(ATTACKER, OPEN), "server": OPEN}
"""What makes a request one that would be answered, but for what is odd about it."""

HTTP2 = (
    _h2(
        "identity",
        "says in HTTP/2 that it is the victim",
        *(line.lower() for line in ANA),
        answer=(403,),
        promise="identity",
        hopeless="",
    ),
    _h2("no-token", "sends no token over HTTP/2", token=None, answer=(401,), promise="closed", hopeless=""),
    _h2(
        "forged",
        "sends a forged token over HTTP/2",
        token=Token(VICTIM, CLOSED, key="own"),
        answer=(401,),
        promise="closed",
        hopeless="",
    ),
    _h2("upper-case", "has a header's name in capitals", "X-Forwarded-User: ana", **_GOOD),
    _h2(
        "underscore",
        "has a header's name with an underscore",
        "x_forwarded_user: ana",
        held=EDGE,
        hopeless="",
        **_GOOD,
    ),
    _h2("line-end", "has a line end in a value", 'x-a: b\r\nx-forwarded-groups: ["ads-eng"]', **_GOOD),
    _h2("nul", "has a NUL in a value", "x-a: b\0c", **_GOOD),
    _h2("colon-in-name", "has a colon in a name", "x:forwarded-user: ana", **_GOOD),
    _h2("connection", "has a header of connections", "connection: x-forwarded-user", **_GOOD),
    _h2(
        "coding",
        "says chunked, which HTTP/2 does not have (H2.TE)",
        "transfer-encoding: chunked",
        body=_CHUNKED,
        **_GOOD,
    ),
    _h2("length-short", "says a shorter length than it sends (H2.CL)", "content-length: 4", **_GOOD),
    _h2("length-long", "says a longer length than it sends", "content-length: 4000", **_GOOD),
    _h2("two-lengths", "says two lengths", "content-length: 4", "content-length: 400", **_GOOD),
    _h2("two-paths", "says two paths", ":path: /mcp/prod/ledger", ":path: /mcp/prod/atlas", **_GOOD),
    _h2("two-methods", "says two methods", ":method: POST", ":method: GET", **_GOOD),
    _h2("pseudo-unknown", "has a pseudo-header that nobody knows", ":protocol-x: a", **_GOOD),
    _h2("path-space", "has a second request line in its path", ":path: /mcp/prod/ledger HTTP/1.1\r\nX-A: b", **_GOOD),
    _h2(
        "path-absolute",
        "has a whole address for a path",
        ":path: http://evil.example/mcp/prod/ledger",
        answer=(0, 400, 404, 421),
        **_GOOD,
    ),
    _h2(
        "method-line-end", "has a line end in its method", ":method: POST / HTTP/1.1\r\nHost: x\r\n\r\nPOST", **_GOOD
    ),
    _h2(
        "authority-foreign",
        "names another host",
        ":authority: evil.example",
        answer=(421,),
        promise="closed",
        hopeless="an edge without rules keeps its addresses",
        **_GOOD,
    ),
    _h2(
        "host-and-authority",
        "names one host twice, differently",
        "host: evil.example",
        answer=(0, 400, 421, 200),
        may=OWN_LOOK,
        hopeless="the authority counts, and the other name goes nowhere",
        **_GOOD,
    ),
    _h2("te", "wants more than trailers", "te: chunked", **_GOOD),
    _h2(
        "trailer-identity",
        "says in trailers that it is the victim",
        trailers=tuple(line.lower() for line in ANA),
        answer=(403,),
        promise="identity",
        hopeless="",
    ),
    _h2("trailer-pseudo", "has a path in its trailers", trailers=(":path: /mcp/prod/atlas",), **_GOOD),
)

TABLE = (*FRAMINGS, *HTTP2)
