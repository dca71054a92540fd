"""The shapes of what the API tells of the registry, and of what it is asked. OpenAPI is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pegboard.core.declared import LONGEST_TITLE
from pegboard.core.manifest import MOST_LINKS, Sensitivity
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN, PERSON_SURFACES
from pegboard_hub.registry.query import LONGEST_TEXT
from pegboard_hub.registry.record import (
    LONGEST_CHANNEL,
    LONGEST_DESCRIPTION,
    LONGEST_WHY,
)
from pegboard_hub.registry.status import ServerState
from pegboard_hub.registry.tables import SERVER_LENGTH
from pegboard_hub.web.api.schema import AccessLists, ServerSummary, ToolSummary
from pegboard_hub.web.paging import MOST_ON_A_PAGE, AskedPage

LifecycleWord = Literal["draft", "in review", "approved", "live", "deprecated", "retired"]

NAME = f"^{NAME_PATTERN}$"

Name = Annotated[str, Field(pattern=NAME, min_length=NAME_LENGTH[0], max_length=NAME_LENGTH[1])]


def _surface(text: str) -> str:
    if text not in PERSON_SURFACES:
        raise ValueError(f"unknown surface; known are {', '.join(PERSON_SURFACES)}")
    return text


Surface = Annotated[str, AfterValidator(_surface), Field(json_schema_extra={"enum": list(PERSON_SURFACES)})]
"""Where a person can call from."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# Questions


class AskedFromSurface(_Strict):
    """From where the tools are looked at."""

    surface: Surface | None = Field(default=None, description="as if you called from there; left out: from here")


class AskedTools(AskedFromSurface):
    """Which tools of a server."""

    all: bool = Field(default=False, description="those too that are not listed for you; for the server's insiders")
    release: str | None = Field(
        default=None,
        max_length=64,
        pattern="^[0-9a-z.]+$",
        description="digest or version; all tools of that release, for insiders. Left out: what is deployed",
    )


class AskedServers(AskedPage):
    """Which servers."""

    # Older clients know of no pages: what they are given is as much as there can be.
    limit: int = Field(
        default=MOST_ON_A_PAGE, ge=1, le=MOST_ON_A_PAGE, description="most entries of this page", examples=[50]
    )
    q: str = Field(default="", max_length=LONGEST_TEXT, description="words, each of which must match: in the name, "
                   "the title, a tool that you may list, or the description; in that order")  # fmt: skip
    owner: list[Name] = Field(default=[], max_length=20, description="teams")
    namespace: list[Name] = Field(default=[], max_length=20)
    sensitivity: list[Sensitivity] = Field(default=[], max_length=len(get_args(Sensitivity)))
    lifecycle: list[LifecycleWord] = Field(default=[], max_length=len(get_args(LifecycleWord)))
    status: list[ServerState | Literal["stopped"]] = Field(default=[], max_length=len(get_args(ServerState)) + 1)
    usable_from: Surface | None = Field(default=None, description="only those that you may use from there")
    surface: Surface | None = Field(default=None, description="the same; what older clients ask with")
    all: bool = Field(
        default=False, description="those too that you may not use; otherwise only what you may use from here"
    )
    tools: bool = Field(default=True, description="with the tools that are listed for you; false is faster")


class AskedMyServers(AskedPage, AskedFromSurface):
    """Which part of the servers that you may use."""


class AskedMyTools(AskedPage, AskedFromSurface):
    """Which part of the tools that you may use."""


class AskedHistory(AskedPage):
    """Which changes."""

    actor: str | None = Field(
        default=None, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$", description="only by this one"
    )


class DraftBody(_Strict):
    """A server to be registered, as its team describes it. It can be called only once it is reviewed and deployed."""

    server: str = Field(
        min_length=5,
        max_length=SERVER_LENGTH,
        pattern=f"^{NAME_PATTERN}/{NAME_PATTERN}$",
        description="NAMESPACE/NAME",
    )
    title: str | None = Field(default=None, min_length=1, max_length=LONGEST_TITLE)
    description: str = Field(min_length=1, max_length=LONGEST_DESCRIPTION, description="one line")
    owner: str = Field(
        min_length=NAME_LENGTH[0],
        max_length=NAME_LENGTH[1],
        pattern=NAME,
        description="the owning team: one of yours; operators may name any that has people or servers here",
    )
    support_channel: str = Field(min_length=1, max_length=LONGEST_CHANNEL, description="where people ask")
    links: dict[str, str] = Field(default={}, max_length=MOST_LINKS, description="name to https address")
    sensitivity: Sensitivity = Field(description="of the data that its tools show")
    uses_models: bool = Field(
        default=False, description="whether it sends data to a language model: then there is a GenAI review, too"
    )
    gallery: bool = Field(
        default=False, description="whether it may stand in the list that needs no sign-in, once it is live"
    )
    why: str = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class DraftChecked(BaseModel):
    """A draft that could be made."""

    server: str = Field(description="what it would be called")


class DraftChange(_Strict):
    """What of a draft is to be another; what is left out stays."""

    title: str | None = Field(default=None, max_length=LONGEST_TITLE, description="null takes it away")
    description: str = Field(default="", min_length=1, max_length=LONGEST_DESCRIPTION, description="one line")
    owner: str = Field(default="", min_length=NAME_LENGTH[0], max_length=NAME_LENGTH[1], pattern=NAME)
    support_channel: str = Field(default="", min_length=1, max_length=LONGEST_CHANNEL)
    links: dict[str, str] = Field(default={}, max_length=MOST_LINKS, description="they replace those that were")
    sensitivity: Sensitivity = "restricted"
    uses_models: bool = Field(default=False, description="whether it sends data to a language model")
    gallery: bool = Field(default=False, description="whether it may stand in the list that needs no sign-in")
    why: str = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class AskedRetire(_Strict):
    """Why a draft is given up."""

    why: str = Field(min_length=1, max_length=LONGEST_WHY, description="for the history")


class Claims(_Strict):
    """What a client believes of a server."""

    server: str = Field(min_length=1, max_length=255, description="NAMESPACE/NAME")
    endpoint: str | None = Field(default=None, max_length=2048, description="the URL that it is about to call")
    release: str | None = Field(default=None, max_length=64, description="digest or version that it knows")
    tools_digest: str | None = Field(
        default=None, max_length=64, description="of the tools that it was listed; `…/tools` says how it is made"
    )


# Answers


class CatalogueEntry(ServerSummary):
    """A server that this caller may know of. Its words are its team's: untrusted text."""

    release: str | None = Field(description="digest of what is deployed; null while nothing is")  # type: ignore[assignment]
    semver: str = Field(description="the version that the release maps to; empty while nothing is deployed")
    lifecycle: LifecycleWord
    lifecycle_why: str = Field(description="why it is deprecated or retired; empty otherwise")
    ends_at: int | None = Field(
        default=None, description="when it closes, in milliseconds since the epoch; null: nobody said"
    )
    successor: str | None = Field(default=None, description="what to use instead; null: nobody said")
    usable: bool = Field(description="whether the grants let you call it from here, were it not stopped")
    tools: list[ToolSummary] = Field(description="those that are listed for you")


class CataloguePage(BaseModel):
    """A page of servers: by the field that matches, then by name."""

    servers: list[CatalogueEntry]
    next: str | None = Field(description="cursor of the next page; null after the last")


class ReviewOutcome(BaseModel):
    """How the newest review of one kind stands. Times are milliseconds since the epoch."""

    kind: Literal["security", "privacy", "genai"]
    state: Literal["open", "approved", "rejected"]
    opened_at: int
    decided_at: int | None
    decided_by: str | None
    why: str | None = Field(description="in the reviewer's words; null for all but those who may know all of it")
    conditions: str | None = Field(description="under which it was approved; null as `why` is")


class YourPart(BaseModel):
    """What the caller is to this server."""

    usable: bool = Field(description="the grants let you call it from here, were it not stopped")
    owner: bool = Field(description="you are in its owner team")
    insider: bool = Field(description="you may know all of its tools and everybody's access")
    may_edit: bool = Field(description="you may edit it here: drafts alone are edited here")


class Inside(BaseModel):
    """What those alone may know who look after a server: its team, reviewers, operators and security."""

    version: int = Field(description="counts up with each change")
    updated_at: int = Field(description="milliseconds since the epoch")
    requested: AccessLists = Field(description="what its author asks for")
    waiting: str | None = Field(description="digest of the release that waits for reviews")


class ServerDetail(BaseModel):
    """Everything of a server that this caller may know. Its words are its team's: untrusted text."""

    server: str
    title: str | None
    description: str
    owner: str
    support_channel: str
    links: dict[str, str] = Field(description="name to https address")
    sensitivity: Sensitivity
    gallery: bool = Field(description="the public registry API may list it")
    uses_models: bool = Field(description="it sends data to a language model")
    lifecycle: LifecycleWord
    lifecycle_why: str
    ends_at: int | None = Field(
        default=None, description="when it closes, in milliseconds since the epoch; null: nobody said"
    )
    successor: str | None = Field(default=None, description="what to use instead; null: nobody said")
    out_of_reach: str = Field(
        description="what keeps everybody from calling it, after “it is”; empty where it can be"
    )
    status: ServerState
    status_since: int | None = Field(description="milliseconds since the epoch; null where nobody says")
    status_why: str = Field(description="why it is not live; empty when it is")
    stopped: str = Field(description="why nobody may use it now; empty while it is not stopped")
    release: str | None = Field(description="digest of what is deployed; null while nothing is")
    semver: str
    resource_url: str = Field(description="its MCP endpoint, which is also the audience of its tokens")
    granted: AccessLists
    reviews: list[ReviewOutcome]
    first_live_at: int | None = Field(description="when it could first be called; milliseconds since the epoch")
    you: YourPart
    inside: Inside | None = Field(description="null for all others")


class ToolDetail(ToolSummary):
    """A tool with all that its author declared. Title, description and schemas are untrusted text."""

    policy: str = Field(description="name of the Cedar policy that decides on it")
    read_only: bool = Field(description="it changes nothing, as its author says")
    destructive: bool | None = Field(description="its author's hint; null: nothing said")
    idempotent: bool | None = Field(description="its author's hint; null: nothing said")
    open_world: bool | None = Field(description="its author's hint; null: nothing said")
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None


class ToolList(BaseModel):
    """The tools of a server that this caller may know."""

    server: str
    release: str | None = Field(description="digest of the release that they are of; null where none is deployed")
    tools: list[ToolDetail]
    tools_digest: str = Field(
        description="SHA-256 in hex of a JSON array: an object of `name`, `description` and `inputSchema` for each "
        "of these tools, in order of name; UTF-8, keys sorted, no space between tokens"
    )


class ReleaseEntry(BaseModel):
    """One release. Times are milliseconds since the epoch."""

    digest: str
    semver: str
    state: Literal["deployed", "waiting", "earlier", "not approved"]
    seen_at: int
    approved_at: int | None
    deployed_at: int | None


class Releases(BaseModel):
    """Releases, the newest first. Those that could never be called are for those alone who look after the server."""

    releases: list[ReleaseEntry]
    next: str | None = Field(description="cursor of the next page; null after the last")


class ReleaseDetail(ReleaseEntry):
    """One release with what it declares, for those who may know it."""

    server: str
    tools: list[ToolDetail] | None = Field(description="all of them, for the server's insiders; null for others")
    requested: AccessLists | None = Field(description="what its author asks for; null for others")


class FieldChange(BaseModel):
    """What a field was, and what it is since."""

    field: str
    before: Any
    after: Any


class HistoryEntry(BaseModel):
    """One change. What of it names tools, policies or sources is for the server's insiders alone."""

    seq: int
    at: int = Field(description="milliseconds since the epoch")
    server: str
    version: int | None = Field(description="of the server, that the change made; null for all but insiders")
    actor: str
    actor_kind: Literal["person", "operator", "file", "system", "service"]
    action: str
    why: str | None = Field(description="null where it could speak of fields that you may not see")
    fields: list[FieldChange]


class HistoryPage(BaseModel):
    """Changes, the newest first."""

    entries: list[HistoryEntry]
    shortened: bool = Field(
        description="true where you are not in the circle of the server: what not everybody may read is left out"
    )
    next: str | None = Field(
        description="cursor of the next page, which may be empty and have a next; null where nothing is further back"
    )


class MyTool(ToolSummary):
    """A tool that is listed for this caller, with where it is."""

    server: str
    lifecycle: LifecycleWord = Field(description="of its server")
    lifecycle_why: str = Field(description="why its server is deprecated; empty otherwise")
    policy: str
    read_only: bool
    resource_url: str


class MyTools(BaseModel):
    """Tools across servers, in order of server and name."""

    surface: str = Field(description="from where they are listed")
    tools: list[MyTool]
    next: str | None = Field(description="cursor of the next page; null after the last")


class Verdict(BaseModel):
    """Whether one claim holds, and why."""

    claim: Literal["server", "approved", "endpoint", "release", "tools_digest"]
    holds: bool
    reason: str


class Validation(BaseModel):
    """Whether a server is what a client believes it to be."""

    server: str = Field(description="as it was asked about")
    valid: bool = Field(description="all claims hold")
    verdicts: list[Verdict] = Field(description="on the server, on whether it is approved, and on each further claim")


class TeamSummary(BaseModel):
    """A team that owns servers which this caller may know of."""

    team: str
    yours: bool
    servers: int
    support_channels: list[str]


class Teams(BaseModel):
    """Teams in order of name."""

    teams: list[TeamSummary]
    next: str | None = Field(description="cursor of the next page; null after the last")


class Team(TeamSummary):
    """A team with its servers, in order of name."""

    owned: list[CatalogueEntry]
    next: str | None = Field(description="cursor of the next page; null after the last")


class MissedChange(BaseModel):
    """A change that somebody made meanwhile."""

    version: int
    at: int
    actor: str
    action: str
    why: str
    fields: list[str]
