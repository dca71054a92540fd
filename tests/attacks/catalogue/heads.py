"""Heads of requests: identity that callers claim. Most ask for the closed server with lies about who asks."""

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

OF_HTTP = "HTTP's own parsers refuse it, the edge's and a server's"
"""Why some reach no layer of ours."""

OWN_CLOSED = Token(ATTACKER, CLOSED)
"""The attacker's own good token, for a server that is closed to it."""


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
    request = Request(OWN_CLOSED, CLOSED, lines=lines, **more)
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
        "nul",
        "puts a NUL into the header's name",
        'X-Forwarded-Groups\0: ["ads-eng"]',
        answer=(400,),
        hopeless=OF_HTTP,
    ),
    _lie(
        "space-before-colon",
        "puts a space before the colon",
        'X-Forwarded-Groups : ["ads-eng"]',
        answer=(400,),
        hopeless=OF_HTTP,
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
        hopeless=OF_HTTP,
    ),
)

TABLE = (*IDENTITY, *BELIEVED)
