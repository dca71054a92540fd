"""Publishing: the words that authors' command, hub and runtime share, from a submitted project to a live release.

    submitted ─ built ─ checked ─┬─ in review ─┬─ approved ─ deploying ─ live ─┬─ superseded
        │         │        │     └─────────────┘                │             └─ rolled back
        └─────────┴────────┴── failed ◀── (in review) ──────────┘

A *source* is the project as its author submitted it: one archive, named by its SHA-256. An *artifact* is what the
builder made of it: a document that names every file by digest (`Artifact`), itself named by its SHA-256. A *release*
is what the registry, edge and kit know: the digest of the declaration, which has the artifact's in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hex."""

SOURCE_TYPE: Final = "application/vnd.pegboard.source.v1.tar+gzip"
"""Media type of a submitted project."""

LARGEST_SOURCE: Final = 32 * 1024 * 1024
"""Bytes of a source archive."""

RELEASE_TYPE: Final = "pegboard-release+jws"
"""`typ` of the signature over a release (`SignedRelease`)."""

_STRICT: Final = ConfigDict(extra="forbid", frozen=True)


class State(StrEnum):
    """Where a release is in its life."""

    SUBMITTED = "submitted"
    BUILT = "built"
    CHECKED = "checked"
    IN_REVIEW = "in review"
    APPROVED = "approved"
    DEPLOYING = "deploying"
    LIVE = "live"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.SUBMITTED: frozenset({State.BUILT, State.FAILED, State.SUPERSEDED}),
    State.BUILT: frozenset({State.CHECKED, State.FAILED, State.SUPERSEDED}),
    State.CHECKED: frozenset({State.IN_REVIEW, State.APPROVED, State.FAILED, State.SUPERSEDED}),
    # Whoever reviews may refuse it; a newer one takes its place.
    State.IN_REVIEW: frozenset({State.APPROVED, State.FAILED, State.SUPERSEDED}),
    State.APPROVED: frozenset({State.DEPLOYING, State.SUPERSEDED}),
    State.DEPLOYING: frozenset({State.LIVE, State.FAILED, State.ROLLED_BACK, State.SUPERSEDED}),
    State.LIVE: frozenset({State.SUPERSEDED, State.ROLLED_BACK}),
    # Somebody goes back to one that served, or tries one again whose trouble was outside it.
    State.SUPERSEDED: frozenset({State.DEPLOYING}),
    State.ROLLED_BACK: frozenset({State.DEPLOYING}),
    # A review that said no is opened again. Another try at building is another submission.
    State.FAILED: frozenset({State.IN_REVIEW, State.DEPLOYING}),
}
"""Every transition there is."""

UNDER_WAY: Final = frozenset({State.SUBMITTED, State.BUILT, State.CHECKED, State.APPROVED, State.DEPLOYING})
"""What the platform works on by itself; `IN_REVIEW` waits for people, the others are at rest."""


class Severity(StrEnum):
    """What a finding keeps from happening: an error a release, a warning nothing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(BaseModel):
    """Something that a check found.

    Attributes:
        code: of the rule, stable, for example `PB101`; the reference page has one entry for each.
        place: file, with `:line` where there is one, from the project's folder on.
        what: what is wrong, naming the thing.
        fix: what to do.
    """

    model_config = _STRICT

    code: Annotated[str, StringConstraints(pattern=r"^PB\d{3}$")]
    severity: Severity
    place: str
    what: str
    fix: str = ""


class Provenance(BaseModel):
    """Where a submitted project came from, in the submitter's words; who submitted it is the token's."""

    model_config = _STRICT

    kind: Literal["folder", "git", "ci", "operator"] = "folder"
    repository: str = Field(default="", max_length=500, description="address of the repository, without credentials")
    commit: str = Field(default="", max_length=64)
    dirty: bool = Field(default=False, description="there were changes that are in no commit")
    job: str = Field(default="", max_length=500, description="address of the job that submitted it")
    message: str = Field(default="", max_length=2000, description="what is new, for those who review")


class ArtifactFile(BaseModel):
    """One file of an artifact.

    Attributes:
        origin: `own`: built from the source, kept by the hub; `platform`: the kit, from the hub's package index;
            `index`: a package of the lock file, fetched by digest from `url`.
    """

    model_config = _STRICT

    name: str
    version: str = ""
    sha256: Digest
    size: int = Field(default=0, ge=0)
    origin: Literal["own", "platform", "index"]
    url: str = ""


class Artifact(BaseModel):
    """What the builder made of a source: equal sources give equal artifacts, byte for byte.

    Attributes:
        files: wheels to install, and what else it needs, by name.
        project: digest of the archive with manifest, policies and pins that a process is given.
        python: `major.minor` that it was built for.
        image: the author's own image by digest, in place of files; empty without.
    """

    model_config = _STRICT

    format: Literal[1] = 1
    server: str
    source: Digest
    lock: Digest
    project: Digest
    python: str
    kit: str = Field(description="version of the kit in it")
    files: tuple[ArtifactFile, ...] = ()
    image: str = ""

    def text(self) -> str:
        """Its canonical form: sorted keys, no blanks."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """Its content address: SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.text().encode()).hexdigest()


class SignedRelease(BaseModel):
    """What the hub signs once a release is checked: this artifact, declaring this, is that release of that server."""

    model_config = _STRICT

    server: str
    release: Digest
    artifact: Digest
    source: Digest
    sbom: Digest
    submitted_by: str
    at: int = Field(description="seconds since the epoch")


class Trouble(BaseModel):
    """Why a release stands still: what happened, and what its author can do."""

    model_config = _STRICT

    step: str
    what: str
    mend: str = ""


class Event(BaseModel):
    """One step of a release's way, as its author reads it while it goes."""

    model_config = _STRICT

    seq: int
    at_ms: int
    state: State
    step: str = Field(description="a word or two: installing, reading its tools, smoke calls, watching")
    what: str = ""
    who: str = ""


def sha256(content: bytes) -> str:
    """The digest that everything here is named by."""
    return hashlib.sha256(content).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
