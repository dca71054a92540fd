"""The shapes of the API's answers; OpenAPI is made from them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from pegboard_hub.registry.status import ServerState


class WhoAmI(BaseModel):
    """The caller, as the token states."""

    sub: str
    sub_type: Literal["person", "service"]
    email: str | None
    groups: list[str]
    surface: str
    channel: str | None
    client_id: str
    expires_at: int = Field(description="seconds since the epoch")


class ToolSummary(BaseModel):
    """A tool this caller may see. Title and description are the author's words: untrusted text."""

    name: str
    title: str | None
    description: str
    minutes_saved: float


class ServerSummary(BaseModel):
    """A server this caller may reach from here."""

    server: str
    title: str | None
    description: str
    owner: str
    support_channel: str
    sensitivity: str
    release: str
    status: ServerState
    resource_url: str
    tools: list[ToolSummary]


class Servers(BaseModel):
    """The servers a caller may reach."""

    servers: list[ServerSummary]


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


class Explanation(AccessAnswer):
    """What a call by this person would meet."""

    person: str
    surface: str
    tool: str | None


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


class Calls(BaseModel):
    """Calls, newest first."""

    calls: list[CallEntry]
