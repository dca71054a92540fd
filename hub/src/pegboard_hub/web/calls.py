"""Calls in the ledger, for pages and API: who reads which, and how a search for them is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pegboard.core.caller import Caller
from pegboard.core.names import SURFACES, ServerName
from pegboard.core.record import CODE_LENGTH, ID_LENGTH
from pegboard_hub.ledger.model import CallLayer, Decision
from pegboard_hub.ledger.questions import Reader, Search
from pegboard_hub.registry.status import RuntimeStatus
from pegboard_hub.registry.visibility import SECURITY, is_person
from pegboard_hub.web.knowing import owned
from pegboard_hub.web.parts import Parts

STATUSES = ("ok", "tool_error", "crashed", "cancelled", "input_required", "running", "unknown", "denied")
Status = Literal["ok", "tool_error", "crashed", "cancelled", "input_required", "running", "unknown", "denied"]
Surface = Literal["cli", "chat", "bot", "ide", "web", "service"]
assert set(Surface.__args__) == set(SURFACES)  # type: ignore[attr-defined]  # noqa: S101 - one list, told twice

_Text = Annotated[str, Field(min_length=1, max_length=255)]


def _server(text: str) -> str:
    return str(ServerName.parse(text))


def _moment(text: str) -> str:
    """A day or a time in ISO 8601, in UTC unless it says otherwise."""
    milliseconds(text)
    return text


def milliseconds(text: str) -> int:
    """Milliseconds since the epoch of a day or time in ISO 8601; UTC unless it says otherwise.

    Raises:
        ValueError: it is another form.
    """
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError("write it as 2026-11-24 or 2026-11-24T09:30, in UTC") from error


_Moment = Annotated[str, AfterValidator(_moment)]


class Asked(BaseModel):
    """What a search asks for, as a query says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: Annotated[_Text | None, Field(description="whose calls: a person's or a service's sub")] = None
    server: Annotated[str, AfterValidator(_server)] | None = Field(default=None, description="NAMESPACE/NAME")
    tool: _Text | None = None
    decision: Decision | None = None
    layer: CallLayer | None = Field(default=None, description="which layer decided")
    status: Status | None = None
    code: Annotated[str, Field(min_length=1, max_length=CODE_LENGTH)] | None = Field(
        default=None, description="of a refusal, as the caller was told"
    )
    surface: Surface | None = None
    act: Annotated[_Text | None, Field(description="the registered surface that acted for the person")] = None
    since: _Moment | None = Field(default=None, description="calls that began then or later; ISO 8601, UTC")
    until: _Moment | None = Field(default=None, description="calls that began before; ISO 8601, UTC")
    request_id: Annotated[str, Field(min_length=1, max_length=ID_LENGTH)] | None = None
    trace_id: Annotated[str, Field(min_length=1, max_length=ID_LENGTH)] | None = None

    def search(self) -> Search:
        """The search that the ledger understands."""
        values = self.model_dump(exclude={"since", "until"})
        return Search(
            **values,
            since_ms=milliseconds(self.since) if self.since else None,
            until_ms=milliseconds(self.until) if self.until else None,
        )


def reader_of(parts: Parts, caller: Caller) -> Reader:
    """What this caller may read: their own calls; owners those on their servers; security all of them."""
    security = is_person(caller) and SECURITY in caller.groups
    # Those that nobody may call now, too: what was called before they were retired or in review is theirs to read.
    servers = frozenset(str(server.name) for server in owned(parts, caller))
    return Reader(caller.sub, caller.sub_type, servers, security)


def live_since(status: RuntimeStatus) -> Mapping[str, int]:
    """When each live server's process came up, in milliseconds since the epoch."""
    return {name: int(process.since * 1000) for name, process in status.processes.items() if process.state == "live"}
