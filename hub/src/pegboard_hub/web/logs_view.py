"""Servers' logs as API and page tell them. Whoever decides on what runs of a server reads them, and nobody else."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from pegboard_hub.common.requests import refuse
from pegboard_hub.publishing.logs import LogsAway
from pegboard_hub.publishing.orders import MOST_LINES, LogLine, LogPage, LogQuestion
from pegboard_hub.publishing.steering import Who
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.parts import Parts

SINCE = r"^(\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?)?$"
"""RFC 3339, of which the end may be left out."""


class LogEntry(BaseModel):
    """One line. All of it is the author's word but `release` and `replica`."""

    at: str = Field(description="RFC 3339; empty of what went past the kit's log")
    level: str
    release: str = Field(description="the beginning of its release's digest, or all of it")
    replica: str
    request_id: str = Field(description="of the request that it was written within; empty outside of any")
    text: str
    more: dict[str, Any] = Field(description="whatever else stands on it")

    @classmethod
    def of(cls, line: LogLine) -> LogEntry:
        """A line, told."""
        return cls(**line.model_dump())


class LogAnswer(BaseModel):
    """Lines of a server's logs, oldest first."""

    lines: list[LogEntry]
    more: bool = Field(description="there were further lines that fit, before these")


class AskedLogs(BaseModel):
    """What somebody looks for."""

    release: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{0,64}$")] = Field(
        default="", description="only of this release: the beginning of its digest"
    )
    replica: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        default="", description="only of this replica"
    )
    q: str = Field(default="", max_length=200, description="a text that stands in the line, in any case of letters")
    request_id: str = Field(
        default="", max_length=64, description="only what was written within the request of this id"
    )
    since: Annotated[str, StringConstraints(max_length=40, pattern=SINCE)] = Field(
        default="", description="RFC 3339: lines from then on; left out: the last ones"
    )
    limit: int = Field(default=200, ge=1, le=MOST_LINES, description="most lines")


async def lines_of(parts: Parts, who: Who, server: RegisteredServer, asked: AskedLogs) -> LogPage:
    """The lines that fit.

    Raises:
        Refused: they are not for whoever asks, there are none kept here, or the runtime does not answer.
    """
    name = str(server.name)
    if not parts.steering.may(who, server):
        ask = f"Ask {server.owner}." if server.owner else "Ask the platform team."
        raise refuse(403, "not_owner", f"The logs of {name} are for its owners and operators.", ask)
    if not server.submitted:
        message = f"The logs of {name} are searched for servers whose releases are submitted."
        raise refuse(409, "conflict", message, "Its file is in the instance's folder log.")
    try:
        return await parts.logs.ask(LogQuestion(server=name, **asked.model_dump()))
    except LogsAway as error:
        message = f"The logs of {name} cannot be read now: {error}."
        raise refuse(503, "temporarily_unavailable", message, "Try again in a moment.") from error
