"""The API's routes to the ledger, and what API and pages share of it: who reads what, and how a search is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pegboard.core.caller import Caller
from pegboard.core.names import SURFACES, ServerName
from pegboard.core.record import CODE_LENGTH, ID_LENGTH
from pegboard_hub.common.requests import refuse
from pegboard_hub.ledger.model import Call, CallLayer, Decision, Life
from pegboard_hub.ledger.questions import Place, Reader, Search
from pegboard_hub.registry.status import RuntimeStatus
from pegboard_hub.registry.visibility import SECURITY, is_person, owns
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import CallEntry, CallLife, Calls, FoundCalls
from pegboard_hub.web.parts import Parts

MOST_CALLS = 1000

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


class AskedPage(Asked):
    """A search, and which part of what it finds."""

    limit: int = Field(default=100, ge=1, le=MOST_CALLS)
    cursor: str | None = Field(default=None, max_length=1024, description="`next` of the page before")


def ledger_routes(parts: Parts) -> APIRouter:
    """The routes; whoever includes them sees to the sign-in."""
    router = APIRouter(tags=["Calls"])

    @router.get(
        "/calls",
        summary="Your calls, and every call on servers your groups own; newest first",
        responses=refusals(),
    )
    async def list_calls(caller: SignedIn, asked: Annotated[AskedPage, Query()]) -> Calls:
        live = live_since(parts.status.read())
        reader = reader_of(parts, caller)
        search = Asked(**asked.model_dump(exclude={"limit", "cursor"})).search()
        page = await parts.ledger.find(reader, search, live, asked.limit, _place(asked.cursor))
        found = await parts.ledger.count(reader, search, live)
        return Calls(
            calls=[_entry(call) for call in page.calls],
            found=FoundCalls(**asdict(found)),
            next=page.after.as_text() if page.after else None,
        )

    @router.get(
        "/calls/{id}", summary="One call's whole life, of those that you may read", responses=refusals(404, 409)
    )
    async def get_call(
        caller: SignedIn, id: str, server: Annotated[str | None, Query(description="NAMESPACE/NAME")] = None
    ) -> CallLife:
        found = await parts.ledger.lives(reader_of(parts, caller), id, server, live_since(parts.status.read()))
        if not found:
            mend = "Search for it: it may be another person's, on a server that your groups do not own."
            raise refuse(404, "unknown_call", f"No call {id[:ID_LENGTH]} that you may read is in the ledger.", mend)
        if len(found) > 1:
            where = ", ".join(life.call.server for life in found)
            raise refuse(409, "ambiguous_call", f"Several calls have this id: on {where}.", "Name the server.")
        return _life(found[0])

    return router


def reader_of(parts: Parts, caller: Caller) -> Reader:
    """What this caller may read: their own calls; owners those on their servers; security all of them."""
    security = is_person(caller) and SECURITY in caller.groups
    return Reader(caller.sub, caller.sub_type, frozenset(owned_servers(parts, caller)), security)


def owned_servers(parts: Parts, caller: Caller) -> list[str]:
    """Names of the servers whose owner team this person belongs to."""
    return [str(server.name) for server in parts.registry.current.all_deployed if owns(caller, server)]


def live_since(status: RuntimeStatus) -> Mapping[str, int]:
    """When each live server's process came up, in milliseconds since the epoch."""
    return {name: int(process.since * 1000) for name, process in status.processes.items() if process.state == "live"}


def _place(cursor: str | None) -> Place | None:
    try:
        return Place.read(cursor) if cursor else None
    except ValueError as error:
        raise refuse(422, "invalid_request", f"cursor: {error}.", "Begin again without a cursor.") from error


def _values(call: Call) -> dict[str, Any]:
    values = asdict(call)
    return {"at": values.pop("at_ms"), "person": values.pop("sub"), **values}


def _entry(call: Call) -> CallEntry:
    return CallEntry(**_values(call))


def _life(life: Life) -> CallLife:
    names = {
        "ended_at_ms": "ended_at",
        "received_at_ms": "received_at",
        "outcome_received_at_ms": "outcome_received_at",
    }
    own = {names.get(f.name, f.name): getattr(life, f.name) for f in fields(life) if f.name != "call"}
    return CallLife(**_values(life.call), **own)
