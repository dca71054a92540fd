"""Servers of the attacker's: what they answer must speak for nobody else, and hold up nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.attacks.catalogue.attack import (
    ATTACKER,
    BOTH,
    EDGE,
    HOSTILE,
    LOOK,
    OPEN,
    VICTIM,
    Attack,
    Held,
    Request,
    Seen,
    Token,
    mark,
)

if TYPE_CHECKING:
    from tests.attacks.catalogue.stand import Door, Stand


_VICTIMS = Request(Token(VICTIM, HOSTILE), HOSTILE)


def _hostile(
    id_: str,
    does: str,
    answer: bytes | Callable[[bytes], bytes],
    forbidden: str,
    held: Held = EDGE,
    status: tuple[int, ...] = (200, 302, 401, 502, 503, 504),
    body: str = "",
    request: Request = _VICTIMS,
    ends: bool = False,
) -> Attack:
    """A call of the attacker's server by the victim; what it answers must not reach the victim's client.

    Args:
        id_: behind `hostile-`.
        does: what the server does, in words.
        answer: its bytes, or what makes them of the request's head.
        forbidden: a pattern that must be in no head of the answer; of `body`, in no part of it.
        held: by the edge, or by both where HTTP itself refuses it.
        status: that the victim may see.
        body: likewise, of the whole answer.
        request: of the victim's.
        ends: whether a server may leave its answer unfinished.
    """

    def play(stand: Stand, door: Door) -> Seen:
        async def misbehave(head: bytes, _: bytes, writer: Any) -> None:
            writer.write(answer(head) if callable(answer) else answer)
            await writer.drain()

        stand.hostile = misbehave
        seen = stand.send(door, replace(request, ends=ends and door.by == "nothing"))
        head = seen.text.partition("\r\n\r\n")[0]
        found = [match[0] for match in re.finditer(forbidden, head, re.IGNORECASE)] if forbidden else []
        found += [match[0] for match in re.finditer(body, seen.text, re.IGNORECASE)] if body else []
        return Seen(seen.status, "", tuple(f"reached the caller: {each}" for each in found))

    return Attack(f"hostile-{id_}", "authors", f"a server {does}", play, status, held)


def _ok(*lines: str, body: bytes = b"{}", status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def _poisons_the_next(stand: Stand, door: Door) -> Seen:
    """An answer too many on the edge's connection to the server, which the next caller's request would meet."""
    extra = _ok("x-of: the attacker", body=b'{"for": "the next caller"}')

    async def twice(head: bytes, _: bytes, writer: Any) -> None:
        writer.write(_ok() + extra)
        await writer.drain()

    async def once(head: bytes, _: bytes, writer: Any) -> None:
        writer.write(_ok(body=b'{"mine": 1}'))
        await writer.drain()

    stand.hostile = twice
    stand.send(door, Request(Token(ATTACKER, HOSTILE), HOSTILE))
    stand.hostile = once
    found = [stand.send(door, Request(Token(VICTIM, HOSTILE), HOSTILE)) for _ in range(4)]
    strange = [seen.text for seen in found if "for the next caller" in seen.text.replace('"', "").replace(":", "")]
    return Seen(found[-1].status, "", ("the next caller got another's answer",) if strange else ())


def _never_ends(stand: Stand, door: Door) -> Seen:
    """A server that speaks for ever ends its own callers' patience, and nobody else's."""

    async def drip(head: bytes, _: bytes, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"5\r\n: x\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    stand.hostile = drip
    with stand.connected(door, _VICTIMS) as kept:
        kept.sendall(stand.bytes_of(door, _VICTIMS))
        kept.recv(100)
        other = stand.send(door, Request(Token(VICTIM, OPEN)))
    held_up = () if "for ana" in other.text else ("another server's caller got no answer",)
    return Seen(other.status, "", held_up)


TABLE = (
    _hostile(
        "head-large", "answers with a head of 200 kB", _ok("x-large: " + "x" * 200_000), r"x-large", status=(502,)
    ),
    _hostile(
        "head-many", "answers with 2,000 headers", _ok(*(f"x-{n}: y" for n in range(2_000))), r"x-1999", status=(502,)
    ),
    Attack(
        "hostile-endless",
        "abuse",
        "a server never ends its answer",
        _never_ends,
        (200,),
        BOTH,
        frozenset({mark(OPEN, LOOK, VICTIM)}),
        hopeless="each server is a process of its own",
    ),
    _hostile(
        "cookie",
        "sets a cookie on the instance's origin",
        _ok("set-cookie: pegboard_session=stolen; Path=/"),
        r"set-cookie[^\r]*",
    ),
    _hostile(
        "cookie-case",
        "sets it under another spelling",
        _ok("SET-COOKIE: a=b", "Set-Cookie2: a=b"),
        r"set-cookie[^\r]*",
    ),
    _hostile(
        "redirect",
        "sends callers, and the token with them, elsewhere",
        _ok("location: https://evil.example/", status="307 Temporary Redirect"),
        r"location:[^\r]*",
        status=(502, 307),
    ),
    _hostile(
        "sign-in-elsewhere",
        "asks for a sign-in at the attacker's",
        _ok('www-authenticate: Bearer resource_metadata="https://evil.example/x"', status="401 Unauthorized"),
        r"evil\.example",
    ),
    _hostile("refresh", "has browsers go elsewhere", _ok("refresh: 0;url=https://evil.example"), r"refresh:[^\r]*"),
    _hostile(
        "clear-site-data", "has browsers forget their sessions", _ok('clear-site-data: "*"'), r"clear-site-data[^\r]*"
    ),
    _hostile(
        "hsts",
        "has browsers forget that TLS is wanted",
        _ok("strict-transport-security: max-age=0"),
        r"strict-transport-security[^\r]*",
    ),
    _hostile(
        "cors",
        "opens itself to pages of every origin",
        _ok("access-control-allow-origin: *", "access-control-allow-credentials: true"),
        r"access-control[^\r]*",
    ),
    _hostile("alt-svc", "names another host for the origin", _ok('alt-svc: h3="evil.example:443"'), r"alt-svc[^\r]*"),
    _hostile(
        "reporting",
        "has browsers report to the attacker",
        _ok('report-to: {"endpoints":[{"url":"https://evil.example"}]}', "nel: {}"),
        r"(report-to|nel):[^\r]*",
    ),
    _hostile(
        "service-worker",
        "lets a script answer for the whole origin",
        _ok("service-worker-allowed: /"),
        r"service-worker[^\r]*",
    ),
    _hostile(
        "page",
        "answers a browser with a page on the instance's origin",
        _ok(body=b"<script>alert(1)</script>").replace(b"application/json", b"text/html"),
        r"text/html",
        request=Request(None, HOSTILE, verb="GET", lines=("Sec-Fetch-Mode: navigate",)),
    ),
    _hostile(
        "refusal",
        "says that the edge refused",
        _ok("x-pegboard-refused: person_stopped"),
        r"x-pegboard-refused[^\r]*",
    ),
    _hostile("request-id", "names the request by another id", _ok("x-request-id: chosen"), r"chosen"),
    _hostile("header-nul", "has a NUL in a header", _ok("x-a: b\0c"), r"b\0c", EDGE),
    _hostile(
        "header-cr",
        "splits its answer with a bare CR",
        _ok("x-a: b\rset-cookie: a=b"),
        r"(?m)(^|\r)set-cookie[^\r]*",
        EDGE,
    ),
    _hostile("header-space", "has a space in a header's name", _ok("set cookie : a=b"), r"set cookie", EDGE),
    _hostile("two-lengths", "says two lengths", _ok("content-length: 5"), "", EDGE, (502,), body=r"\{\}"),
    _hostile(
        "length-and-chunks",
        "says a length and chunks",
        _ok("transfer-encoding: chunked"),
        "",
        EDGE,
        (502, 200),
        body=r"\{\}\Z",
    ),
    _hostile(
        "switch",
        "switches to another protocol",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw",
        "",
        EDGE,
        (502, 503, 101),
        body=r"\braw\b",
        ends=True,
    ),
    _hostile(
        "early-hints",
        "sends early hints to load from elsewhere",
        b"HTTP/1.1 103 Early Hints\r\nlink: <https://evil.example>; rel=preload\r\n\r\n" + _ok(),
        r"evil\.example",
        EDGE,
        ends=True,
    ),
    _hostile(
        "no-http", "speaks no HTTP", b"220 mail.example ESMTP\r\n\r\n", "", EDGE, (502,), body=r"ESMTP", ends=True
    ),
    Attack(
        "hostile-next-caller",
        "authors",
        "a server sends an answer too many, for the next caller",
        _poisons_the_next,
        (200,),
        BOTH,
        hopeless="the edge closes such a connection, with rules or without",
    ),
)
