"""One look at a server: what a call would meet at its socket, asked in one request that nothing can prolong.

The question is `GET /readyz` (`pegboard.core.readiness`); a server whose kit has none yet is asked `/healthz`. What
answers is an author's code: of its answer counts the status, and whether the body is one of the few known ones. No
word of it is passed on, nothing is followed, and nothing is read beyond `MOST_BYTES`.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import h11

from pegboard.core.readiness import HEALTH_PATH, OK, READY_PATH, UNREADY

TIMEOUT_S = 2.0
"""For the whole of one look: connecting, asking, and the answer."""

MOST_BYTES = 8 * 1024
"""Of an answer, head and body. A server's own has some 150."""

Kind = Literal["ok", "unready", "status", "timeout", "refused", "absent", "broken"]
"""How a look can end: well; not ready by its own word; another status or body; too slow; nobody took the connection;
no socket; no whole answer in HTTP."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class Look(NamedTuple):
    """What one look found.

    Attributes:
        kind: in one word.
        fault: what was wrong, as it goes on after "it"; empty when all is well. Never the server's own words.
        seconds: how long it took.
    """

    kind: Kind
    fault: str
    seconds: float


class _Answer(NamedTuple):
    status: int
    body: bytes


async def look(socket: Path, timeout_s: float = TIMEOUT_S) -> Look:
    """Look at the server behind `socket`. Never raises, and takes `timeout_s` seconds at most."""
    began = time.monotonic()
    kind, fault = await _look(socket, timeout_s)
    return Look(kind, fault, time.monotonic() - began)


async def _look(socket: Path, timeout_s: float) -> tuple[Kind, str]:
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _ask(socket, READY_PATH)
            if answer.status == 404:
                answer = await _ask(socket, HEALTH_PATH)
    except TimeoutError:
        return "timeout", f"timed out after {timeout_s:.0f} s"
    except FileNotFoundError:
        return "absent", "has no socket"
    except OSError:
        return "refused", "refused the connection"
    except (h11.RemoteProtocolError, _Broken):
        return "broken", "gave no whole answer"
    return _judged(answer)


def _judged(answer: _Answer) -> tuple[Kind, str]:
    said = _status(answer.body)
    if answer.status == 200 and said == OK:
        return "ok", ""
    if answer.status == 503 and said in UNREADY:
        return "unready", f"is not ready: {UNREADY[said]}"
    if answer.status == 200:
        return "status", "answered 200 with something else"
    return "status", f"answered {answer.status}"


def _status(body: bytes) -> str:
    with suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("status"), str):
            return str(document["status"])
    return ""


class _Broken(Exception):
    """The connection ended before the answer did, or the answer does not end."""


async def _ask(socket: Path, path: str) -> _Answer:
    reader, writer = await asyncio.open_unix_connection(socket, limit=MOST_BYTES)
    try:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_BYTES)
        headers = [("host", "localhost"), ("connection", "close"), ("accept-encoding", "identity")]
        request = http.send(h11.Request(method="GET", target=path, headers=headers))
        writer.write((request or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return await _answer(reader, http)
    finally:
        # Without waiting for the other side, which may never close.
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, http: h11.Connection) -> _Answer:
    status, body, size = 0, b"", 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(MOST_BYTES)
            size += len(data)
            if size > MOST_BYTES or (not data and not status):
                raise _Broken
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return _Answer(status, body)
