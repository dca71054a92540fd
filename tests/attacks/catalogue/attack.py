"""What an attack is: a row that says which promise it tests, what is sent, and what may come of it.

A request is told by what is odd about it; everything else is as an honest client would send it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tests.attacks.catalogue.stand import Door, Stand

Held = Literal["both", "edge", "server"]
"""Who holds an attack off: each layer by itself, or one alone, because the other cannot know."""

BOTH: Held = "both"
EDGE: Held = "edge"
SERVER: Held = "server"

OPEN, CLOSED, HOSTILE = "prod/ledger", "prod/atlas", "dev/atlas"
"""A server whose tool `look` the attacker may call, one that is not granted to the attacker, and one whose code is
the attacker's own."""

ATTACKER, VICTIM, STOPPED = "mal", "ana", "sue"
"""Who attacks; whose rights are worth having: the victim may call everything; and who is stopped, with the same."""

REPORTING, BATCH = "spiffe://example.org/reporting", "spiffe://example.org/batch"
"""A service that is granted the open server, and the closed one in vain; and one that is granted nothing."""

LOOK, HIDDEN, WRITE, HALTED, ABSENT = "look", "crown_jewels", "amend", "halted", "no_such_tool"
"""Tools of each server: for all who may use it; hidden from the attacker; one that changes something; one that is
stopped; and one that does not exist."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, by what is odd about it.

    Attributes:
        who: a person, or the SPIFFE ID of a service.
        server: for which it is; `api` for the API.
        claims: in the place of the usual ones; None leaves one out. `{url}` is the origin, `{port}` its port,
            `{now}` the time: an integer where it stands first, with what is added to it.
        header: likewise, of the JOSE header.
        key: whose signature: the hub's own, the attacker's, or that of the hub's bundles.
        made: makes the text out of the stand, the header and the claims, where it is not an ordinary JWS.
    """

    who: str = VICTIM
    server: str = CLOSED
    claims: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    key: Literal["hub", "own", "bundle"] = "hub"
    made: Callable[[Stand, dict[str, Any], dict[str, Any]], str] | None = None


OWN = Token(ATTACKER, OPEN)

ACTED: dict[str, Any] = {"act": {"sub": "pegboard-cli"}}
"""Says of a token that its own client acts for the person, as every token of a bot must."""
"""The attacker's own good token for the server that the attacker may use."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, by what is odd about it.

    Attributes:
        token: None sends none.
        server: at whose path.
        tool: that is called.
        path: in the place of the server's.
        verb: HTTP's method.
        version: of HTTP: `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
        line: the whole request line.
        without: names of usual headers that are left out.
        lines: further header lines, as they are (HTTP/2: `name: value`).
        body: in the place of the call; `{call}` in it is the call.
        message: changes of the message that the body is made of.
        era: which revision of MCP it speaks; `legacy` opens a session of its own first.
        framed: whether a length is sent.
        session: whose session it names: a person's, or as it is, behind `=`.
        behind: bytes that follow on the connection.
        trailers: header lines behind the body (HTTP/2).
        ends: whether it may be ended without an answer, so that nobody need wait long for one.
        certificate: SPIFFE ID of the service whose certificate is shown, on the listener for services.
    """

    token: Token | str | None = OWN
    server: str = OPEN
    tool: str = LOOK
    path: str = ""
    verb: str = "POST"
    version: str = "HTTP/1.1"
    line: str = ""
    without: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    body: bytes | None = None
    message: Mapping[str, Any] = field(default_factory=dict)
    era: Literal["modern", "legacy"] = "modern"
    framed: bool = True
    session: str = ""
    behind: bytes = b""
    trailers: tuple[str, ...] = ()
    ends: bool = False
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back: a status (0: none), all bytes as text, and what leaked besides, in words."""

    status: int
    text: str
    leaks: tuple[str, ...] = ()


Play = Callable[["Stand", "Door"], Seen]
"""An attack of several steps."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the catalogue.

    Attributes:
        id: its name, for good.
        promise: the one it tests, a key of `promises.PROMISES`.
        sends: what is sent, in words.
        how: the request, or the play.
        answer: statuses that may come back where both layers are whole; 0: the connection just ends.
        held: by which layers.
        may: marks of canaries that may sing: what the attacker may have anyway.
        hopeless: why not even a server without any layer would run it; empty where it would.
    """

    id: str
    promise: str
    sends: str
    how: Request | Play
    answer: tuple[int, ...]
    held: Held = BOTH
    may: frozenset[str] = frozenset()
    hopeless: str = ""


def mark(server: str, tool: str, sub: str) -> str:
    """What a canary says, and notes, when it runs for somebody."""
    return f"canary of {server} {tool} for {sub}"


OWN_LOOK = frozenset({mark(OPEN, LOOK, ATTACKER)})
"""What the attacker may have anyway."""
