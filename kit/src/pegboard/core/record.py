"""What is written of a call: intent before the tool runs, outcome before the answer leaves, or one denial.

Records travel as JSON lines: spool (on the server's disk) → hub → ledger. They are delivered at least once and
counted once, by `id` and `kind`. Arguments and results appear only as keyed digests. Intent without outcome
reads "unknown", never "done". What a call is worth is not among it: the pinned release says so, never the server.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pegboard.core.approval import MOST_ACTIONS

ID_LENGTH = 128
CODE_LENGTH = 64
TOKEN_ID_LENGTH = 128

_STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    # Far above any text that is written. A bound also makes pydantic refuse text that is not Unicode.
    str_max_length=65_536,
)

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_RequestId = Annotated[str, Field(max_length=ID_LENGTH, pattern=r"^[A-Za-z0-9_-]+$")]
_Approval = Annotated[tuple[_RequestId, ...], Field(max_length=MOST_ACTIONS)]
_Steps = Annotated[dict[str, _Milliseconds], Field(max_length=64)]


class _Record(BaseModel):
    model_config = _STRICT

    id: str = Field(min_length=1, max_length=ID_LENGTH, description="the call's id, shared by its intent and outcome")
    at_ms: int = Field(
        ge=0, lt=253_402_300_800_000, description="milliseconds since the epoch, before the year 10000"
    )


class Who(BaseModel):
    """The verified caller of a call; `act` is the registered surface that acted for the person, if one did."""

    model_config = _STRICT

    sub: str
    sub_type: Literal["person", "service"]
    surface: str
    channel: str | None = None
    client_id: str
    act: str | None = None
    token_id: str = Field(
        default="", max_length=TOKEN_ID_LENGTH, description="`jti` of the token, by which those that leak are found"
    )


class Intent(_Record):
    """A call that was allowed and is about to run."""

    kind: Literal["intent"] = "intent"
    release: str
    who: Who
    tool: str
    policy: str
    policy_version: str
    arguments_digest: str
    arguments_bytes: _Count
    request_id: str = ""
    trace_id: str = ""
    protocol: str = Field(default="", description="the MCP revision spoken")
    approval: _Approval = Field(default=(), description="ids of the requests that were approved and claimed for it")


class Outcome(_Record):
    """How a call ended. Durations are milliseconds."""

    kind: Literal["outcome"] = "outcome"
    status: Literal["ok", "tool_error", "crashed", "cancelled", "input_required"]
    error_type: str = ""
    result_digest: str = ""
    result_bytes: _Count = 0
    duration_ms: _Milliseconds
    steps_ms: _Steps = {}


class Denial(_Record):
    """A request that layer 2 refused. `reason` tells the owner what the caller was not told.

    Without a verified caller (`who`) it is only counted: nobody is named on an unverified claim.
    """

    kind: Literal["denial"] = "denial"
    release: str
    who: Who | None
    tool: str = ""
    code: str = Field(max_length=CODE_LENGTH)
    reason: str
    detail: str = ""
    policy: str = ""
    policy_version: str = ""
    request_id: str = ""
    trace_id: str = ""
    approval: _Approval = Field(default=(), description="ids of the requests that it waits for, or that said no")
    steps_ms: _Steps = {}


Record = Annotated[Intent | Outcome | Denial, Field(discriminator="kind")]

RECORD: TypeAdapter[Intent | Outcome | Denial] = TypeAdapter(Record)


class Rejection(BaseModel):
    """A delivered record that the hub could not read. It will not be readable later either."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(default="", description="as the record gave it; empty when it gave none")
    kind: str = ""
    problem: str = ""


class Receipt(BaseModel):
    """The hub's answer to a delivery: none of it needs to be sent again."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    accepted: int = Field(description="records that are now in the ledger")
    rejected: tuple[Rejection, ...] = Field(
        default=(), description="the first of those that cannot be read; hubs from before this field rejected none"
    )
