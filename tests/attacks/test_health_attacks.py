"""Servers that answer the prober with something else, and others who want to say how a server is doing.

Rules (decision 0026): an answer to the prober is an author's word, of which a status and a few known bodies count and
no text is passed on; a look takes two seconds and 8 KiB at most; health is told by the prober's own credential alone,
of servers that are there, in the prober's words.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.health.probe import look
from tests.folders import new_folder
from tests.hub.company import OPERATOR, Company, Hub, found_company, opened

pytestmark = pytest.mark.anyio

PROBER = "prober-token-of-the-test"
PRESTO = "prod/presto"
DOOR = "/internal/v1/health"
EVIL = "<script>alert(1)</script>\x1b[31m\u202egnp.exe"

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def socket() -> Iterator[Path]:
    folder = new_folder()
    yield folder / "mcp.sock"
    shutil.rmtree(folder)


@asynccontextmanager
async def serving(socket: Path, serve: Serve) -> AsyncIterator[list[bytes]]:
    """A server that does `serve` with every connection; what was sent to it."""
    asked: list[bytes] = []

    over = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(handle(reader, writer)))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await (over.wait() if serve is nothing else serve(writer))
        writer.close()

    server = await asyncio.start_unix_server(connected, socket)
    try:
        yield asked
    finally:
        over.set()
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        await server.wait_closed()


def says(head: str, body: bytes | str = b"") -> Serve:
    data = body.encode() if isinstance(body, str) else body

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data)
        await writer.drain()

    return serve


async def endless_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        writer.write(b'{"status":"ok"}' * 4096)
        await writer.drain()


async def endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-more: " + b"a" * 1000 + b"\r\n")
        await writer.drain()


async def endless_hints(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        await writer.drain()


async def a_byte_now_and_then(writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n" + b'{"status":"ok"}':
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def nothing(_: asyncio.StreamWriter) -> None:
    """It waits until the test is over."""


async def hangs_up(_: asyncio.StreamWriter) -> None:
    return


OK_BODY = '{"status":"ok"}'
NO = "HTTP/1.1 503 No\nconnection: close"
PACKED = b"\x1f\x8b\x08\x00"
OTHER = "answered 200 with something else"
HEAD = "HTTP/1.1 200 OK\ncontent-length: "

HOSTILE: dict[str, tuple[Serve, str]] = {
    "a body without end": (endless_body, "gave no whole answer"),
    "a head without end": (endless_head, "gave no whole answer"),
    "hints without end": (endless_hints, "gave no whole answer"),
    "a huge promise": (says(f"{HEAD}99999999999", OK_BODY), "gave no whole answer"),
    "a byte now and then": (a_byte_now_and_then, "timed out after 2 s"),
    "silence": (nothing, "timed out after 2 s"),
    "hanging up": (hangs_up, "gave no whole answer"),
    "another protocol": (says("SSH-2.0-OpenSSH_9.9"), "gave no whole answer"),
    "markup as a status line": (says(f"HTTP/1.1 200 {EVIL}\ncontent-length: 2", "{}"), OTHER),
    "a status of its own": (says("HTTP/1.1 999 Fine\ncontent-length: 0"), "answered 999"),
    "a redirect": (says("HTTP/1.1 302 Go\nlocation: http://127.0.0.1:22/\ncontent-length: 0"), "answered 302"),
    "a redirect to a socket": (
        says("HTTP/1.1 307 Go\nlocation: file:///etc/passwd\ncontent-length: 0"),
        "answered 307",
    ),
    "well, and more": (says(f"{HEAD}2", "[]"), "answered 200 with something else"),
    "another body": (says(f"{HEAD}18", '{"status":"great"}'), "answered 200 with something else"),
    "text as a reason": (
        says(NO, json.dumps({"status": EVIL})),
        "answered 503",
    ),
    "a word for every attribute": (
        says("HTTP/1.1 503 No\nconnection: close", '{"status":"__class__"}'),
        "answered 503",
    ),
    "deep nesting": (says(NO, "[" * 4000), "answered 503"),
    "a packed body": (
        says(f"{HEAD}4\ncontent-encoding: gzip", b"\x1f\x8b\x08\x00"),
        "answered 200 with something else",
    ),
    "two lengths": (says(f"{HEAD}15\ncontent-length: 16", OK_BODY), "gave no whole answer"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_costs_two_seconds_at_most_and_no_word_of_it_is_passed_on(
    socket: Path, name: str
) -> None:
    serve, fault = HOSTILE[name]
    began = time.monotonic()
    async with serving(socket, serve) as asked:
        found = await look(socket)
    # What it is given up after is in its fault; by itself it would go on for ten seconds, or for ever.
    assert time.monotonic() - began < 9.5
    assert found.fault == fault
    assert found.kind != "ok"
    assert len(asked) == 1, "nothing is followed"


async def test_a_look_says_nothing_of_anybody(socket: Path) -> None:
    async with serving(socket, says(f"{HEAD}15", OK_BODY)) as asked:
        assert (await look(socket)).kind == "ok"
    assert asked == [
        b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept-encoding: identity\r\n\r\n"
    ]


def test_a_file_where_a_socket_should_be_is_no_socket(socket: Path) -> None:
    socket.write_text("not one")
    assert asyncio.run(look(socket)).fault == "refused the connection"
    socket.unlink()
    socket.symlink_to("/dev/zero")
    assert asyncio.run(look(socket)).fault == "refused the connection"


# The door.


@pytest.fixture
async def hub() -> AsyncIterator[tuple[Hub, Company]]:
    root = new_folder()
    company = found_company(root)
    company.home.prober_digest.write_text(hashlib.sha256(PROBER.encode()).hexdigest())
    async with opened(company) as found:
        yield found, company
    shutil.rmtree(root)


def claim(server: str = PRESTO, **changes: Any) -> dict[str, Any]:
    at_ms = int(time.time() * 1000)
    return {"transitions": [{"server": server, "state": "live", "at_ms": at_ms, "why": "", **changes}]}


async def tell(hub: Hub, report: Any, token: str | None = PROBER) -> int:
    headers = {"authorization": f"Bearer {token}".encode()} if token is not None else {}
    content = report if isinstance(report, (str, bytes)) else json.dumps(report)
    return (await hub.internal.post(DOOR, content=content, headers=headers)).status_code


async def test_nobody_but_the_prober_tells_health(hub: tuple[Hub, Company]) -> None:
    found, company = hub
    company.home.scrape_digest.write_text(hashlib.sha256(b"scrape").hexdigest())
    digest = company.home.prober_digest.read_text()
    own = company.open_channel(PRESTO, "r" * 64)
    person = await found.token("ana")
    for token in (own, OPERATOR, "scrape", digest, person, "", " ", "x" * 100_000, "ü", None):
        assert await tell(found, claim(), token) == 401
    assert (
        await found.public.post(DOOR, json=claim(), headers={"authorization": f"Bearer {PROBER}"})
    ).status_code in (
        404,
        405,
    )
    assert await found.parts.health.history(PRESTO, None, 10) == []
    assert found.parts.health.word().standing == "awaited"


async def test_without_a_credential_of_the_prober_the_door_is_shut(hub: tuple[Hub, Company]) -> None:
    found, company = hub
    for left in ("", "\n"):
        company.home.prober_digest.write_text(left)
        for token in (PROBER, ""):
            assert await tell(found, claim(), token) == 401
    company.home.prober_digest.unlink()
    assert await tell(found, claim()) == 401


async def test_the_probers_credential_opens_nothing_else(hub: tuple[Hub, Company]) -> None:
    found, _ = hub
    headers = {"authorization": f"Bearer {PROBER}"}
    for method, path in (
        ("POST", "/internal/v1/records"),
        ("POST", "/internal/v1/edge/refusals"),
        ("GET", "/internal/v1/grants"),
        ("GET", "/internal/v1/prober"),
        ("GET", "/internal/v1/registry/taken?server=prod/one&release=0"),
    ):
        answer = await found.internal.request(
            method, path, json={"records": []} if method == "POST" else None, headers=headers
        )
        assert answer.status_code == 401, path
    assert (await found.public.get("/api/v1/servers", headers=headers)).status_code == 401
    assert (await found.public.get("/metrics", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "report",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        {"more": 1},
        {"transitions": {}},
        claim(state="splendid"),
        claim(state=["live"]),
        claim(at_ms=-1),
        claim(at_ms=1 << 70),
        claim(at_ms="soon"),
        claim(why="x" * 1000),
        claim(why=EVIL),
        claim(why="two\nlines"),
        claim(server="x" * 1000),
        {"looks": {"fine": 1}},
        {"looks": {"ok": -1}},
        {"checked": {PRESTO: "now"}},
        {"seconds": ["NaN?"]},
        {"oldest_ms": -5},
    ],
    ids=lambda report: re.sub(r"\d{9,}", "NOW", str(report))[:80],  # the same for every worker that collects it
)
async def test_a_report_that_is_none_is_refused_and_nothing_of_it_kept(hub: tuple[Hub, Company], report: Any) -> None:
    found, _ = hub
    assert await tell(found, report) in (400, 422)
    assert found.parts.health.word().standing == "awaited"


async def test_of_servers_that_are_not_there_and_of_times_to_come_nothing_is_kept(hub: tuple[Hub, Company]) -> None:
    found, _ = hub
    ahead = int(time.time() * 1000) + 3_600_000
    for each in (claim("prod/nothing"), claim("../../etc"), claim("PROD/presto"), claim(at_ms=ahead)):
        assert await tell(found, each) == 200
    assert found.parts.health.word().servers == {}
    assert await found.parts.health.history(PRESTO, None, 10) == []


async def test_a_reason_is_shown_as_text(hub: tuple[Hub, Company]) -> None:
    found, company = hub
    now = time.time()
    process = {"name": PRESTO, "state": "live", "since": now}
    company.report(at=now, isolation={"mode": "off"}, processes=[process])
    assert await tell(found, claim(state="down", why="<script>alert(1)</script>")) == 200
    page = await found.page(**{"as": "ana"})
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
