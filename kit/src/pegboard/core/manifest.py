"""`pegboard.toml`: what an author says of a server, and what the author asks for.

What was *granted* is never here: it is the operator's (`grants.py`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN, SURFACES
from pegboard.core.proxied import Proxy
from pegboard.core.strict import Strict

FILE_NAME = "pegboard.toml"

Name = Annotated[
    str, StringConstraints(pattern=f"^{NAME_PATTERN}$", min_length=NAME_LENGTH[0], max_length=NAME_LENGTH[1])
]
Sensitivity = Literal["public", "internal", "confidential", "restricted"]


LinkName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(?:[ -][a-z0-9]+)*$", max_length=32)]
MOST_LINKS = 10
LONGEST_LINK = 500
_LINK = re.compile(
    r"https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
    r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]*)?"
)

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_RESERVED = ("PEGBOARD", "LD_", "PYTHON", "PATH", "HOME", "TMPDIR", "LANG", "LC_", "SSL_", "UV_")
"""Beginnings of variables that steer a process instead of telling it something."""


class Requests(Strict):
    """The access the author asks for; the operator's grants decide."""

    business_groups: tuple[Name, ...] = Field(default=(), description="groups whose people may use the server")
    surfaces: tuple[str, ...] = Field(default=(), description=f"where calls may come from: {', '.join(SURFACES)}")
    channels: tuple[str, ...] = Field(default=(), description="for surface 'bot': channels it is used in")
    services: tuple[str, ...] = Field(default=(), description="SPIFFE IDs of services that call it")

    @field_validator("surfaces")
    @classmethod
    def _known_surfaces(cls, surfaces: tuple[str, ...]) -> tuple[str, ...]:
        return known_surfaces(surfaces)


class Resources(Strict):
    """What one replica may use."""

    memory_mb: int = Field(default=512, ge=64, le=65_536, description="private MiB, past which it is restarted")
    open_files: int = Field(default=256, ge=64, le=65_536, description="files and connections open at once")
    cpu_millis: int = Field(default=1000, ge=50, le=64_000, description="thousandths of a processor")
    processes: int = Field(default=64, ge=8, le=4096, description="processes and threads at once")
    disk_mb: int = Field(
        default=1024, ge=64, le=1_048_576, description="MiB in its working folder and its server's state, together"
    )

    later: ClassVar = ("cpu_millis", "processes", "disk_mb")


class Replicas(Strict):
    """How many replicas the platform keeps."""

    min: int = Field(default=1, ge=0, le=100, description="fewest; 0: none while nobody calls")
    max: int = Field(default=1, ge=1, le=100, description="most")
    in_flight: int = Field(default=8, ge=1, le=1000, description="calls at once per replica that are aimed at")
    idle_minutes: float = Field(default=15, gt=0, le=1440, description="without a call, then none where min is 0")

    later: ClassVar = ("in_flight", "idle_minutes")

    @model_validator(mode="after")
    def _in_order(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}; max must be at least min")
        return self


class SmokeCall(Strict):
    """A call that a new replica answers before anybody else's: of a read-only tool, made inside its own process."""

    tool: str = Field(description="a tool that is declared read-only")
    arguments: dict[str, Any] = Field(default={}, description="what it is called with")
    expect: str = Field(default="", max_length=500, description="a text that must stand in its answer; none: any")
    within_s: float = Field(default=10, gt=0, le=120, description="seconds it may take")


class Rollout(Strict):
    """How a new release takes over."""

    watch_minutes: float = Field(
        default=5, ge=0, le=1440, description="for which the last release stays ready to take the calls back"
    )
    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        default=(), description="percent of the callers before all of them; none: all at once"
    )
    step_minutes: float = Field(default=5, gt=0, le=1440, description="between two steps")
    errors_percent: float = Field(
        default=5, gt=0, le=100, description="more calls of a hundred that fail than before: it goes back"
    )
    slower: float = Field(default=3, gt=1, le=100, description="times as slow at the median as before: it goes back")
    denials_percent: float = Field(
        default=20,
        gt=0,
        le=100,
        description="more calls of a hundred that its policies deny than before: it goes back",
    )

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError("write steps in rising order, for example [5, 25, 50]")
        return steps


class Manifest(Strict):
    """One server's `pegboard.toml`."""

    name: Name = Field(description="the server's name; its namespace is the operator's")
    entry: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="MODULE:ATTRIBUTE of the Server, for example pegboard_weather.server:server",
    )
    proxy: Proxy | None = Field(
        default=None, description="in place of `entry`: a server that somebody else wrote, and its tools"
    )
    title: str | None = Field(
        default=None, description="the name that people read; the name itself where there is none"
    )
    description: str = Field(min_length=1, max_length=100, description="one line; the registry API's limit is 100")
    owner: Name = Field(description="the owning team, a business group")
    support_channel: str = Field(min_length=2, description="where people ask, for example #data-platform")
    sensitivity: Sensitivity = Field(default="internal", description="of the data that its tools show")
    gallery: bool = Field(default=True, description="false keeps the server out of the public registry API")
    links: dict[LinkName, str] = Field(
        default={}, max_length=MOST_LINKS, description="name to https address: docs, runbook, dashboard"
    )
    uses_models: bool = Field(default=False, description="it sends data to a language model")
    requests: Requests = Field(default=Requests(), description="the access it asks for")
    resources: Resources = Field(default=Resources(), description="what one replica may use")
    replicas: Replicas = Field(default=Replicas(), description="how many replicas the platform keeps")
    smoke: tuple[SmokeCall, ...] = Field(
        default=(), max_length=20, description="calls that a new replica answers before anybody else's"
    )
    rollout: Rollout = Field(default=Rollout(), description="how a new release takes over")
    egress: tuple[str, ...] = Field(default=(), description="host:port pairs the server must reach")
    secrets: dict[str, str] = Field(default={}, description="variable name to reference, env:NAME or file:PATH")

    later: ClassVar = ("smoke", "rollout", "proxy")

    @model_validator(mode="after")
    def _one_origin(self) -> Manifest:
        if self.entry is None and self.proxy is None:
            raise ValueError("entry: missing; say MODULE:ATTRIBUTE of the Server, or [proxy] for a server of others")
        if self.proxy is None:
            return self
        if self.entry is not None:
            raise ValueError("has both entry and [proxy]: keep one")
        for name in (*self.proxy.secrets, *self.proxy.headers.values()):
            if name not in self.secrets:
                raise ValueError(f"[proxy] names the secret {name!a}, which [secrets] does not have")
        if self.proxy.place and self.proxy.place not in self.egress:
            raise ValueError(f'[proxy] url needs egress: write egress = ["{self.proxy.place}"]')
        return self

    @field_validator("links")
    @classmethod
    def _https(cls, links: dict[str, str]) -> dict[str, str]:
        for name, address in links.items():
            if problem := link_problem(address):
                raise ValueError(f"{name} {problem}")
        return links

    @field_validator("secrets")
    @classmethod
    def _by_reference(cls, secrets: dict[str, str]) -> dict[str, str]:
        for name, reference in secrets.items():
            if not _VARIABLE.fullmatch(name) or name.startswith(_RESERVED):
                raise ValueError(
                    f"{name} cannot be a secret's variable: use A-Z, 0-9 and single '_', as in API_TOKEN"
                )
            kind, _, place = reference.partition(":")
            if kind not in ("env", "file") or not place:
                raise ValueError(f"{name} must be a reference, env:NAME or file:PATH, never the secret itself")
            if kind == "env" and not _VARIABLE.fullmatch(place):
                raise ValueError(f"{name} must name a variable in A-Z, 0-9 and single '_' after env:")
        return secrets


def link_problem(address: str) -> str:
    """Why `address` may not be a link on our pages, in words that follow its name; empty when it may.

    Only https: `javascript:` and `data:` run in the page that shows them. Only ASCII without blanks (RFC 3986), and
    no user before the host: what a person reads is where the link leads.
    """
    if len(address) > LONGEST_LINK:
        return f"is longer than {LONGEST_LINK} characters"
    if not _LINK.fullmatch(address):
        return "must be an https:// address in ASCII with a host and no user, for example https://wiki.example/presto"
    return ""


def known_surfaces(surfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Check surface names.

    Raises:
        ValueError: a name is not in `SURFACES`.
    """
    for surface in surfaces:
        if surface not in SURFACES:
            raise ValueError(f"unknown surface {surface!r}; known are {', '.join(SURFACES)}")
    return surfaces


def read_manifest(project: Path) -> Manifest:
    """Read the manifest of the server project in folder `project`.

    Raises:
        ConfigurationError: there is none, or it does not fit.
    """
    path = project / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}"]) from error
    return load_toml(Manifest, text, str(path))
