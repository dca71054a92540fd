"""What is written of a call: intent before the tool runs, outcome before the answer leaves, or one denial.

Records travel as JSON lines: spool (on the server's disk) → hub → ledger. They are delivered at least once and
counted once, by `id` and `kind`. Arguments and results appear only as keyed digests. Intent without outcome
reads "unknown", never "done".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(description="the call's id, shared by its intent and outcome")
    at_ms: int = Field(description="milliseconds since the epoch")


class Who(BaseModel):
    """The verified caller of a call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sub: str
    sub_type: Literal["person", "service"]
    surface: str
    channel: str | None = None
    client_id: str


class Intent(_Record):
    """A call that was allowed and is about to run."""

    kind: Literal["intent"] = "intent"
    release: str
    who: Who
    tool: str
    policy: str
    policy_version: str
    arguments_digest: str
    arguments_bytes: int
    request_id: str = ""
    trace_id: str = ""
    protocol: str = Field(default="", description="the MCP revision spoken")


class Outcome(_Record):
    """How a call ended. Durations are milliseconds."""

    kind: Literal["outcome"] = "outcome"
    status: Literal["ok", "tool_error", "crashed", "cancelled", "input_required"]
    error_type: str = ""
    result_digest: str = ""
    result_bytes: int = 0
    duration_ms: float
    steps_ms: dict[str, float] = {}
    minutes_saved: float = 0


class Denial(_Record):
    """A request that layer 2 refused. `reason` tells the owner what the caller was not told.

    Without a verified caller (`who`) it is only counted: nobody is named on an unverified claim.
    """

    kind: Literal["denial"] = "denial"
    release: str
    who: Who | None
    tool: str = ""
    code: str
    reason: str
    detail: str = ""
    policy: str = ""
    policy_version: str = ""
    request_id: str = ""
    trace_id: str = ""


Record = Annotated[Intent | Outcome | Denial, Field(discriminator="kind")]

RECORD: TypeAdapter[Intent | Outcome | Denial] = TypeAdapter(Record)
RECORDS: TypeAdapter[list[Intent | Outcome | Denial]] = TypeAdapter(list[Record])
