"""The API's routes to the ledger. They only tell."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from pegboard.core.record import ID_LENGTH
from pegboard_hub.common.requests import refuse
from pegboard_hub.ledger.model import Call, Life
from pegboard_hub.ledger.questions import Place
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import CallEntry, CallLife, Calls, FoundCalls
from pegboard_hub.web.calls import Asked, live_since, reader_of
from pegboard_hub.web.parts import Parts

MOST_CALLS = 1000


class AskedPage(Asked):
    """A search, and which part of what it finds."""

    limit: int = Field(default=100, ge=1, le=MOST_CALLS)
    cursor: str | None = Field(default=None, max_length=1024, description="`next` of the page before")


def add_ledger_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

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
