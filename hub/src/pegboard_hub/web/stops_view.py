"""Stops as the API and the internal door tell them, and what is read of a request to stop or resume."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.stops import LONGEST_WHY, StopKind
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.stopping.errors import StopRefused
from pegboard_hub.stopping.model import NAME_LENGTH, Stop

STATUSES = {"not_yours": 403, "unknown": 404, "not_stopped": 404, "invalid": 422}
"""What each reason of a `StopRefused` is over HTTP."""

_CODES = {403: "access_denied", 404: "not_found", 422: "invalid_request"}


class StopEntry(BaseModel):
    """One thing that is stopped for everybody. Times are milliseconds since the epoch."""

    kind: StopKind
    name: str = Field(
        description="a surface, a person's id, a client's software, a SPIFFE ID, `namespace/server` or "
        "`namespace/server/tool`"
    )
    why: str = Field(description="what callers are told; text of whoever stopped it")
    by: str = Field(description="who stopped it; `operator` at the machine, `grants file` where that says it")
    since: int | None = Field(description="null where the grants file says it")
    until: int | None = Field(description="when it ends by itself; null: when somebody resumes it")

    @classmethod
    def of(cls, stop: Stop) -> StopEntry:
        """A stop, told."""
        return cls(
            kind=stop.kind, name=stop.name, why=stop.why, by=stop.by.sub, since=stop.at_ms, until=stop.until_ms
        )


class StopsAnswer(BaseModel):
    """What is stopped now, as far as it is the caller's to know."""

    stops: list[StopEntry]


class StopBody(BaseModel):
    """What to stop."""

    model_config = ConfigDict(extra="forbid")

    kind: StopKind
    name: str = Field(min_length=1, max_length=NAME_LENGTH, description="of a person also the e-mail address")
    why: str = Field(min_length=1, max_length=LONGEST_WHY + 1, description="one line; callers are told")
    until: int | None = Field(default=None, description="when it ends by itself, in milliseconds since the epoch")


class ResumeBody(BaseModel):
    """What to resume."""

    model_config = ConfigDict(extra="forbid")

    kind: StopKind
    name: str = Field(min_length=1, max_length=NAME_LENGTH)
    why: str = Field(default="", max_length=LONGEST_WHY + 1, description="for the history")


def stop_refusal(error: StopRefused) -> Refused:
    """A `StopRefused` over HTTP."""
    message = f"{error.field}: {error.message}" if error.reason == "invalid" else error.message
    status = STATUSES[error.reason]
    return refuse(status, _CODES[status], message, error.mend, error.reason)
