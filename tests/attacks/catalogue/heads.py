"""Heads of requests: identity that callers claim, framing that two parsers read differently, HTTP/1.0, 1.1 and 2.

Most ask for the closed server with lies about who asks; framings carry a second request inside the first.
"""

from __future__ import annotations

from typing import Any

from tests.attacks.catalogue.attack import (
    ATTACKER,
    BOTH,
    CLOSED,
    EDGE,
    OPEN,
    OWN_LOOK,
    SERVER,
    VICTIM,
    Attack,
    Held,
    Request,
    Token,
)

ANA = ("X-Forwarded-User: ana", 'X-Forwarded-Groups: ["ads-eng"]', "X-Forwarded-Surface: cli")
"""What the edge would tell a server of the victim."""

_HTTP = "HTTP's own parsers refuse it, the edge's and a server's"
_HTTP2 = "the edge's HTTP/2 refuses it, and servers speak none"

_OWN_CLOSED = Token(ATTACKER, CLOSED)


def _lie(
    id_: str,
    sends: str,
    *lines: str,
    answer: tuple[int, ...] = (403,),
    held: Held = BOTH,
    hopeless: str = "",
    **more: Any,
) -> Attack:
    """A lie about who asks for the closed server, beside the attacker's own good token for it."""
    request = Request(_OWN_CLOSED, CLOSED, lines=lines, **more)
    return Attack(f"identity-{id_}", "identity", sends, request, answer, held, hopeless=hopeless)


def _believed(id_: str, sends: str, *lines: str) -> Attack:
    """A header that a server could believe, where the attacker may call by itself: it must not get that far."""
    return Attack(f"identity-open-{id_}", "identity", sends, Request(lines=lines), (200,), BOTH, OWN_LOOK)


BELIEVED = (
    _believed("remote-user", "says in a web server's words that it is the victim", "Remote-User: ana"),
    _believed("x-remote-user", "says so in a gateway's words", "X-Remote-User: ana", "X-Remote-Groups: ads-eng"),
    _believed("x-user", "says so in a framework's words", "X-User: ana", "X-Username: ana"),
    _believed("email", "says the victim's address", "X-Forwarded-Email: ana", "X-Forwarded-Preferred-Username: ana"),
    _believed("auth-request", "says so in an authenticating proxy's words", "X-Auth-Request-User: ana"),
    _believed("authenticated", "says so in another's", "X-Authenticated-User: ana"),
    _believed("cloud-1", "says so in a cloud's words", "X-Goog-Authenticated-User-Email: ana"),
    _believed("cloud-2", "says so in another cloud's words", "X-Amzn-Oidc-Identity: ana"),
    _believed("cloud-3", "says so in a third cloud's words", "X-MS-Client-Principal-Name: ana"),
    _believed("spiffe", "says that it is a service", "X-Spiffe-Id: spiffe:ana"),
    _believed("own-words", "says so in the edge's own words", "X-Pegboard-Sub: ana"),
    _believed("cookie", "says so in a cookie", "Cookie: ana"),
    _believed(
        "method",
        "asks for another method",
        "X-HTTP-Method-Override: ana",
        "X-HTTP-Method: ana",
        "X-Method-Override: ana",
    ),
    _believed("path", "asks for another path", "X-Original-URL: /ana", "X-Rewrite-URL: /ana"),
)

IDENTITY = (
    Attack(
        "identity-alone",
        "identity",
        "sends the victim's identity headers and no token",
        Request(None, CLOSED, lines=ANA),
        (401,),
    ),
    Attack(
        "identity-own-token-elsewhere",
        "identity",
        "sends them with its own token for another server",
        Request(Token(ATTACKER, OPEN), CLOSED, lines=ANA),
        (401,),
    ),
    Attack(
        "identity-forged",
        "identity",
        "sends them with a forged token of the victim's",
        Request(Token(VICTIM, CLOSED, key="own"), CLOSED, lines=ANA),
        (401,),
    ),
    _lie("user-and-groups", "says that it is the victim", *ANA),
    _lie("groups", "says that it is in the victim's groups", 'X-Forwarded-Groups: ["ads-eng"]'),
    _lie(
        "groups-twice",
        "says its own groups and then the victim's",
        'X-Forwarded-Groups: ["search-eng"]',
        'X-Forwarded-Groups: ["ads-eng"]',
    ),
    _lie("groups-comma", "says the victim's groups in a list of names", "X-Forwarded-Groups: search-eng,ads-eng"),
    _lie("case", "spells the headers in odd case", 'x-FORWARDED-groups: ["ads-eng"]', "X-FORWARDED-USER: ana"),
    _lie(
        "underscore",
        "spells the headers with underscores",
        'X_Forwarded_Groups: ["ads-eng"]',
        "X_Forwarded_User: ana",
        answer=(400,),
    ),
    _lie("dots", "spells the headers with dots", 'X.Forwarded.Groups: ["ads-eng"]', "X.Forwarded.User: ana"),
    _lie(
        "folded",
        "folds the header into another's second line",
        'X-A: b\r\n X-Forwarded-Groups: ["ads-eng"]',
        answer=(400, 403),
    ),
    _lie("bare-cr", "puts the header behind a bare CR", 'X-A: b\rX-Forwarded-Groups: ["ads-eng"]', answer=(400, 403)),
    _lie("bare-lf", "puts the header behind a bare LF", 'X-A: b\nX-Forwarded-Groups: ["ads-eng"]', answer=(400, 403)),
    _lie(
        "nul", "puts a NUL into the header's name", 'X-Forwarded-Groups\0: ["ads-eng"]', answer=(400,), hopeless=_HTTP
    ),
    _lie(
        "space-before-colon",
        "puts a space before the colon",
        'X-Forwarded-Groups : ["ads-eng"]',
        answer=(400,),
        hopeless=_HTTP,
    ),
    _lie(
        "hop-by-hop",
        "has the edge's own headers taken away on the way",
        "Connection: close, x-forwarded-groups, x-forwarded-user, x-forwarded-surface",
        without=("connection",),
        answer=(403, 400),
    ),
    _lie(
        "hop-by-hop-authorization",
        "has the token taken away on the way, and says that it is the victim",
        "Connection: close, authorization",
        *ANA,
        without=("connection",),
        answer=(403, 401, 400),
    ),
    _lie(
        "remote-user",
        "says it in the words of other proxies",
        "Remote-User: ana",
        "X-Remote-User: ana",
        "X-Remote-Groups: ads-eng",
        "X-Auth-Request-User: ana",
        "X-Auth-Request-Groups: ads-eng",
        "X-WEBAUTH-USER: ana",
    ),
    _lie(
        "own-words",
        "says it in the edge's own words between filters",
        "X-Pegboard-Sub: ana",
        'X-Pegboard-Groups: ["ads-eng"]',
        "X-Pegboard-Surface: cli",
        "X-Pegboard-Claim-Sub: ana",
    ),
    _lie(
        "client-certificate",
        "forwards a certificate of the victim's",
        "X-Forwarded-Client-Cert: By=spiffe://example.org/edge;URI=spiffe://example.org/reporting;Subject=ana",
    ),
    _lie("impersonate", "asks to act for the victim", "Impersonate-User: ana", "X-Act-For: ana", "On-Behalf-Of: ana"),
    _lie(
        "second-authorization",
        "adds a token under other names",
        "Proxy-Authorization: Bearer x",
        "X-Authorization: Bearer x",
        "X-Access-Token: x",
        "X-Forwarded-Access-Token: x",
    ),
    _lie(
        "envoy",
        "speaks as another Envoy would",
        "X-Envoy-Internal: true",
        "X-Envoy-External-Address: 127.0.0.1",
        "X-Envoy-Original-Path: /mcp/prod/ledger",
        "X-Envoy-Decorator-Operation: x",
        "X-Envoy-Force-Trace: true",
    ),
    _lie(
        "mesh",
        "comes as from inside of the mesh",
        "X-Forwarded-For: 127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Forwarded: for=127.0.0.1;proto=https;by=edge",
        "X-Forwarded-Proto: https",
        "Via: 1.1 edge",
    ),
    _lie(
        "override-method",
        "has its method replaced",
        "X-HTTP-Method-Override: GET",
        "X-HTTP-Method: GET",
        "X-Method-Override: GET",
    ),
    _lie(
        "override-path",
        "has its path replaced",
        "X-Original-URL: /mcp/prod/ledger",
        "X-Rewrite-URL: /mcp/prod/ledger",
        "X-Forwarded-Path: /mcp/prod/ledger",
    ),
    _lie(
        "override-host",
        "has its host replaced",
        "X-Forwarded-Host: evil.example",
        "X-Host: evil.example",
        "Forwarded: host=evil.example",
    ),
    _lie("refused-none", "says itself that nothing was refused", "X-Pegboard-Refused: none"),
    _lie("expectation", "expects to be let in", "Expect: 100-continue, x-forwarded-user=ana", answer=(403, 417, 400)),
    _lie(
        "upgrade-h2c",
        "upgrades to HTTP/2 in the clear",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        without=("connection",),
        answer=(403, 400, 401),
    ),
    _lie(
        "upgrade-websocket",
        "upgrades to a WebSocket",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        without=("connection",),
        answer=(403, 400),
    ),
    Attack(
        "identity-own-lie-open",
        "identity",
        "says that it is the victim where it may call by itself",
        Request(lines=ANA),
        (200,),
        BOTH,
        OWN_LOOK,
    ),
    Attack(
        "origin-foreign",
        "closed",
        "comes from a page of another origin",
        Request(lines=("Origin: https://evil.example",)),
        (403,),
        SERVER,
    ),
    Attack(
        "origin-null",
        "closed",
        "comes from a page without an origin",
        Request(lines=("Origin: null",)),
        (403,),
        SERVER,
    ),
    Attack(
        "origin-suffix",
        "closed",
        "comes from an origin that begins like ours",
        Request(lines=("Origin: http://localhost:{port}.evil.example",)),
        (403,),
        SERVER,
    ),
    Attack(
        "host-foreign",
        "closed",
        "names another host (DNS rebinding)",
        Request(without=("host",), lines=("Host: evil.example",)),
        (421,),
        EDGE,
    ),
    Attack(
        "host-address",
        "closed",
        "names the host by its address",
        Request(without=("host",), lines=("Host: 127.0.0.1:{port}",)),
        (421,),
        EDGE,
    ),
    Attack("host-twice", "one-meaning", "names two hosts", Request(lines=("Host: evil.example",)), (400, 421), EDGE),
    Attack("host-none", "one-meaning", "names no host", Request(without=("host",)), (400,), EDGE),
    Attack(
        "host-absolute",
        "one-meaning",
        "names another host in the request line",
        Request(line="POST http://evil.example/mcp/prod/ledger HTTP/1.1"),
        (400, 421),
        EDGE,
    ),
    Attack("http-1.0", "one-meaning", "speaks HTTP/1.0", Request(version="HTTP/1.0"), (426, 400, 421), EDGE),
    Attack("http-0.9", "one-meaning", "speaks HTTP/0.9", Request(line="POST /mcp/prod/ledger"), (400, 426), EDGE),
    Attack(
        "http-3",
        "one-meaning",
        "says that it speaks HTTP/3.0",
        Request(version="HTTP/3.0"),
        (400, 426, 505),
        BOTH,
        hopeless=_HTTP,
    ),
)

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
    hopeless: str = _HTTP,
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
        "token": _OWN_CLOSED,
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


def _path(id_: str, sends: str, path: str, answer: tuple[int, ...] = (400, 404), hopeless: str = "") -> Attack:
    """A spelling of the closed server's path, with the attacker's own good token for the open one."""
    request = Request(Token(ATTACKER, OPEN), CLOSED, line=f"POST {path} HTTP/1.1")
    return Attack(f"path-{id_}", "one-meaning", sends, request, answer, BOTH, hopeless=hopeless)


_SAME = (401,)
"""The spelling is read as the closed server's path, whose audience the token has not."""

PATHS = (
    _path("dots", "climbs from its own server to another", "/mcp/prod/ledger/../atlas", _SAME),
    _path("dots-escaped", "climbs with escaped dots", "/mcp/prod/ledger/%2e%2e/atlas", _SAME),
    _path("dots-half-escaped", "climbs with one escaped dot", "/mcp/prod/ledger/.%2e/atlas", _SAME),
    _path("dots-escaped-twice", "climbs with dots that are escaped twice", "/mcp/prod/ledger/%252e%252e/atlas"),
    _path("dots-slash-escaped", "climbs with an escaped slash", "/mcp/prod/ledger/..%2fatlas", _SAME),
    _path("dots-slash-escaped-twice", "climbs with a slash that is escaped twice", "/mcp/prod/ledger/..%252fatlas"),
    _path("dots-backslash", "climbs with a backslash", "/mcp/prod/ledger/..\\atlas", (401, 400, 404)),
    _path(
        "dots-backslash-escaped", "climbs with an escaped backslash", "/mcp/prod/ledger/..%5catlas", (401, 400, 404)
    ),
    _path("dots-semicolon", "climbs behind a matrix parameter", "/mcp/prod/ledger/..;/atlas", (400, 401, 404)),
    _path(
        "dots-semicolon-only", "puts a matrix parameter into a part", "/mcp/prod/ledger;/../atlas", (401, 400, 404)
    ),
    _path("dots-overlong", "climbs with overlong UTF-8", "/mcp/prod/ledger/%c0%ae%c0%ae/atlas"),
    _path("dots-wide", "climbs with wide dots", "/mcp/prod/ledger/%ef%bc%8e%ef%bc%8e/atlas"),
    _path("dots-to-the-top", "climbs over the top", "/../../mcp/prod/atlas", (401, 400, 404)),
    _path("dot", "has a dot for a part", "/mcp/./prod/atlas", _SAME),
    _path("slash-double", "has two slashes", "/mcp//prod//atlas", _SAME),
    _path("slash-double-first", "begins with two slashes", "//mcp/prod/atlas", _SAME),
    _path("slash-escaped", "has an escaped slash", "/mcp/prod%2fatlas", _SAME),
    _path("slash-escaped-capital", "has an escaped slash in capitals", "/mcp/prod%2Fatlas", _SAME),
    _path("slash-escaped-twice", "has a slash that is escaped twice", "/mcp/prod%252fatlas"),
    _path("slash-wide", "has a wide slash", "/mcp/prod%ef%bc%8fatlas"),
    _path("slash-overlong", "has an overlong slash", "/mcp/prod%c0%afatlas"),
    _path("slash-trailing", "ends with a slash", "/mcp/prod/atlas/"),
    _path("dot-trailing", "ends with a dot", "/mcp/prod/atlas."),
    _path("dot-slash-trailing", "ends with a slash and a dot", "/mcp/prod/atlas/."),
    _path("backslash", "has a backslash for a slash", "/mcp/prod\\atlas", (401, 400, 404)),
    _path("case", "is in capitals", "/MCP/PROD/ATLAS"),
    _path("case-name", "has the server's name in capitals", "/mcp/prod/ATLAS", (404, 400)),
    _path("letter-escaped", "has an escaped letter", "/mcp/prod/%61tlas", (401, 400, 404)),
    _path("letter-accented", "has a letter with a combining accent", "/mcp/prod/a%cc%81tlas"),
    _path("nul", "ends with a NUL", "/mcp/prod/atlas%00"),
    _path("nul-raw", "ends with a NUL that is not escaped", "/mcp/prod/atlas\0", hopeless=_HTTP),
    _path("nul-then-own", "has a NUL before its own server", "/mcp/prod/atlas%00/../ledger", (400, 404, 200)),
    _path("space", "ends with an escaped space", "/mcp/prod/atlas%20"),
    _path("tab", "has a tab", "/mcp/prod/atlas%09"),
    _path("line-end", "has an escaped line end", "/mcp/prod/atlas%0d%0aX-Forwarded-User:%20ana"),
    _path("query", "has a query", "/mcp/prod/atlas?server=prod/ledger", (404, 401, 400)),
    _path("query-escaped", "has an escaped question mark", "/mcp/prod/atlas%3fx"),
    _path("fragment", "has a fragment", "/mcp/prod/atlas#/mcp/prod/ledger"),
    _path("matrix", "has a matrix parameter", "/mcp/prod/atlas;x=y"),
    _path("matrix-part", "has a matrix parameter in the namespace", "/mcp/prod;x=y/atlas"),
    _path("half-escape", "ends in half an escape", "/mcp/prod/atlas%2"),
    _path("bad-escape", "has an escape of no number", "/mcp/prod/%zzatlas"),
    _path("star", "asks for everything", "/mcp/prod/*"),
    _path("star-alone", "asks for the star", "*"),
    _path("absolute-own", "is a whole address", "http://localhost:{port}/mcp/prod/atlas", _SAME),
    _path(
        "absolute-scheme",
        "is a whole address of another scheme",
        "gopher://localhost/mcp/prod/atlas",
        (400, 421, 401),
    ),
    _path("userinfo", "has a name before the host", "http://ana@localhost:{port}/mcp/prod/atlas", (400, 421, 401)),
    _path("prefix", "goes on behind the server", "/mcp/prod/atlas/mcp/prod/ledger"),
    _path("probe", "asks for the server's own probe", "/mcp/prod/ledger/../../../healthz", (404, 405, 400)),
    _path("metrics", "asks for the server's own metrics", "/mcp/prod/ledger/metrics"),
    _path("internal", "asks for the hub's internal door", "/internal/v1/records", (404, 405)),
    _path("internal-escaped", "asks for it escaped", "/%69nternal%2fv1/records", (404, 405)),
    _path("admin", "asks for Envoy's administration", "/quitquitquit", (404, 405)),
    _path("admin-config", "asks for Envoy's configuration", "/config_dump", (404, 405)),
    Attack(
        "path-own-token-matches",
        "one-meaning",
        "has the victim's server behind its own in the path",
        Request(
            Token(ATTACKER, OPEN, {"aud": "{url}/mcp/prod/ledger/../atlas"}),
            CLOSED,
            line="POST /mcp/prod/ledger/../atlas HTTP/1.1",
        ),
        (401, 403),
        BOTH,
    ),
    Attack(
        "path-connect",
        "closed",
        "opens a tunnel",
        Request(line="CONNECT localhost:1 HTTP/1.1"),
        (400, 403, 404, 405),
        hopeless="no server opens tunnels",
    ),
    Attack(
        "path-trace",
        "closed",
        "asks for its own request back",
        Request(_OWN_CLOSED, CLOSED, verb="TRACE"),
        (400, 403, 404, 405),
        BOTH,
    ),
    Attack(
        "verb-lower",
        "one-meaning",
        "spells its method in small letters",
        Request(_OWN_CLOSED, CLOSED, verb="post"),
        (400, 403, 404, 405),
        BOTH,
        hopeless=_HTTP,
    ),
    Attack(
        "verb-unknown",
        "one-meaning",
        "has a method of its own",
        Request(_OWN_CLOSED, CLOSED, verb="BREW"),
        (400, 403, 404, 405),
        BOTH,
        hopeless=_HTTP,
    ),
    Attack("verb-put", "one-meaning", "puts", Request(verb="PUT"), (400, 404, 405), BOTH),
)

TABLE = (*IDENTITY, *BELIEVED, *FRAMINGS, *HTTP2, *PATHS)
