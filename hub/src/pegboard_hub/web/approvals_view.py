"""Approvals as the API tells them, and what is read of a request to take one back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.approval import Kind, Preview, Requirement, State
from pegboard_hub.approvals.deciding import LONGEST_WHY
from pegboard_hub.approvals.errors import ApprovalRefused, Code
from pegboard_hub.approvals.model import Event, Request
from pegboard_hub.common.requests import Refused, refuse

STATUSES: Final[Mapping[Code, int]] = {
    "unknown": 404,
    "not_yours": 403,
    "own_request": 403,
    "stopped": 403,
    "token_refused": 403,
    "not_for_services": 403,
    "expired": 409,
    "already_decided": 409,
    "changed": 409,
    "not_ended": 409,
    "server_changed": 409,
    "call_id_used": 409,
    "too_many": 429,
}
"""What each code of an `ApprovalRefused` is over HTTP, at every door; any other makes no sense, 422."""

_CODES = {403: "access_denied", 404: "not_found", 409: "conflict", 422: "invalid_request", 429: "too_many_requests"}


class ApprovalSummary(BaseModel):
    """One action that somebody must say yes to. Times are milliseconds since the epoch."""

    id: str
    batch: str = Field(description="the same for what was asked for together")
    kind: Kind = Field(description="confirm: the caller themselves is asked, by their client or on the page")
    state: State = Field(description="unknown: it was about to run, and nobody can say whether it did")
    person: str = Field(description="whose call it is")
    act: str | None = Field(description="the surface that acts for them; null: none does")
    server: str
    release: str
    tool: str
    what: str = Field(description="what would happen, in a line of the tool's own: untrusted text; empty: not said")
    asks: str = Field(description="who decides, in words that follow “waiting for”")
    requested_at: int
    expires_at: int = Field(description="until then it must be decided and the call made again")
    decided_at: int | None
    decided_by: str | None = Field(description="by name; null: nobody decided")
    ended_at: int | None
    waits_for_you: bool = Field(description="you may decide on it, on its page")
    page: str = Field(description="where people look at it and decide; the link has no power of its own")


class ApprovalsAnswer(BaseModel):
    """A page of requests."""

    approvals: list[ApprovalSummary]
    next: str | None


class ApprovalEvent(BaseModel):
    """One step in the life of a request."""

    at: int
    before: State | None
    after: State
    who: str | None = Field(description="by name; null: Pegboard by itself")
    why: str
    door: str = Field(description="where it came from: server, form, page, api, ledger or clock")
    shown: str = Field(description="digest of what was shown to who decides")


class ApprovalDetail(ApprovalSummary):
    """One request: what exactly would run, what the tool says of it, and what became of it."""

    arguments: dict[str, Any] | None = Field(description="as they run if approved; null: no longer kept")
    arguments_digest: str = Field(description="SHA-256 of their canonical JSON (RFC 8785), in hex")
    preview: Preview | None = Field(description="of the tool's own: untrusted text")
    requirement: Requirement
    policy: str
    policy_version: str
    surface: str
    client: str
    why: str = Field(description="of who decided or took it back; else what ended it")
    claimed_at: int | None
    call_id: str | None = Field(description="the call that ran it, in the ledger")
    beside: list[str] = Field(description="the others of its batch that you may see")
    events: list[ApprovalEvent] = Field(description="oldest first")


class WithdrawBody(BaseModel):
    """Why something is taken back."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(default="", max_length=LONGEST_WHY, description="for the history")


Whose = Literal["waiting", "mine"]


def summary(request: Request, asks: str, waits: bool, public_url: str) -> dict[str, Any]:
    """The values of an `ApprovalSummary`.

    Args:
        request: what is told.
        asks: who decides, in words.
        waits: whether it waits for the reader.
        public_url: the edge's origin.
    """
    return {
        "id": request.id,
        "batch": request.batch,
        "kind": request.kind,
        "state": request.state,
        "person": request.person,
        "act": request.act or None,
        "server": request.server,
        "release": request.release,
        "tool": request.tool,
        "what": request.preview.what if request.preview else "",
        "asks": asks,
        "requested_at": request.requested_at_ms,
        "expires_at": request.expires_at_ms,
        "decided_at": request.decided_at_ms,
        "decided_by": request.decided_by_name or request.decided_by or None,
        "ended_at": request.ended_at_ms,
        "waits_for_you": waits,
        "page": f"{public_url}/approvals/{request.id}",
    }


def detail(request: Request, beside: Iterable[Request]) -> dict[str, Any]:
    """What an `ApprovalDetail` has beside its summary."""
    return {
        "arguments": None if request.arguments is None else dict(request.arguments),
        "arguments_digest": request.arguments_digest,
        "preview": request.preview,
        "requirement": request.requirement,
        "policy": request.policy,
        "policy_version": request.policy_version,
        "surface": request.surface,
        "client": request.client,
        "why": request.why,
        "claimed_at": request.claimed_at_ms,
        "call_id": request.call_id or None,
        "beside": [each.id for each in beside],
        "events": [_event(event) for event in request.events],
    }


def approval_refusal(error: ApprovalRefused) -> Refused:
    """An `ApprovalRefused` over HTTP."""
    status = STATUSES.get(error.code, 422)
    message = f"{error.field}: {error.message}" if status == 422 else error.message
    return refuse(status, _CODES[status], message, error.mend, error.code)


def _event(event: Event) -> ApprovalEvent:
    return ApprovalEvent(
        at=event.at_ms,
        before=event.before,
        after=event.after,
        who=event.who_name or event.who or None,
        why=event.why,
        door=event.door,
        shown=event.shown,
    )
