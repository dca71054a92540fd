"""The shapes of what the API tells of submissions, and of what it is asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pegboard.core.manifest import Name
from pegboard.core.publishing import Provenance, State
from pegboard.core.spiffe import is_spiffe_id
from pegboard.core.text import hidden_in
from pegboard_hub.publishing.orders import LONGEST_WAIT_S
from pegboard_hub.publishing.publishers import LONGEST
from pegboard_hub.registry.record import LONGEST_WHY
from pegboard_hub.web.paging import AskedPage


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _line(text: str) -> str:
    if hidden := hidden_in(text):
        raise ValueError(f"it {hidden}")
    return text.strip()


def _lines(text: str) -> str:
    if hidden := hidden_in(text, lines=True):
        raise ValueError(f"it {hidden}")
    return text.strip()


def _address(text: str) -> str:
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("leave credentials out of the address")
    return _line(text)


def _service(text: str) -> str:
    if not is_spiffe_id(text):
        raise ValueError("it is no SPIFFE ID; write it as spiffe://example.org/ci/weather")
    return text


Line = Annotated[str, AfterValidator(_line)]
Service = Annotated[str, Field(max_length=LONGEST), AfterValidator(_service)]


class AskedSubmit(_Strict):
    """Where a submitted project came from, in the submitter's words."""

    kind: Literal["folder", "git", "ci"] = Field(default="folder", description="what it was submitted from")
    message: Annotated[str, AfterValidator(_lines)] = Field(
        default="", max_length=2000, description="what is new, for those who review"
    )
    repository: Annotated[str, AfterValidator(_address)] = Field(
        default="", max_length=500, description="address of the repository, without credentials"
    )
    commit: str = Field(default="", max_length=64, pattern="^[0-9a-f]*$")
    dirty: bool = Field(default=False, description="there were changes that are in no commit")
    job: Annotated[str, AfterValidator(_address)] = Field(
        default="", max_length=500, description="address of the job that submits it"
    )

    @property
    def provenance(self) -> Provenance:
        """As it is kept."""
        return Provenance(**self.model_dump())


class AgainBody(_Strict):
    """Where the same source is submitted to."""

    namespace: Name
    message: Annotated[str, AfterValidator(_lines)] = Field(
        default="", max_length=2000, description="what is new, for those who review"
    )


class AskedSubmissions(AskedPage):
    """Which submissions, and which part of them."""

    state: State | None = Field(default=None, description="only in this state")


class AskedEvents(_Strict):
    """Which events."""

    after: int = Field(default=0, ge=0, le=2**62, description="the number of the last one that you know")
    wait_s: float = Field(
        default=0, ge=0, le=LONGEST_WAIT_S, description="seconds for which the answer is held until there is more"
    )


class AskedTakeBack(_Strict):
    """Why a submission is taken back."""

    why: Line = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class PublisherBody(_Strict):
    """A service that may submit releases of a server."""

    service: Service
    why: Line = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class AskedPublisher(_Strict):
    """Which publisher is taken away."""

    service: Service
    why: Line = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class TroubleBody(BaseModel):
    """Why a release stands still. Its author's words may be in it: untrusted text."""

    step: str
    what: str
    mend: str


class FindingBody(BaseModel):
    """Something that the hub's check found. Its author's words may be in it: untrusted text."""

    code: str
    severity: str
    place: str
    what: str
    fix: str


class SubmissionChange(BaseModel):
    """Something that differs from the release that served before. Its author's words are in it: untrusted text."""

    what: str
    before: Any
    after: Any


class SubmissionReview(BaseModel):
    """A review that looks at a release."""

    id: str
    kind: str
    state: str
    page: str


class CameFrom(BaseModel):
    """Where code comes from. Who submitted it is sure; the rest is their word: untrusted text."""

    submitted_by: str = Field(description="a person, a service by its SPIFFE ID, or the operator; the token says it")
    submitted_by_kind: Literal["person", "service", "operator"]
    kind: str = Field(description="folder, git, ci or operator")
    repository: str = Field(description="its address; empty where nobody said")
    commit: str
    dirty: bool = Field(description="there were changes that are in no commit")
    job: str = Field(description="address of the CI job; empty where nobody said")


class SubmissionSummary(BaseModel):
    """A submission. Times are milliseconds since the epoch."""

    id: str
    server: str
    state: State
    step: str = Field(description="what it is at, or waits for")
    source: str = Field(description="digest of what was submitted")
    release: str | None = Field(description="digest of the release; null before it is built")
    version: str | None = Field(description="of the release; null before the registry has it")
    message: str
    submitted_by: str
    submitted_by_kind: Literal["person", "service", "operator"]
    at: int
    updated_at: int
    page: str


class SubmissionDetail(CameFrom, SubmissionSummary):
    """A submission with all that there is to know of it."""

    trouble: TroubleBody | None
    findings: list[FindingBody] = Field(description="of the hub's own check, errors first")
    changes: list[SubmissionChange] = Field(
        description="what differs from the release that served before it, or from nothing"
    )
    reviews: list[SubmissionReview]
    sbom: str | None = Field(description="digest of the CycloneDX document")
    artifact: str | None = Field(description="digest of what was built")
    sandboxed: bool | None = Field(description="its tools were read in a sandbox; null before")
    attempt: int = Field(description="how often it was given to a builder")


class ChangedPackage(BaseModel):
    """A package that is not as in the release that was live before. Empty: it was not there, or is not any more."""

    name: str
    before: str
    now: str


class ReleaseOrigin(CameFrom):
    """Where the code of a release that is reviewed comes from."""

    submission: str
    page: str = Field(description="the submission, with all that it changes")
    submitted_at: int = Field(description="milliseconds since the epoch")
    message: str = Field(description="what is new, as whoever submitted it says")
    source: str = Field(description="digest of what was submitted")
    same_code: bool = Field(description="the source is the one that was live before")
    first: bool = Field(description="nothing of the server was live before, so all its packages are new")
    packages: list[ChangedPackage] = Field(description="that differ from those of what was live before")
    more_packages: int = Field(description="further ones that differ, and are not told")
    warnings: list[FindingBody] = Field(description="of the hub's own check; they keep nothing from happening")


class SubmissionsAnswer(BaseModel):
    """A page of submissions, newest first."""

    submissions: list[SubmissionSummary]
    next: str | None = Field(description="cursor of the next page; null on the last")


class SubmissionEvent(BaseModel):
    """One step of a release's way."""

    seq: int
    at_ms: int
    state: State
    step: str
    what: str
    who: str


class EventsAnswer(BaseModel):
    """What happened to a submission, oldest first."""

    events: list[SubmissionEvent]
    state: State = Field(description="where it is now")
    next: int = Field(description="what to ask `after` next time")


class PublisherItem(BaseModel):
    """A service that may submit releases of a server, and who said so."""

    service: str
    why: str
    named_by: str
    at: int


class PublishersAnswer(BaseModel):
    """The services that may submit releases of a server."""

    publishers: list[PublisherItem]
