"""What people learn of each other, and of tools that are hidden from them: lists, answers, and how long they take."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.attacks.catalogue.attack import (
    ABSENT,
    ATTACKER,
    BOTH,
    HIDDEN,
    LOOK,
    OPEN,
    SERVER,
    VICTIM,
    Attack,
    Held,
    Play,
    Request,
    Seen,
    Token,
    mark,
)
from tests.attacks.catalogue.stand import Door, Stand, is_whole


def _list(
    id_: str,
    sends: str,
    held: Held = SERVER,
    answer: tuple[int, ...] = (200,),
    method: str = "tools/list",
    hopeless: str = "",
    **more: Any,
) -> Attack:
    gone = ("mcp-name", *more.pop("gone", ()))
    may = frozenset({mark(OPEN, "list", ATTACKER)})
    request = Request(message={"method": method, **more.pop("message", {})}, without=gone, **more)
    return Attack(f"list-{id_}", "hidden", sends, request, answer, held, may, hopeless)


def _behind_the_victim(stand: Stand, door: Door) -> Seen:
    """One connection, as from behind one proxy: the victim's list, and then the attacker's."""
    victim = Request(Token(VICTIM, OPEN), message={"method": "tools/list"}, without=("mcp-name", "connection"))
    own = Request(message={"method": "tools/list"}, without=("mcp-name", "connection"))
    last = b""
    with stand.connected(door, victim) as connection:
        for request in (victim, own):
            connection.sendall(stand.bytes_of(door, request))
            last = _one(connection)
    text = last.decode("utf-8", "replace")
    return Seen(200, text, (f"came out: the name of {HIDDEN}",) if HIDDEN in text else ())


def _one(connection: socket.socket) -> bytes:
    found = b""
    while not is_whole(found) and (part := connection.recv(65536)):
        found += part
    return found


def _crossed(stand: Stand, door: Door) -> Seen:
    """Many at once, each for itself: nobody gets another's answer."""
    requests = [Request(Token(who, OPEN)) for who in (VICTIM, ATTACKER) * 12]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda request: stand.send(door, request), requests))
    strange = [
        f"{request.token.who} got another's answer"  # type: ignore[union-attr]
        for request, seen in zip(requests, answers, strict=True)
        if f"for {request.token.who}" not in seen.text  # type: ignore[union-attr]
    ]
    return Seen(200, "", tuple(strange))


def _same(*requests: Callable[[str], Request]) -> Play:
    """Hidden and unknown, asked the same way: the answers differ in the name alone."""

    def play(stand: Stand, door: Door) -> Seen:
        found = []
        for request in requests:
            pair = []
            for name in (HIDDEN, ABSENT):
                seen = stand.send(door, request(name))
                text = re.sub(
                    r"(?i)(x-request-id|date|content-length|mcp-session-id): [^\r]*",
                    "",
                    seen.text.replace(name, "TOOL"),
                )
                pair.append(re.sub(r'"request_id": ?"[^"]*"|[0-9a-f]+\r\n\{', "", text))
            if pair[0] != pair[1]:
                found.append(f"told apart: {pair}")
        return Seen(200, "", tuple(found))

    return play


def _asked(era: Any, **params: Any) -> Callable[[str], Request]:
    return lambda name: Request(tool=name, era=era, message={"params": params})


ROUNDS, CALLS, SHUFFLES = 3, 120, 400
TOLD_APART = 0.005
"""How unlikely a difference in time must be by chance, in each of the rounds, before we say that there is one."""


def by_chance(stand: Stand, door: Door, tools: tuple[str, str]) -> float:
    """How likely a difference as large as the one between two tools' times is by chance (a permutation test).

    What a busy machine adds to a call is never below zero, so the quicker calls of each are compared.
    """
    took: dict[str, list[float]] = {tool: [] for tool in tools}
    order = [tool for tool in tools for _ in range(CALLS)]
    shuffled = random.Random(CALLS)  # noqa: S311 - an order, not a secret
    shuffled.shuffle(order)
    requests = {tool: Request(tool=tool, without=("connection",)) for tool in tools}
    with stand.connected(door, requests[tools[0]]) as connection:
        for tool in order:
            sent = stand.bytes_of(door, requests[tool])
            began = time.perf_counter()
            connection.sendall(sent)
            _one(connection)
            took[tool].append(time.perf_counter() - began)
    seen, both = _apart(took[tools[0]], took[tools[1]]), [*took[tools[0]], *took[tools[1]]]
    larger = 0
    for _ in range(SHUFFLES):
        shuffled.shuffle(both)
        larger += _apart(both[:CALLS], both[CALLS:]) >= seen
    return larger / SHUFFLES


def _apart(first: list[float], second: list[float]) -> float:
    """How far the quicker fifth of one is from that of the other, in seconds."""
    fifth = CALLS // 5
    return abs(sum(sorted(first)[:fifth]) - sum(sorted(second)[:fifth])) / fifth


def _by_time(stand: Stand, door: Door) -> Seen:
    chances: list[float] = []
    while len(chances) < ROUNDS:
        chances.append(by_chance(stand, door, (HIDDEN, ABSENT)))
        if chances[-1] >= TOLD_APART:
            return Seen(200, "")
    return Seen(200, "", (f"told apart by time: {chances}",))


TABLE = (
    _list("tools", "lists the tools"),
    _list("tools-legacy", "lists the tools in the older revision", era="legacy"),
    _list("cursor", "lists the tools from a cursor of its own", message={"params": {"cursor": "0"}}),
    _list(
        "cached",
        "asks for a list that somebody may have cached",
        lines=(
            "Cache-Control: only-if-cached",
            "If-None-Match: *",
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        ),
    ),
    _list("range", "asks for a part of a list", lines=("Range: bytes=0-10000",)),
    _list(
        "meta",
        "lists and says in `_meta` that it is the victim",
        message={
            "params": {
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
                    "pegboard.dev/caller": {"sub": "ana", "groups": ["ads-eng"]},
                }
            }
        },
    ),
    Attack(
        "list-behind-victim",
        "hidden",
        "lists behind the victim on one connection",
        _behind_the_victim,
        (200,),
        SERVER,
        frozenset({mark(OPEN, "list", VICTIM), mark(OPEN, "list", ATTACKER)}),
    ),
    Attack(
        "answers-crossed",
        "bound",
        "calls while the victim calls, a dozen times at once",
        _crossed,
        (200,),
        BOTH,
        frozenset({mark(OPEN, LOOK, VICTIM), mark(OPEN, LOOK, ATTACKER)}),
        hopeless="each server answers who asks",
    ),
    Attack(
        "hidden-same-answer",
        "hidden",
        "compares the answers of a hidden and an unknown tool",
        _same(
            _asked("modern"),
            _asked("legacy"),
            _asked("modern", arguments={"x": 1}),
            _asked("legacy", arguments=None),
            _asked("modern", arguments=[]),
            _asked("legacy", task={"ttl": 1}),
        ),
        (200,),
        SERVER,
    ),
    Attack(
        "hidden-same-time", "hidden", "compares how long both take, over hundreds of calls", _by_time, (200,), SERVER
    ),
)
