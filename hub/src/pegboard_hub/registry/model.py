"""What the registry knows: its tables, and the snapshot of them that everything else decides with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    Text,
    false,
)

from pegboard.core.access import ServerAccess
from pegboard.core.bundle import BundledServer
from pegboard.core.decide import GovernedTool
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard_hub.storage.metadata import metadata

SERVER_LENGTH = 65
"""Longest `namespace/name`: two names of 32 and the slash."""

GRANT_KINDS = ("group", "surface", "channel", "service")

servers = Table(
    "servers",
    metadata,
    Column("name", String(SERVER_LENGTH), primary_key=True),
    Column("source", Text, nullable=False),
    Column("registered", Boolean, nullable=False, comment="false once the grants file no longer names it"),
    Column("reason", Text, nullable=False, comment="who granted and why"),
    Column("release", String(64), comment="digest of the release that is deployed; null: not deployed"),
)

releases = Table(
    "releases",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("manifest", JSON, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(["server", "release"], ["releases.server", "releases.digest"]),
)

tools = Table(
    "tools",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("position", Integer, nullable=False, comment="the author's order"),
    Column("title", Text),
    Column("description", Text, nullable=False),
    Column("policy", String(64), nullable=False),
    Column("minutes_saved", Float, nullable=False),
    Column(
        "read_only", Boolean, nullable=False, server_default=false(), comment="it changes nothing, as its author says"
    ),
    Column("input_schema", JSON, nullable=False),
    ForeignKeyConstraint(["server", "release"], ["releases.server", "releases.digest"]),
)

grants = Table(
    "grants",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("kind", String(8), primary_key=True, comment="one of GRANT_KINDS"),
    Column("value", String(255), primary_key=True),
    Column("requested", Boolean, nullable=False, comment="the author's manifest asks for it"),
    Column("granted", Boolean, nullable=False, comment="the operator's grants file gives it"),
)

stops = Table(
    "stops",
    metadata,
    Column("server", ForeignKey("servers.name"), primary_key=True),
    Column("tool", String(64), primary_key=True, comment="empty: the server as a whole"),
    Column("why", Text, nullable=False, comment="shown to callers"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("consumer", String(SERVER_LENGTH), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("content", String(64), nullable=False, comment="SHA-256 of what the consumer decides with"),
)


@dataclass(frozen=True)
class Release:
    """A deployed release, its policies parsed once.

    Raises:
        ConfigurationError: on first use of `governed`, when a policy is not Cedar.
    """

    digest: str
    manifest: Manifest
    tools: tuple[ToolDeclaration, ...]
    policies: Mapping[str, str]

    @classmethod
    def of(cls, declaration: Declaration) -> Release:
        """The release that a declaration declares."""
        return cls(declaration.digest, declaration.manifest, declaration.tools, declaration.policies)

    @cached_property
    def governed(self) -> dict[str, GovernedTool]:
        """The tools by name, ready to be decided on."""
        parsed = {name: Policy(name, text) for name, text in self.policies.items()}
        return {tool.name: GovernedTool(tool.name, parsed[tool.policy], tool.read_only) for tool in self.tools}


@dataclass(frozen=True)
class Access:
    """Values of each kind of grant, either requested or granted."""

    groups: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegisteredServer:
    """One server of the registry: what its author says and asks for, beside what the operator granted and stopped.

    Attributes:
        stopped: why nobody may use it now; empty while it is not stopped.
        stopped_tools: tools that nobody may call now, each with why.
    """

    name: ServerName
    source: str
    granted: Access
    requested: Access
    reason: str
    release: Release | None
    registered: bool = True
    stopped: str = ""
    stopped_tools: Mapping[str, str] = field(default_factory=dict)

    def bundled(self) -> BundledServer:
        """This server as edge and gate need it.

        Raises:
            ValueError: it is not deployed, so there is nothing to decide on.
        """
        if self.release is None:
            raise ValueError(f"{self.name} is not deployed")
        given = self.granted
        return BundledServer(
            server=str(self.name),
            owner=self.release.manifest.owner,
            support_channel=self.release.manifest.support_channel,
            release=self.release.digest,
            groups=given.groups,
            surfaces=given.surfaces,
            channels=given.channels,
            services=given.services,
            reason=self.reason,
            sensitivity=self.release.manifest.sensitivity,
            stopped=self.stopped,
            stopped_tools=dict(self.stopped_tools),
        )

    def access(self, public_url: str) -> ServerAccess:
        """The coarse rules' view of a deployed server."""
        return self.bundled().access(public_url)


@dataclass(frozen=True)
class Snapshot:
    """The registry at one moment; replaced as a whole, never changed.

    Attributes:
        servers: every registered server by name, in order of name.
        withdrawn: servers that were deployed and are no longer in the grants file.
        fault: why the grants file is not the one in force; empty when it is.
        unusable: declarations that cannot be used, a line each.
    """

    servers: Mapping[str, RegisteredServer] = field(default_factory=dict)
    withdrawn: tuple[RegisteredServer, ...] = ()
    fault: str = ""
    unusable: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, a line each, for the operator."""
        if not self.fault:
            return self.unusable
        return (f"The grants file has a fault, so the last good one stays in force. {self.fault}", *self.unusable)

    def deployed(self, name: str) -> RegisteredServer | None:
        """The server of that name, if there is one that can be called."""
        server = self.servers.get(name)
        return server if server is not None and server.release is not None else None

    @property
    def all_deployed(self) -> list[RegisteredServer]:
        """Every server that can be called."""
        return [server for server in self.servers.values() if server.release is not None]
