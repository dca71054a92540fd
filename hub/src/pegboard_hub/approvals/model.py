"""What is kept of approvals: requests and their history, and the words in which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from pegboard.core.approval import CALLER, OWNER, Kind, Preview, Requirement, State
from pegboard_hub.registry.tables import ACTOR_LENGTH, SERVER_LENGTH
from pegboard_hub.storage.metadata import metadata

approval_requests = Table(
    "approval_requests",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("batch", String(32), nullable=False, comment="what was asked for together"),
    Column("kind", String(8), nullable=False, comment="approval or confirm"),
    Column("state", String(10), nullable=False, comment="one of core.approval.State"),
    Column("binding", String(64), nullable=False, comment="what it is found by"),
    Column("held", String(64), comment="the binding while no other request may have it; null: it is over"),
    Column("person", String(ACTOR_LENGTH), nullable=False, comment="whose call it is"),
    Column("person_name", String(ACTOR_LENGTH), nullable=False, comment="their e-mail address; empty: none is known"),
    Column("server", String(SERVER_LENGTH), nullable=False),
    Column("release", String(64), nullable=False),
    Column("tool", String(128), nullable=False),
    Column("policy", String(128), nullable=False),
    Column("policy_version", String(128), nullable=False),
    Column("arguments", Text, nullable=False, comment="canonical JSON; empty: no longer kept"),
    Column("arguments_digest", String(64), nullable=False),
    Column("preview", Text, nullable=False, comment="JSON; empty: none"),
    Column("requirement", Text, nullable=False, comment="JSON"),
    Column("approver", String(ACTOR_LENGTH + 8), nullable=False, comment="who decides: person:, server: or group:"),
    Column("own", Boolean, nullable=False, comment="may the person decide themselves"),
    Column("shown_digest", String(64), nullable=False, comment="of what is shown to who decides"),
    Column("shown_at_ms", BigInteger, nullable=False, comment="since when that is shown"),
    Column("surface", String(16), nullable=False),
    Column("client", Text, nullable=False, comment="the client's id"),
    Column("act", Text, nullable=False, comment="who acts for the person; empty: nobody"),
    Column("request_id", String(128), nullable=False, comment="the edge's, of the call that asked first"),
    Column("requested_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("remind_at_ms", BigInteger, nullable=False, comment="when it is to be announced that it will expire"),
    Column("reminded_at_ms", BigInteger, comment="when it was"),
    Column("decided_at_ms", BigInteger),
    Column("decided_by", String(ACTOR_LENGTH), nullable=False),
    Column("decided_by_name", Text, nullable=False),
    Column("why", Text, nullable=False, comment="in the words of who decided or withdrew; else what ended it"),
    Column("claimed_at_ms", BigInteger),
    Column("call_id", String(128), nullable=False, comment="the call that runs it; empty: none"),
    Column("process", String(128), nullable=False, comment="the server process that claimed it"),
    Column("ended_at_ms", BigInteger),
    Index("uq_approval_requests_held", "held", unique=True),
    Index("ix_approval_requests_inbox", "state", "approver", "expires_at_ms", "id", "own", "person"),
    Index("ix_approval_requests_due", "state", "expires_at_ms"),
    Index("ix_approval_requests_remind", "state", "reminded_at_ms", "remind_at_ms"),
    Index("ix_approval_requests_binding", "binding", "requested_at_ms"),
    Index("ix_approval_requests_person", "person", "requested_at_ms", "id"),
    Index("ix_approval_requests_approver", "approver", "requested_at_ms", "id"),
    Index("ix_approval_requests_requested_at", "requested_at_ms", "id"),
    Index("ix_approval_requests_batch", "batch"),
    Index("ix_approval_requests_call", "server", "call_id"),
)
"""A row a request. `held` is unique: of one binding there is one request at a time."""

approval_events = Table(
    "approval_events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request", String(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("before", String(10), nullable=False, comment="the state before; empty: there was none"),
    Column("after", String(10), nullable=False),
    Column("who", String(ACTOR_LENGTH), nullable=False, comment="a person's id; empty: Pegboard itself"),
    Column("who_name", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("door", String(8), nullable=False, comment="one of approvals.model.Door"),
    Column("shown", String(64), nullable=False, comment="digest of what was shown then"),
    Index("ix_approval_events_request", "request", "seq"),
)
"""Append-only: the database itself refuses to change or remove a row."""

Door = Literal["server", "form", "page", "api", "ledger", "clock"]
"""Where a step came from: a server's question, the caller's form in their client, a page, the API (also of the
command), a record that a server delivered, or the hub's own clock."""


def approver_of(by: str, person: str, server: str) -> str:
    """The key of who decides, as requests are found by it."""
    return {CALLER: f"person:{person}", OWNER: f"server:{server}"}.get(by, f"group:{by}")


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at requests.

    Attributes:
        groups: as they are known now.
        sees_all: whether they may look at every request, as operators and security may; it lets nobody decide.
    """

    sub: str
    groups: tuple[str, ...] = ()
    sees_all: bool = False


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decides: made from a browser's session alone, with what the login says of the person at this moment.

    Attributes:
        name: as the other people are told it.
    """

    sub: str
    groups: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about one request.

    Attributes:
        shown_digest: `Request.shown_digest` of what the person looked at.
    """

    id: str
    shown_digest: str
    approve: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a request's history.

    Attributes:
        who: the person's id; empty where Pegboard did it by itself.
        before: None for the first; the same as `after` where something else changed.
        shown: digest of what was shown to who decides at that time.
    """

    seq: int
    at_ms: int
    before: State | None
    after: State
    who: str
    who_name: str
    why: str
    door: Door
    shown: str


@dataclass(frozen=True, slots=True)
class Request:
    """One action that somebody must say yes to. Times are milliseconds since the epoch.

    Attributes:
        batch: the same for what was asked for together.
        binding: what it is found by (`core.approval.binding`).
        person: the id of whose call it is; `person_name` their e-mail address, where one is known.
        arguments: as they run if approved; None once they are no longer kept.
        preview: what the tool says will happen; untrusted text.
        client: the client's id; `act` who acts for the person, empty where nobody does.
        decided_by: the id of who decided, `decided_by_name` their name; empty where nobody did.
        why: in the words of who decided or withdrew it; else what ended it.
        call_id: of the call that claimed it; empty before.
        shown_digest: of everything that is shown to who decides, since `shown_at_ms`; it goes into the form.
        events: its history, oldest first; only `Approvals.find` gives it.
    """

    id: str
    batch: str
    kind: Kind
    state: State
    binding: str
    person: str
    person_name: str
    server: str
    release: str
    tool: str
    policy: str
    policy_version: str
    arguments: Mapping[str, Any] | None
    arguments_digest: str
    preview: Preview | None
    requirement: Requirement
    surface: str
    client: str
    act: str
    requested_at_ms: int
    expires_at_ms: int
    shown_digest: str
    shown_at_ms: int
    decided_at_ms: int | None = None
    decided_by: str = ""
    decided_by_name: str = ""
    why: str = ""
    claimed_at_ms: int | None = None
    call_id: str = ""
    ended_at_ms: int | None = None
    reminded_at_ms: int | None = None
    events: tuple[Event, ...] = field(default=(), compare=False)

    @property
    def approver(self) -> str:
        """The key of who decides."""
        return approver_of(self.requirement.by, self.person, self.server)

    @property
    def own(self) -> bool:
        """Whether the person may decide on it themselves."""
        return self.requirement.own or self.requirement.by == CALLER


class Place(NamedTuple):
    """Where a list goes on: the time that it is in order of (of the inbox the expiry), and the id."""

    at_ms: int
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some requests of a list, and where it goes on; None where nothing follows."""

    requests: list[Request]
    after: Place | None


@dataclass(frozen=True, slots=True)
class Which:
    """Which requests of a list; None does not matter."""

    server: str | None = None
    person: str | None = None
    state: State | None = None
