"""The operator's grants file: which servers exist, and who may reach each of them from where.

    [servers."prod/presto"]
    source   = "servers/presto"
    groups   = ["ads-eng", "finance"]
    surfaces = ["cli", "chat"]
    reason   = "security review SEC-12"
    stopped  = "it answers with last year's figures"
    stopped_tools = { run_query = "the warehouse is being moved" }

An empty list grants nobody: nothing is open by omission. The last two stop the server, or single tools of it, for
everybody until the line is taken out again.

The file is an import: what it says of a server is taken over when it is saved, and what it leaves out is decided in
the registry. `source` and `egress` are the file's alone. `[reviews]` says who reviews servers before production.

    [registry]
    prefix   = "com.acme"
    networks = ["10.0.0.0/8"]

This says what production servers are called in the official registry API, and who may read it without signing in.

    [limits]
    person = 600
    rates  = [{ per = "person", requests = 30, surfaces = ["chat"], servers = ["prod/presto"] }]

    [limits.servers."prod/presto"]
    timeout_s = 120

This says how much may be asked: requests a minute, narrower rates beside them, and what single servers are given.

    [publishing]
    egress = ["api.example.com:443"]

This says what submitted servers may reach that nobody reviews; what others reach, their reviews decide.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from pegboard.core.checks import load_toml
from pegboard.core.manifest import Name, known_surfaces
from pegboard.core.names import SURFACES, TOOL_PATTERN, ServerName
from pegboard.core.rates import LimitsSection
from pegboard.core.spiffe import is_spiffe_id
from pegboard.core.stops import stop_reason


def _server_name(text: str) -> str:
    return str(ServerName.parse(text))


def _why(text: str) -> str:
    if not text.strip(" ."):
        raise ValueError("say in a few words why, for those who are refused; to end the stop take the line out")
    return stop_reason(text)


Why = Annotated[str, AfterValidator(_why)]
ToolName = Annotated[str, StringConstraints(pattern=f"^{TOOL_PATTERN}$")]


def _service(text: str) -> str:
    if not is_spiffe_id(text):
        raise ValueError(f"{text[:80]!r} is no SPIFFE ID; write it as spiffe://example.org/reporting")
    return text


Service = Annotated[str, AfterValidator(_service)]


class Grant(BaseModel):
    """What the operator grants one server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(
        default="",
        description="folder of the server's project, relative to the grants file; left out: its releases are "
        "submitted (`pegboard submit`)",
    )
    groups: tuple[Name, ...] = Field(default=(), description="groups whose people may use it; none, nobody")
    surfaces: tuple[str, ...] = Field(
        default=(), description=f"where calls may come from, of {', '.join(SURFACES)}; none, nowhere"
    )
    channels: tuple[str, ...] = Field(default=(), description="for surface 'bot': channels it may be used in")
    services: tuple[Service, ...] = Field(
        default=(), description="SPIFFE IDs of services that may call, for surface 'service': read-only tools alone"
    )
    egress: tuple[str, ...] = Field(
        default=(), description="host:port pairs the server may reach; any of them opens the machine's network to it"
    )
    reason: str = Field(default="", description="who decided and why; shown by explain")
    releases: Literal["reviewed", "any"] = Field(
        default="reviewed",
        description="'any': every release of this source counts as approved, as where git is reviewed",
    )
    stopped: Why | None = Field(default=None, description="why nobody may use the server now; shown to callers")
    stopped_tools: dict[ToolName, Why] = Field(default={}, description="tools nobody may call now, and why")

    @field_validator("surfaces")
    @classmethod
    def _known_surfaces(cls, surfaces: tuple[str, ...]) -> tuple[str, ...]:
        return known_surfaces(surfaces)


class ReviewKind(BaseModel):
    """One kind of review."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    approvers: tuple[Name, ...] = Field(default=(), description="groups whose people decide; none: the default ones")
    checklist: tuple[Annotated[str, StringConstraints(min_length=3, max_length=200)], ...] = Field(
        default=(), description="what must hold for it to be approved; none: the default one"
    )


class Reviews(BaseModel):
    """Who reviews servers before production."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unreviewed: tuple[Name, ...] = Field(default=("dev",), description="namespaces whose servers need no review")
    security: ReviewKind = Field(default=ReviewKind(), description="of every server in a reviewed namespace")
    privacy: ReviewKind = Field(default=ReviewKind(), description="of every server in a reviewed namespace")
    genai: ReviewKind = Field(default=ReviewKind(), description="where it sends data to a language model")


_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PREFIX = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
LONGEST_PREFIX = 160
"""Characters of the prefix: a whole official name has 200 at most, and ours is up to 32 and the slash."""


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text) or len(text) > LONGEST_PREFIX:
        raise ValueError(f"{text[:80]!r} is not a domain in reverse, in lower case, for example com.acme")
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not a network: {error}; write it as 10.0.0.0/8") from error


class PublicRegistry(BaseModel):
    """What the official registry API says without a sign-in, and to whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: Annotated[str, AfterValidator(_prefix)] | None = Field(
        default=None,
        description="what official names begin with, your domain in reverse, for example com.acme; "
        "else made of the public URL's host",
    )
    public: bool | None = Field(
        default=None,
        description="true: anybody may read it; false: nobody; left out: this machine alone, where callers reach "
        "Pegboard on loopback",
    )
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), description="callers' networks that may read it, instead of `public`"
    )

    @model_validator(mode="after")
    def _one_answer(self) -> PublicRegistry:
        if self.networks and self.public is not None:
            raise ValueError(f"networks and public = {str(self.public).lower()} contradict; keep one of the two")
        return self


class PublishingLimits(BaseModel):
    """How much authors may submit and keep, and what they may ask for where nobody reviews."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server_waiting: int = Field(
        default=5, ge=1, le=1000, description="submissions of one server that wait for a builder, or are with one"
    )
    team_waiting: int = Field(default=20, ge=1, le=10_000, description="the same, of all servers of one team")
    person_waiting: int = Field(default=20, ge=1, le=10_000, description="the same, by one person or service")
    per_hour: int = Field(default=60, ge=1, le=100_000, description="submissions by one person or service in an hour")
    stored_mb: int = Field(
        default=1024,
        ge=1,
        le=1_048_576,
        description="MiB of sources and artifacts that are kept of one server; the oldest that is over goes first, "
        "never what is on its way, runs, or is ready to be gone back to",
    )
    memory_mb: int = Field(
        default=4096,
        ge=64,
        le=16_777_216,
        description="in namespaces without reviews: MiB of memory of one server, replicas.max × resources.memory_mb",
    )
    team_memory_mb: int = Field(
        default=32_768, ge=64, le=16_777_216, description="the same, of all servers of one team together"
    )


class Publishing(BaseModel):
    """What submitted servers may do without anybody's look at them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    egress: tuple[str, ...] = Field(
        default=(), description="host:port pairs that servers in namespaces without reviews may reach"
    )
    indexes: tuple[str, ...] = Field(
        default=("https://pypi.org/simple",),
        description="package indexes that lock files may name, beside Pegboard's own",
    )
    limits: PublishingLimits = Field(
        default=PublishingLimits(), description="how much authors may submit, keep, and ask for"
    )


class GrantsFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reviews: Reviews = Field(default=Reviews(), description="who reviews servers before production")

    registry: PublicRegistry = Field(
        default=PublicRegistry(), description="the official registry API: names, and who may read it"
    )
    limits: LimitsSection = Field(default=LimitsSection(), description="how much callers may ask, and servers may do")
    publishing: Publishing = Field(
        default=Publishing(), description="what submitted servers may do without anybody's look at them"
    )
    servers: dict[Annotated[str, AfterValidator(_server_name)], Grant] = Field(
        default={}, description="every server that is published, by `namespace/name`"
    )


def read_grants(text: str, where: str) -> GrantsFile:
    """Read the grants file's text.

    Raises:
        ConfigurationError: it does not fit; unknown keys are named with the nearest known one.
    """
    return load_toml(GrantsFile, text, where)
