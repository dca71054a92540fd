"""The shapes of the API's answers; OpenAPI is made from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard_hub.registry.status import ServerState
from pegboard_hub.web.questions import LONGEST
from pegboard_hub.web.submission_shapes import ReleaseOrigin


class WhoAmI(BaseModel):
    """The caller, as the token states."""

    sub: str
    sub_type: Literal["person", "service"]
    email: str | None
    groups: list[str]
    surface: str
    channel: str | None
    client_id: str
    act: str | None = Field(description="the registered surface that acts for the person; null: none does")
    expires_at: int = Field(description="seconds since the epoch")


class ToolSummary(BaseModel):
    """A tool this caller may see. Title and description are the author's words: untrusted text."""

    name: str
    title: str | None
    description: str
    minutes_saved: float
    stopped: str = Field(description="why nobody may call it now; empty while it is not stopped")


class ServerSummary(BaseModel):
    """A server this caller may reach from here, or could if it were not stopped."""

    server: str
    title: str | None
    description: str
    owner: str
    support_channel: str
    sensitivity: str
    release: str
    status: ServerState
    status_since: int | None = Field(description="milliseconds since the epoch; null where nobody says")
    status_why: str = Field(description="why it is not live; empty when it is")
    stopped: str = Field(description="why nobody may use it now; empty while it is not stopped")
    resource_url: str
    tools: list[ToolSummary]


class CheckResult(BaseModel):
    """One rule that was looked at."""

    rule: str
    holds: bool
    fact: str
    source: str


class RefusalBody(BaseModel):
    """Why not, by which layer, and what to do."""

    code: str
    message: str
    layer: str
    reason: str
    what_to_do: str
    request_id: str


class AccessAnswer(BaseModel):
    """Whether a caller may use a server."""

    server: str
    allowed: bool
    checks: list[CheckResult]
    refusal: RefusalBody | None


class ExplainedStep(BaseModel):
    """One step of the walk from the edge to the tool. A step that is not reached tells nothing but its name."""

    layer: Literal["edge", "server"]
    rule: str
    outcome: Literal["holds", "fails", "depends", "not reached"]
    fact: str
    source: str
    ask: str


class NeededApproval(BaseModel):
    """An approval that a call waits for, though no rule refuses it."""

    by: str = Field(description="`caller`: the person whose call it is; `owner`: the owner team; else a group")
    asked: str = Field(description="who is asked, in words that follow “approved by”")
    own: bool = Field(description="somebody may approve what they asked for themselves")
    expires_s: int = Field(description="seconds from a request within which it must be decided and used")
    always: bool = Field(description="every call waits; else the tool's code looks at the arguments")
    source: Literal["server", "registry"] = Field(description="who requires it: the tool's code, or the registry")
    why: str = Field(description="what callers and approvers are told; text of whoever required it")


class Explanation(AccessAnswer):
    """What a call by this person would meet. `allowed` tells of the rules, a failing step `server` of the moment."""

    person: str
    surface: str
    tool: str | None
    steps: list[ExplainedStep]
    approvals: list[NeededApproval] = Field(
        description="which approval a call waits for that no rule refuses; two where arguments ask for another one"
    )


class AccessQuestion(BaseModel):
    """May this person or service, on this surface and channel, use this server or tool?"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = Field(max_length=LONGEST, description="NAMESPACE/NAME")
    tool: str | None = Field(default=None, max_length=LONGEST, description="left out: the server as a whole")
    person: str | None = Field(default=None, max_length=LONGEST, description="left out, with service: the asker")
    service: str | None = Field(default=None, max_length=2048, description="SPIFFE ID; excludes person")
    surface: str | None = Field(default=None, max_length=LONGEST, description="left out: from where the asker asks")
    channel: str | None = Field(default=None, max_length=LONGEST, description="of a bot")
    arguments: dict[str, Any] | None = Field(default=None, description="the call's; need a tool")
    scope: str | None = Field(default=None, max_length=LONGEST, description="of the call's token; left out: tools")


class AccessVerdict(BaseModel):
    """What edge and server would decide of a call now. It tells nothing of whether the server runs."""

    server: str
    tool: str | None
    subject: str = Field(description="whose call was decided on: a person's or a service's sub")
    sub_type: Literal["person", "service"]
    surface: str
    channel: str | None
    allowed: bool
    depends_on: list[str] = Field(
        description="arguments that were not given and decide: `allowed` says only that some call may be"
    )
    layer: Literal["edge", "server"] | None = Field(description="which layer refuses; null where none does")
    rule: str | None = Field(description="the rule that does not hold; null where all hold")
    reason: str | None = Field(description="the refusal's reason, as the caller would be told; null where allowed")
    approvals: list[NeededApproval] = Field(
        description="which approval a call waits for that no rule refuses; two where arguments ask for another one"
    )
    refusal: RefusalBody | None


class AccessVerdicts(BaseModel):
    """The answers to a batch of questions, in their order."""

    answers: list[AccessVerdict]


class CallEntry(BaseModel):
    """One call or refusal of the ledger. `at` is in milliseconds since the epoch."""

    id: str
    at: int
    server: str
    release: str
    tool: str
    person: str
    surface: str
    channel: str | None
    client_id: str
    act: str | None = Field(description="the registered surface that acted for the person; null: none did")
    decision: Literal["allowed", "denied"]
    layer: Literal["edge", "server"]
    code: str
    reason: str
    detail: str = Field(description="of a refusal, for the server's owners alone")
    policy: str
    policy_version: str
    status: str = Field(description="ok, tool_error, crashed, cancelled, input_required, running, unknown or denied")
    duration_ms: float | None
    minutes_saved: float
    request_id: str
    trace_id: str
    approval: list[str] = Field(
        default=[], description="ids of the approval requests that were claimed for it, or that it waits for"
    )


class FoundCalls(BaseModel):
    """How much a search finds, of all its pages."""

    count: int
    denied: int = Field(description="of those, refusals")
    unfinished: int = Field(description="of those, allowed calls without an outcome")
    back_to_ms: int | None = Field(
        description="null: every call was looked at; else how far back, in milliseconds since the epoch"
    )


class Calls(BaseModel):
    """Calls, newest first."""

    calls: list[CallEntry]
    found: FoundCalls
    next: str | None = Field(
        description="cursor of the next page, which may be empty and have a next; null where nothing is further back"
    )


class CallLife(CallEntry):
    """One call from its decision to its place in the ledger. Times are milliseconds since the epoch."""

    sub_type: Literal["person", "service"]
    method: str = Field(description="the MCP method, where it was none of a tool's call")
    protocol: str = Field(description="the MCP revision spoken")
    arguments_digest: str = Field(description="keyed: equal for equal arguments on one server, and says nothing else")
    arguments_bytes: int
    error_type: str
    result_digest: str
    result_bytes: int | None
    steps_ms: dict[str, float] = Field(description="how long each step took, in the order they were taken")
    ended_at: int | None
    received_at: int | None = Field(description="when the hub took in the decision")
    outcome_received_at: int | None = Field(description="when the hub took in the outcome")
    unfinished: str = Field(description="why there is no outcome, in words")


class ClientUser(BaseModel):
    """Somebody who has a client connected."""

    sub: str
    name: str
    connections: int


class ClientSummary(BaseModel):
    """A client's software. Name, home page and redirects are its own words: untrusted text."""

    software: str = Field(description="what decisions are kept for")
    kind: Literal["first-party", "registered", "document", "dynamic", "surface"]
    name: str
    redirect_uris: list[str] = Field(description="where answers go")
    uri: str | None = Field(description="its home page, as it says")
    surface: str = Field(description="what its calls count as")
    standing: Literal["unknown", "approved", "blocked"]
    decided_by: str | None
    decided_at: int | None = Field(description="milliseconds since the epoch")
    why: str | None
    users: list[ClientUser]
    connections: int
    last_seen_at: int | None = Field(description="when it last got a token; milliseconds since the epoch")


class ClientsAnswer(BaseModel):
    """The clients that were used or decided on, and the newest of the others."""

    clients: list[ClientSummary]
    never_used: int = Field(description="clients that made themselves known and that nobody has used yet")


ReviewKind = Literal["security", "privacy", "genai"]
ReviewState = Literal["open", "approved", "rejected", "superseded"]


class AccessLists(BaseModel):
    """Who may use a server, and from where. Null: for those alone who look after it."""

    groups: list[str]
    surfaces: list[str]
    channels: list[str] | None
    services: list[str] | None


class ReviewSummary(BaseModel):
    """One review and its outcome. Times are milliseconds since the epoch."""

    id: str
    server: str
    kind: ReviewKind
    state: ReviewState = Field(description="superseded: what it looked at is not asked for any more")
    release: str = Field(description="digest that is looked at; empty: there is no code yet")
    opened_at: int
    opened_by: str = Field(description="who asked for it; `pegboard` where a release came")
    decided_at: int | None
    decided_by: str | None = Field(description="a person, or `grants file`")
    conditions: str
    granted: AccessLists | None = Field(description="the access that was approved")
    waits_for_you: bool = Field(description="whether you may decide on it, at its page")
    page: str = Field(description="where it is decided: in a browser, by a person; never with a token")


class ReviewsAnswer(BaseModel):
    """Reviews, those that were opened last first."""

    reviews: list[ReviewSummary]
    next: str | None = Field(description="cursor of the next page; null after the last")


class ReviewChange(BaseModel):
    """Something that is not as it was when it was last approved. Its author's words are in it: untrusted text."""

    what: str
    before: Any
    after: Any


class ReviewComment(BaseModel):
    """What somebody said of a review: untrusted text."""

    at: int
    author: str
    text: str


class ReviewItem(BaseModel):
    """One item of the checklist."""

    item: str
    holds: bool


class ReviewDetail(ReviewSummary):
    """One review, with all of it for the server's owners, reviewers and operators."""

    requested: AccessLists | None = Field(description="null for those who are not involved")
    outcome_why: str
    opened_why: str | None = Field(description="null for those who are not involved")
    checklist: list[ReviewItem] | None = Field(description="null for those who are not involved")
    changes: list[ReviewChange] | None = Field(description="null for those who are not involved")
    comments: list[ReviewComment] | None = Field(description="null for those who are not involved")
    origin: ReleaseOrigin | None = Field(
        description="where its code comes from; null where it was not submitted, and for those who are not involved"
    )
    version: int
