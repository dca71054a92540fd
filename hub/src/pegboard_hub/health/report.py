"""What the prober tells the hub, and what it is told in return (`POST /internal/v1/health`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pegboard_hub.health.model import WHY_LENGTH
from pegboard_hub.health.probe import Kind
from pegboard_hub.registry.status import ProbedState
from pegboard_hub.registry.tables import SERVER_LENGTH

DOOR = "/internal/v1/health"

MOST = 50_000
"""Servers, transitions or looks in one report."""

LATEST_MS = 1 << 53

PLAIN = r"\A[ -~]*\z"
"""Of a reason: one line of printable ASCII, which the prober's own words are."""

Name = Annotated[str, Field(max_length=SERVER_LENGTH)]
Moment = Annotated[int, Field(ge=0, le=LATEST_MS)]


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Transition(_Told):
    """One server became something else."""

    server: Name
    at_ms: Moment
    state: ProbedState
    why: Annotated[str, Field(max_length=WHY_LENGTH, pattern=PLAIN)] = ""


class Report(_Told):
    """What the prober saw since its last report, which may be nothing.

    Attributes:
        targets: digest of the list it goes by; empty before it has one.
        transitions: in the order they came; they are told again until the hub has them.
        checked: when it last looked at each server that it looked at since.
        looks: how many looks ended how.
        seconds: how long each look took.
        oldest_ms: the time since the last look at the server that has waited longest.
    """

    targets: Annotated[str, Field(max_length=64)] = ""
    transitions: Annotated[tuple[Transition, ...], Field(max_length=MOST)] = ()
    checked: Annotated[dict[Name, Moment], Field(max_length=MOST)] = {}
    looks: dict[Kind, Annotated[int, Field(ge=0)]] = {}
    seconds: Annotated[tuple[float, ...], Field(max_length=MOST)] = ()
    oldest_ms: Moment = 0


class Target(_Told):
    """One server to look at, with what was last known of it; `unknown` where that is too long ago to go on with."""

    server: Name
    state: ProbedState = "unknown"
    since_ms: int = 0
    why: str = ""


class Answer(_Told):
    """What the hub answers: whom to look at. `servers` is left out where the prober has that list."""

    targets: str
    servers: tuple[Target, ...] | None = None
