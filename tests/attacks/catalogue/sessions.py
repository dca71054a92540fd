"""Sessions of the older revision: stolen, guessed, chosen and ended by others."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.attacks.catalogue.attack import (
    ACTED,
    ATTACKER,
    BOTH,
    OPEN,
    REPORTING,
    SERVER,
    VICTIM,
    Attack,
    Request,
    Seen,
    Token,
    mark,
)

if TYPE_CHECKING:
    from tests.attacks.catalogue.stand import Door, Stand


def _session(
    id_: str, sends: str, token: Token, answer: tuple[int, ...] = (404,), session: str = VICTIM, **more: Any
) -> Attack:
    request = Request(token, OPEN, era="legacy", session=session, **more)
    return Attack(f"session-{id_}", "bound", sends, request, answer, SERVER)


_PING = {"method": "ping", "params": {}}


def _ended_by_thief(stand: Stand, door: Door) -> Seen:
    session = stand.opened_session(door, Token(VICTIM, OPEN), OPEN)
    thief = stand.send(door, Request(era="legacy", session=f"={session}", verb="DELETE"))
    after = stand.send(door, Request(Token(VICTIM, OPEN), era="legacy", session=f"={session}", message=_PING))
    return Seen(thief.status, thief.text, () if after.status == 200 else ("the victim's session has ended",))


def _chosen(stand: Stand, door: Door) -> Seen:
    """Session fixation: the attacker opens a session under an id that the victim would be given."""
    opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}).encode()
    seen = stand.send(door, Request(era="legacy", session="=chosen", body=body))
    found = re.search(r"mcp-session-id: (\S+)", seen.text, re.IGNORECASE)
    return Seen(seen.status, seen.text, ("its own id was taken",) if found and found[1] == "chosen" else ())


TABLE = (
    _session("stolen", "calls in the victim's session", Token(ATTACKER, OPEN)),
    _session("stolen-stream", "opens the stream of the victim's session", Token(ATTACKER, OPEN), verb="GET"),
    Attack(
        "session-ended",
        "bound",
        "ends the victim's session",
        _ended_by_thief,
        (404,),
        SERVER,
        frozenset({mark(OPEN, "GET of nothing", VICTIM), mark(OPEN, "POST of nothing", VICTIM)}),
    ),
    _session("stolen-ping", "pings in the victim's session", Token(ATTACKER, OPEN), message=_PING),
    _session(
        "other-surface", "uses the victim's session from another surface", Token(VICTIM, OPEN, {"surface": "ide"})
    ),
    _session(
        "other-client", "uses the victim's session from another client", Token(VICTIM, OPEN, {"client_id": "x"})
    ),
    _session(
        "bot",
        "uses the victim's session from a bot",
        Token(VICTIM, OPEN, {"surface": "bot", "channel": "airflow", **ACTED}),
    ),
    _session(
        "service", "uses the victim's session as a service", Token(REPORTING, OPEN), (403, 404), certificate=REPORTING
    ),
    _session("guessed", "calls in a session that it guessed", Token(ATTACKER, OPEN), session="=" + "0" * 32),
    _session(
        "long",
        "calls in a session with a name of 10,000 letters",
        Token(ATTACKER, OPEN),
        (404, 400),
        session="=" + "a" * 10_000,
    ),
    _session("path", "calls in a session with a path for a name", Token(ATTACKER, OPEN), (404, 400), session="=../x"),
    Attack(
        "session-chosen",
        "bound",
        "opens a session under an id of its own",
        _chosen,
        (200, 400, 404),
        BOTH,
        frozenset({mark(OPEN, "POST of nothing", ATTACKER)}),
        hopeless="ids are the server's to give",
    ),
    _session(
        "cancel",
        "cancels what runs in the victim's session",
        Token(ATTACKER, OPEN),
        message={"method": "notifications/cancelled", "params": {"requestId": 1}},
    ),
)
