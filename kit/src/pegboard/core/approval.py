"""Approvals: the words that a server and the hub share, and what an approval is bound to.

A server that must not run a call yet asks the hub at its internal door (`ASK`). The hub finds the request by what it
is bound to, or makes one; where a person has said yes, the same answer claims it for this one call. The hub decides
with its own clock, and takes person and release from the token and the channel, never from the server's word.

    requested ─┬─ approved ──┬─ claimed ───┬─ done
               ├─ rejected   ├─ expired    ├─ failed
               ├─ expired    └─ withdrawn  └─ unknown
               └─ withdrawn
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field

ASK: Final = "/internal/v1/approvals/ask"
OVER: Final = "/internal/v1/approvals/over"

APPROVAL_KEY: Final = "pegboard.dev/approval"
"""Key under `_meta` of a result that ran with less than was asked for."""

CALLER: Final = "caller"
"""Who approves: the person the call is for, in their own browser."""

OWNER: Final = "owner"
"""Who approves: the team that owns the server. Any other word is the name of a business group."""

SHORTEST_S: Final = 60
LONGEST_S: Final = 7 * 24 * 3600
USUAL_S: Final = 60 * 60
"""Seconds from the request within which it must be decided *and* claimed."""

LONGEST_WAIT_S: Final = 50.0
"""Seconds for which the hub holds an `Ask` open until somebody decides."""

MOST_ACTIONS: Final = 100
LONGEST_ARGUMENTS: Final = 256 * 1024
"""Bytes of one action's canonical arguments."""

_STRICT: Final = ConfigDict(extra="forbid", frozen=True, str_max_length=LONGEST_ARGUMENTS)


class State(StrEnum):
    """Where a request is in its life. `REQUESTED` and `APPROVED` are open; what follows `CLAIMED` is how it ended."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.REQUESTED: frozenset({State.APPROVED, State.REJECTED, State.EXPIRED, State.WITHDRAWN}),
    State.APPROVED: frozenset({State.CLAIMED, State.EXPIRED, State.WITHDRAWN}),
    State.CLAIMED: frozenset({State.DONE, State.FAILED, State.UNKNOWN}),
    # An outcome that a server brings late is the truth all the same.
    State.UNKNOWN: frozenset({State.DONE, State.FAILED}),
    State.REJECTED: frozenset(),
    State.EXPIRED: frozenset(),
    State.WITHDRAWN: frozenset(),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
}
"""Every transition there is."""

OPEN: Final = frozenset({State.REQUESTED, State.APPROVED})

Kind = Literal["approval", "confirm"]
"""`approval` is decided by a person at a browser; `confirm` by the caller, through their client's form."""


class Requirement(BaseModel):
    """Who must say yes before a tool runs, and for how long a yes is good.

    Attributes:
        by: `CALLER`, `OWNER`, or a business group.
        own: whether somebody may approve what they asked for themselves; for `CALLER` always.
        expires_s: seconds from the request.
        source: the server's own code, or the registry, where security asked for it.
        why: what callers and approvers are told of it; empty where nobody said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = Field(min_length=1, max_length=64)
    own: bool = False
    expires_s: int = Field(default=USUAL_S, ge=SHORTEST_S, le=LONGEST_S)
    source: Literal["server", "registry"] = "server"
    why: str = Field(default="", max_length=1000)

    @property
    def version(self) -> str:
        """Twelve hex digits that differ wherever the requirement does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class Block(BaseModel):
    """Something that an approver looks at beside the arguments; shown as what it is, never as markup."""

    model_config = _STRICT

    title: str = Field(max_length=100)
    kind: Literal["text", "sql", "diff", "json"] = "text"
    text: str = Field(max_length=64 * 1024)


class Preview(BaseModel):
    """What a tool says will happen: in a line, at what cost, and in detail (a dry run). Untrusted text."""

    model_config = _STRICT

    what: str = Field(max_length=500, description="what will happen, in a line")
    cost: str = Field(default="", max_length=200, description="what it costs, with its unit")
    blocks: tuple[Block, ...] = Field(default=(), max_length=10)


class Action(BaseModel):
    """One action to be approved: the arguments as they would run, and what the tool says of them."""

    model_config = _STRICT

    arguments: dict[str, Any]
    preview: Preview | None = None


class Ask(BaseModel):
    """What a server asks the hub before it runs a call.

    Attributes:
        token: the caller's own, bound to this server: the hub verifies it and so knows who asks. Never logged.
        tool, policy, policy_version: of the call.
        actions: one, or those of a batch, each bound by itself.
        call_id: the call's; whoever claims is remembered by it, so that asking again claims nothing twice.
        process: the server process, so that what it had claimed can be told to be over when it died.
        wait_s: how long to wait for people, in seconds.
        answered: what the caller's client answered when it was asked for the requests in `about`. A "yes" confirms
            what is of the kind `confirm`, and never approves; a "no" takes a request of either kind back, and such an
            ask makes and claims none.
        about: ids of the requests that the client was asked for. An answer counts for these alone and while they are
            `requested`, never for a request that this ask makes: so an answer that comes twice counts once.
            Where it names any, these alone are waited for: whose call it is has not been shown another yet.
        request_id: the edge's.
    """

    model_config = _STRICT

    token: str = Field(repr=False)
    tool: str = Field(max_length=128)
    kind: Kind = "approval"
    requirement: Requirement
    policy: str = Field(max_length=128)
    policy_version: str = Field(max_length=128)
    actions: tuple[Action, ...] = Field(min_length=1, max_length=MOST_ACTIONS)
    call_id: str = Field(min_length=1, max_length=128)
    process: str = Field(min_length=1, max_length=128)
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = 0
    answered: Literal["", "yes", "no"] = ""
    about: tuple[str, ...] = Field(default=(), max_length=MOST_ACTIONS)
    request_id: str = Field(default="", max_length=128)


class Told(BaseModel):
    """What the hub tells of one action."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    state: State
    reason: str = Field(default="", description="why it was rejected or withdrawn, in the decider's words")
    decided_by: str = Field(default="", description="who decided, by name")


class Answer(BaseModel):
    """The hub's answer to an `Ask`: an entry for each action, in their order.

    Attributes:
        claimed: whether those that were approved are claimed for this call now, so that it may run with them.
        page: where people decide; a link without any power of its own.
        asks: who is to decide, in words.
        yours: whether the caller is among them.
        expires_at_ms: when the first of the actions expires, in milliseconds since the epoch.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    actions: tuple[Told, ...]
    claimed: bool
    page: str
    asks: str
    yours: bool
    expires_at_ms: int


class Over(BaseModel):
    """Server processes that are over: what they had claimed and did not tell the end of is unknown."""

    model_config = _STRICT

    processes: tuple[str, ...] = Field(max_length=100)


class Unbindable(ValueError):
    """Arguments that no approval can be bound to; the message says which and what to do."""


def canonical_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Arguments as they will run if approved, and their digest: SHA-256 of the canonical JSON (RFC 8785), in hex.

    What runs is read from the canonical form itself, so that two spellings with one digest (1 and 1.0, keys in
    another order) cannot mean two things.

    Raises:
        Unbindable: a number is beyond what JSON numbers hold exactly (±(2^53 - 1)), a text is not Unicode, or they
            are too long.
    """
    try:
        document = rfc8785.dumps(dict(arguments))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise Unbindable(
            "an argument is a number beyond ±9007199254740991 or text that is not Unicode, so nobody can approve it "
            "exactly: send such a number as text"
        ) from error
    if len(document) > LONGEST_ARGUMENTS:
        raise Unbindable(f"the arguments are longer than {LONGEST_ARGUMENTS // 1024} KiB, which nobody can read")
    run: dict[str, Any] = json.loads(document, parse_int=_exact)
    return run, hashlib.sha256(document).hexdigest()


def _exact(digits: str) -> int | float:
    """A whole number as it came: 1e20 is a float that canonical JSON writes without an exponent."""
    return int(digits) if len(digits) < _DIGITS or abs(int(digits)) <= _MOST else float(digits)


_MOST = 2**53 - 1
_DIGITS = len(str(_MOST))


def binding(
    *,
    person: str,
    server: str,
    release: str,
    source: str,
    tool: str,
    kind: Kind,
    arguments_digest: str,
    policy: str,
    policy_version: str,
    requirement: Requirement,
) -> str:
    """What a request is found by: SHA-256 over all that it is bound to, in hex. Any difference is another request.

    `release` is the digest of what the release declares, `source` that of all it was made from: code that does
    something else under the same declaration is another release to whoever says yes.
    """
    by = [policy, policy_version, requirement.version]
    bound = [person, server, release, source, tool, kind, arguments_digest, *by]
    return hashlib.sha256(json.dumps(bound, separators=(",", ":")).encode()).hexdigest()
