"""What a check looks at, and what it says. Everything is handed in: a check reads no file and asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from pegboard.core.check.code import Code, read_code
from pegboard.core.manifest import FILE_NAME
from pegboard.core.pins import FILE_NAME as PINS
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import Declaration


@dataclass(frozen=True, slots=True)
class Advisory:
    """One entry of an advisory database (the OSV schema), for a version that is locked.

    Attributes:
        id: `MAL-…` where the package is malicious (OpenSSF malicious-packages), else `PYSEC-…`, `GHSA-…`, `CVE-…`.
        fixed: the first version without it; empty where there is none.
    """

    id: str
    summary: str = ""
    fixed: str = ""

    @property
    def malicious(self) -> bool:
        """Whether the package was made to harm."""
        return self.id.startswith("MAL-")


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What is known of one locked version.

    Attributes:
        yanked: why it was taken back (PEP 592), `"no reason given"` where its maker said none; None: it was not.
        licence: SPDX expression, or the name that its metadata give; empty where it is not known.
    """

    yanked: str | None = None
    advisories: tuple[Advisory, ...] = ()
    licence: str = ""


@dataclass(frozen=True, slots=True)
class OtherServer:
    """A server that is registered.

    Attributes:
        told: whether whoever reads the findings may know of it; else they say no more than that a name is taken.
    """

    name: str
    tools: tuple[str, ...] = ()
    told: bool = True


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator allows.

    Attributes:
        egress: host:port pairs that a server may ask for; None: the reviews decide, and the check says nothing.
        indexes: package indexes (PEP 503) that a lock file may name; the hub's own is one of them. None: any.
        licences_refused: SPDX identifiers of which none may be in a package's licence.
        most_tokens: of the whole tool list; more of them is warned of.
        refuse_tokens: of the whole tool list; more of them is an error. None: never.
    """

    egress: tuple[str, ...] | None = None
    indexes: tuple[str, ...] | None = None
    licences_refused: tuple[str, ...] = ()
    most_tokens: int = 8_000
    refuse_tokens: int | None = None


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        declaration: what the code declares.
        namespace: where it is going to; a policy may look at it.
        files: the project's, by name from its folder on, with `/`.
        packages: what is known of locked versions, by (name, version) as the lock file has them; None: nobody asked.
        others: the other servers there are.
    """

    declaration: Declaration
    namespace: str = "dev"
    files: Mapping[str, bytes] = field(default_factory=dict)
    packages: Mapping[tuple[str, str], PackageFacts] | None = None
    others: tuple[OtherServer, ...] = ()
    allowed: Allowed = Allowed()

    @cached_property
    def code(self) -> Code:
        """The project's Python, read and never run."""
        return read_code(self.files)

    def place_of(self, tool: str) -> str:
        """Where a tool is declared, as far as its code says it; one of somebody else's server where it is pinned."""
        if self.proxied:
            return PINS
        found = self.code.tools.get(tool)
        return found.place if found else FILE_NAME

    @property
    def proxied(self) -> bool:
        """Whether the tools are of a server that somebody else wrote."""
        return self.declaration.manifest.proxy is not None

    @property
    def server(self) -> str:
        """The server's whole name."""
        return f"{self.namespace}/{self.declaration.manifest.name}"


class ToolTokens(BaseModel):
    """What one tool costs in a model's context."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    tokens: int


class LockedPackage(BaseModel):
    """One package of the lock file that the server runs with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    licence: str = ""
    source: str = ""


class Report(BaseModel):
    """What a check said.

    Attributes:
        findings: errors first, then by place.
        tokens: estimated, of the tools as a model reads them (`budget`), the costliest first.
        packages: what the server runs with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    findings: tuple[Finding, ...] = ()
    tokens: tuple[ToolTokens, ...] = ()
    packages: tuple[LockedPackage, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing of it keeps a release from being made."""
        return not any(each.severity is Severity.ERROR for each in self.findings)

    @property
    def total_tokens(self) -> int:
        """Of the whole tool list."""
        return sum(each.tokens for each in self.tokens)

    def count(self, severity: Severity) -> int:
        """How many findings weigh that much."""
        return sum(each.severity is severity for each in self.findings)
