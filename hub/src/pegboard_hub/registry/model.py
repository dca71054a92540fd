"""What the registry knows: the snapshot of its tables (`tables`) that everything else decides with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import NamedTuple

from pegboard.core.access import ServerAccess
from pegboard.core.approval import Requirement
from pegboard.core.bundle import BundledServer, Endpoint
from pegboard.core.decide import GovernedTool
from pegboard.core.manifest import Manifest, Sensitivity
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard.core.stops import NOTHING_STOPPED


class Lifecycle(StrEnum):
    """Where a server stands between an idea and its end. Only `LIVE` and `DEPRECATED` can be called."""

    DRAFT = "draft"
    IN_REVIEW = "in review"
    APPROVED = "approved"
    LIVE = "live"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


REACHABLE = frozenset({Lifecycle.LIVE, Lifecycle.DEPRECATED})


@lru_cache(maxsize=10_000)
def _policy(name: str, text: str) -> Policy:
    """A policy, parsed once for all servers that have it word for word: it takes 4 KB and 0.1 ms."""
    return Policy(name, text)


@dataclass(frozen=True)
class Release:
    """A deployed release, its policies parsed once.

    Attributes:
        unrecorded: fields of its tools that were not kept yet when it was pinned: what they say here is a default,
            and not what the author declared.
        can_ask: whether its kit asks for an approval where the registry requires one.
        instructions: what models are told before they use its tools; None: it was not kept when it was pinned.

    Raises:
        ConfigurationError: on first use of `governed`, when a policy is not Cedar.
    """

    digest: str
    manifest: Manifest
    tools: tuple[ToolDeclaration, ...]
    policies: Mapping[str, str]
    unrecorded: tuple[str, ...] = ()
    can_ask: bool = False
    instructions: str | None = None

    @classmethod
    def of(cls, declaration: Declaration) -> Release:
        """The release that a declaration declares."""
        return cls(
            declaration.digest,
            declaration.manifest,
            declaration.tools,
            declaration.policies,
            can_ask=declaration.can_ask,
            instructions=declaration.instructions,
        )

    @cached_property
    def governed(self) -> dict[str, GovernedTool]:
        """The tools by name, ready to be decided on."""
        parsed = {name: _policy(name, text) for name, text in self.policies.items()}
        return {tool.name: GovernedTool(tool.name, parsed[tool.policy], tool.read_only) for tool in self.tools}

    def open_tools(self, names: Collection[str], *, services: bool) -> tuple[str, ...]:
        """Those of some tools that are hidden from nobody who reaches the server.

        Where services do, tools are hidden from them that are not declared read-only.
        """
        found = [self.governed[name] for name in names if name in self.governed] if names else []
        return tuple(sorted(t.name for t in found if t.policy.lists_for_all and (t.read_only or not services)))


class Access(NamedTuple):
    """Values of each kind of grant, either requested or granted."""

    groups: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


CANNOT_ASK = (
    "it needs an approval, and its release was built with a Pegboard that cannot ask for one: publish it anew"
)
"""Why a tool is stopped that the registry requires an approval for, where the release would run it without."""


class Required(NamedTuple):
    """What the registry requires before a tool runs, and who said so.

    Attributes:
        requirement: its source is the registry.
        actor: who; `operator` at the machine.
        actor_kind: `person` or `operator`.
        role: `operator` or `owner`; security counts as an operator.
        at_ms: since when, in milliseconds since the epoch.
    """

    requirement: Requirement
    actor: str
    actor_kind: str
    role: str
    at_ms: int


@dataclass(frozen=True)
class RegisteredServer:
    """One server of the registry: what its author says and asks for, beside what was granted and stopped.

    What describes it (title to `uses_models`) is the manifest's of the release that was approved last. Before there
    is one, whoever registered it described it, or where the grants file did, the release that waits.

    Attributes:
        source: where the operator's file says its code is; empty where the file does not name it.
        reason: who granted, and why.
        release: the approved release that is deployed, which edge and kit decide with.
        stopped: why nobody may use it now; empty while it is not stopped.
        stopped_tools: tools that nobody may call now, each with why.
        approvals: tools that nobody may call without an approval, whatever their code says.
        waiting: the release that is declared and waits for reviews.
        lifecycle_why: why it is deprecated or retired.
        takes_any: whether every release of its source counts as approved, as the operator's file says.
        semver: of `release`; empty while there is none.
        version: counts up with each change of anything here that somebody can change.
        seq: its newest entry in the history.
        first_live_at_ms: when it could first be called, in milliseconds since the epoch; None: never.
        submitted: whether its releases come by the pipeline, and not from a folder of the operator's.
        ends_at_ms: of one deprecated, when it closes, in milliseconds since the epoch; None: nobody said.
        successor: of one deprecated, what to use instead; None: nothing.
        endpoints: where its replicas answer; of a submitted server alone.
    """

    name: ServerName
    source: str
    granted: Access
    requested: Access
    reason: str
    release: Release | None
    stopped: str = ""
    stopped_tools: Mapping[str, str] = field(default_factory=dict)
    approvals: Mapping[str, Required] = field(default_factory=dict)
    lifecycle: Lifecycle = Lifecycle.LIVE
    lifecycle_why: str = ""
    waiting: Release | None = None
    takes_any: bool = False
    title: str | None = None
    description: str = ""
    owner: str = ""
    support_channel: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    sensitivity: Sensitivity = "restricted"
    gallery: bool = False
    uses_models: bool = False
    semver: str = ""
    version: int = 1
    seq: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0
    first_live_at_ms: int | None = None
    submitted: bool = False
    ends_at_ms: int | None = None
    successor: str | None = None
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def reachable(self) -> bool:
        """Whether it can be called at all: its lifecycle lets it, and an approved release is deployed."""
        return self.lifecycle in REACHABLE and self.release is not None

    @property
    def published(self) -> bool:
        """Whether it ever was more than a plan: no draft, and not retired before anybody could call it."""
        if self.lifecycle is Lifecycle.RETIRED:
            return self.first_live_at_ms is not None
        return self.lifecycle is not Lifecycle.DRAFT

    @property
    def released(self) -> bool:
        """Whether a release describes it, so that nobody writes its record by hand."""
        return self.release is not None or self.waiting is not None

    @property
    def leaving(self) -> str:
        """That it is deprecated, why, until when it is there and what takes its place; empty where it is not."""
        if self.lifecycle is not Lifecycle.DEPRECATED:
            return ""
        return notice_of(str(self.name), self.lifecycle_why, self.ends_at_ms, self.successor)

    @property
    def notice(self) -> str:
        """What callers are told with every result; empty: nothing. Kits of before there were any refuse one."""
        return self.leaving if self.submitted else ""

    def bundled(self) -> BundledServer:
        """This server as edge and gate need it; one that is not reachable grants nobody.

        Where the release could not ask for an approval that the registry requires, the tool is stopped.

        Raises:
            ValueError: it is not deployed, so there is nothing to decide on.
        """
        if self.release is None:
            raise ValueError(f"{self.name} is not deployed")
        given, can_ask = self.granted, self.release.can_ask
        stopped_tools = {**({} if can_ask else dict.fromkeys(self.approvals, CANNOT_ASK)), **self.stopped_tools}
        return BundledServer(
            server=str(self.name),
            owner=self.owner,
            support_channel=self.support_channel,
            release=self.release.digest,
            groups=given.groups,
            surfaces=given.surfaces,
            channels=given.channels,
            services=given.services,
            reason=self.reason,
            sensitivity=self.sensitivity,
            stopped=self.stopped,
            stopped_tools=stopped_tools,
            open_tools=self.release.open_tools(stopped_tools, services=bool(given.services)),
            approvals={tool: each.requirement for tool, each in self.approvals.items()} if can_ask else {},
            endpoints=self.endpoints,
            notice=self.notice,
        )

    def bundled_shut(self) -> BundledServer:
        """This server for its own process while nobody may call it."""
        return BundledServer(
            server=str(self.name),
            owner=self.owner,
            support_channel=self.support_channel,
            release=self.release.digest if self.release else "",
            reason="not approved, or withdrawn",
            sensitivity=self.sensitivity,
        )

    def access(self, public_url: str) -> ServerAccess:
        """A deployed server as it was granted; stops of callers and coarse rules are for whoever decides to add."""
        return self.bundled().access(public_url, NOTHING_STOPPED, ())


def day_of(at_ms: int) -> str:
    """The day of a time, in UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"


def notice_of(name: str, why: str, ends_at_ms: int | None, successor: str | None) -> str:
    """What callers of a deprecated server are told: why, until when it is there, and what takes its place."""
    said = [f"{name} is deprecated: {why.rstrip('. ')}." if why else f"{name} is deprecated."]
    if ends_at_ms is not None:
        said.append(f"It closes on {day_of(ends_at_ms)} (UTC).")
    if successor:
        said.append(f"Use {successor} instead.")
    return " ".join(said)


@dataclass(frozen=True)
class Snapshot:
    """The registry at one moment; replaced as a whole, never changed.

    Attributes:
        servers: every server by name, of every lifecycle, in order of name.
        fault: why the grants file is not the one in force; empty when it is.
        unusable: declarations that cannot be used, and what of the grants file is not taken over, a line each.
        seq: the newest entry of the history that it holds.
    """

    servers: Mapping[str, RegisteredServer] = field(default_factory=dict)
    fault: str = ""
    unusable: tuple[str, ...] = ()
    seq: int = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, a line each, for the operator."""
        if not self.fault:
            return self.unusable
        return (f"The grants file has a fault, so the last good one stays in force. {self.fault}", *self.unusable)

    def deployed(self, name: str) -> RegisteredServer | None:
        """The server of that name, if there is one that can be called."""
        server = self.servers.get(name)
        return server if server is not None and server.reachable else None

    @cached_property
    def all_deployed(self) -> list[RegisteredServer]:
        """Every server that can be called."""
        return [server for server in self.servers.values() if server.reachable]

    @cached_property
    def shut(self) -> tuple[RegisteredServer, ...]:
        """Servers that nobody may call although a process of theirs may run."""
        return tuple(s for s in self.servers.values() if not s.reachable and (s.source or s.first_live_at_ms))

    @property
    def withdrawn(self) -> tuple[RegisteredServer, ...]:
        """Servers that once could be called, and were retired."""
        return tuple(s for s in self.shut if s.lifecycle is Lifecycle.RETIRED and s.first_live_at_ms)

    def with_servers(self, changed: Mapping[str, RegisteredServer], seq: int) -> Snapshot:
        """This one with some servers as they are since."""
        known = {**self.servers, **changed}
        if changed.keys() - self.servers.keys():
            known = dict(sorted(known.items()))
        return Snapshot(known, self.fault, self.unusable, max(seq, self.seq))
