"""Approvals that the registry requires, as the API and the internal door tell them, and what is read of a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.approval import LONGEST_S, SHORTEST_S, USUAL_S, Requirement
from pegboard.core.names import NAME_LENGTH
from pegboard.core.required import asked
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.requiring.errors import Reason, RequiringRefused
from pegboard_hub.requiring.model import Event, Standing
from pegboard_hub.requiring.notes import notes
from pegboard_hub.requiring.service import LONGEST_REASON, MOST_EVENTS, Who
from pegboard_hub.web.impact_view import known_people
from pegboard_hub.web.parts import Parts

STATUSES: dict[Reason, int] = {"not_yours": 403, "widens": 403, "unknown": 404, "not_required": 404, "invalid": 422}
"""What each reason of a `RequiringRefused` is over HTTP."""

_CODES = {403: "access_denied", 404: "not_found", 422: "invalid_request"}

LONGEST_TOOL = 2 * NAME_LENGTH[1] + 2 + 64
"""Characters of `namespace/server/tool`."""


class ApprovalTerms(BaseModel):
    """Who must say yes, and for how long a yes is good."""

    by: str = Field(description="`caller`: the person whose call it is; `owner`: the owner team; else a group")
    own: bool = Field(description="somebody may approve what they asked for themselves")
    expires_s: int = Field(description="seconds from a request within which it must be decided and used")
    why: str = Field(description="what callers and approvers are told; text of whoever required it")

    @classmethod
    def of(cls, requirement: Requirement) -> ApprovalTerms:
        """A requirement, told."""
        return cls(**{name: getattr(requirement, name) for name in cls.model_fields})


class RequiredApproval(ApprovalTerms):
    """A tool that runs only with an approval, whatever its code says. Times are milliseconds since the epoch."""

    tool: str = Field(description="`namespace/server/tool`")
    asked: str = Field(description="who is asked, in words that follow “approved by”")
    required_by: str = Field(description="who required it; `operator` at the machine")
    since: int
    notes: list[str] = Field(description="what to look at, as that nobody is in the group; a sentence each")


class RequiredApprovals(BaseModel):
    """The tools that need an approval as the registry says, as far as they are the caller's to know."""

    required: list[RequiredApproval]


class RequirementEvent(BaseModel):
    """Something that was required, changed or lifted. Times are milliseconds since the epoch."""

    at: int
    tool: str = Field(description="`namespace/server/tool`")
    action: Literal["require", "lift"]
    by: str = Field(description="who did it; `operator` at the machine")
    why: str
    before: ApprovalTerms | None = Field(description="null where nothing was required")
    after: ApprovalTerms | None = Field(description="null where nothing is required since")

    @classmethod
    def of(cls, event: Event) -> RequirementEvent:
        """An entry of the history, told."""
        return cls(
            at=event.at_ms,
            tool=f"{event.server}/{event.tool}",
            action=event.action,
            by=event.by.sub,
            why=event.why,
            before=ApprovalTerms.of(event.before) if event.before else None,
            after=ApprovalTerms.of(event.after) if event.after else None,
        )


class RequirementHistory(BaseModel):
    """What was required and lifted, the newest first."""

    events: list[RequirementEvent] = Field(description=f"of the {MOST_EVENTS} newest changes")


class RequireBody(BaseModel):
    """What to require."""

    model_config = ConfigDict(extra="forbid")

    tool: str = Field(min_length=1, max_length=LONGEST_TOOL, description="`namespace/server/tool`")
    by: str = Field(
        default="owner",
        min_length=1,
        max_length=64,
        description="`caller`, `owner`, or a group, which security and operators alone name",
    )
    own: bool = Field(default=False, description="somebody may approve what they asked for themselves")
    expires_s: int = Field(default=USUAL_S, ge=SHORTEST_S, le=LONGEST_S)
    why: str = Field(min_length=1, max_length=LONGEST_REASON + 1, description="one line; callers are told")


class LiftBody(BaseModel):
    """What to lift."""

    model_config = ConfigDict(extra="forbid")

    tool: str = Field(min_length=1, max_length=LONGEST_TOOL)
    why: str = Field(default="", max_length=LONGEST_REASON + 1, description="for the history")


async def told(parts: Parts, found: Iterable[Standing]) -> list[RequiredApproval]:
    """Requirements, with what there is to say of each."""
    people, exhaustive = await known_people(parts)
    return [
        RequiredApproval(
            **ApprovalTerms.of(each.requirement).model_dump(),
            tool=each.name,
            asked=asked(each.requirement, each.server.owner),
            required_by=each.required.actor,
            since=each.required.at_ms,
            notes=list(notes(each, people, exhaustive=exhaustive)),
        )
        for each in found
    ]


async def required(parts: Parts, who: Who, server: str = "") -> RequiredApprovals:
    """What is required, for one who asks."""
    return RequiredApprovals(required=await told(parts, parts.requiring.listed(who, server)))


async def require(parts: Parts, who: Who, body: RequireBody) -> RequiredApproval:
    """Require it.

    Raises:
        Refused: it cannot be, or not by them.
    """
    try:
        standing = await parts.requiring.require(
            who, body.tool, body.by, body.why, own=body.own, expires_s=body.expires_s
        )
    except RequiringRefused as error:
        raise requiring_refusal(error) from error
    return (await told(parts, [standing]))[0]


async def requirement_history(parts: Parts, who: Who, server: str = "") -> RequirementHistory:
    """What was required and lifted, for one who asks."""
    return RequirementHistory(
        events=[RequirementEvent.of(each) for each in await parts.requiring.history(who, server)]
    )


def requiring_refusal(error: RequiringRefused) -> Refused:
    """A `RequiringRefused` over HTTP."""
    message = f"{error.field}: {error.message}" if error.reason == "invalid" else error.message
    status = STATUSES[error.reason]
    return refuse(status, _CODES[status], message, error.mend, error.reason)
