"""The ledger's pages: searching calls, and one call's whole life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from pegboard.core.names import SURFACES
from pegboard_hub.ledger.model import Call, Life
from pegboard_hub.ledger.questions import Found, Place
from pegboard_hub.web.calls import STATUSES, Asked, live_since, reader_of
from pegboard_hub.web.pages.frame import Frame, Framer, Viewer, moment, number, with_query
from pegboard_hub.web.parts import Parts

PATH = "/ledger"
RECORD = "/ledger/call"
PAGE_CALLS = 50


class Field(NamedTuple):
    """One field of the search form.

    Attributes:
        name: as the API has it.
        choices: what can be chosen; none where it is a text.
        called: in the page's address, where `name` already means something else there.
    """

    name: str
    label: str
    choices: tuple[str, ...] = ()
    hint: str = ""
    called: str = ""

    @property
    def key(self) -> str:
        """The field in the page's address."""
        return self.called or self.name


FIELDS = (
    Field("person", "Person"),
    Field("server", "Server", hint="prod/presto"),
    Field("tool", "Tool"),
    Field("decision", "Decision", ("allowed", "denied")),
    Field("status", "Outcome", STATUSES),
    Field("layer", "Decided by", ("edge", "server")),
    Field("code", "Refusal’s code", hint="access_denied"),
    # `surface` in a page's address is where the viewer is.
    Field("surface", "Surface", SURFACES, called="on"),
    Field("act", "Acted by"),
    Field("since", "From (UTC)", hint="2026-11-24T09:30"),
    Field("until", "Before (UTC)", hint="2026-11-25"),
    Field("request_id", "Request id"),
    Field("trace_id", "Trace id"),
)
"""What can be searched by."""

_FOUND = "{count} found, newest first: {denied} refused, {unfinished} without an outcome."
_FOUND_SO_FAR = (
    "{count} found among the newest calls, back to {back_to} UTC: {denied} refused, {unfinished} without an outcome. "
    "Further back there may be more."
)


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search and what it found.

    Attributes:
        asked: what the form says, by field.
        problems: what is wrong with the form, by field.
        calls: one page of what was found.
        summary: how much was found, in words.
        scope: whose calls were looked at, in words.
        newest: link to the first page; empty on it.
        older: link to the next page; empty on the last.
    """

    asked: Mapping[str, str]
    problems: Mapping[str, str]
    calls: tuple[Call, ...] = ()
    summary: str = ""
    scope: str = ""
    newest: str = ""
    older: str = ""
    fields: tuple[Field, ...] = FIELDS

    @property
    def searched(self) -> bool:
        """Whether something was asked for."""
        return any(self.asked.values())


APPROVAL = "Approval"
"""The fact that is links: ids of requests, for those who may see them."""


class Step(NamedTuple):
    """One thing that happened to a call.

    Attributes:
        at_ms: when; None where nobody noted it.
        title: what happened.
        facts: what is known of it, by label.
    """

    at_ms: int | None
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LifeView:
    """One call's life, in its order; None where there is none to be shown.

    Attributes:
        question: what asks the page that explains about this call, where it was refused by a rule; else nothing.
    """

    id: str
    life: Life | None = None
    steps: tuple[Step, ...] = ()
    problem: str = ""
    question: Mapping[str, str] = field(default_factory=dict)


def add_ledger_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the ledger's pages."""

    @router.get(PATH)
    async def search(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        view = await search_view(parts, frame, request.query_params)
        return framer.answer("ledger.html", frame, view, 422 if view.problems else 200)

    @router.get(RECORD)
    async def record(request: Request, id: str = "", server: str = "") -> HTMLResponse:
        frame = framer.frame(request, RECORD, "One call")
        view = await life_view(parts, frame.viewer, id, server)
        return framer.answer("call.html", frame, view, 200 if view.life or not frame.viewer else 404)


async def search_view(parts: Parts, frame: Frame, query: Mapping[str, str]) -> SearchView:
    """What the search page shows to the viewer; nothing is searched for nobody, or with a form that is wrong."""
    asked = {field.name: query.get(field.key, "").strip() for field in FIELDS}
    problems, checked = _checked(asked)
    place, lost = _place(query.get("cursor", ""))
    if lost:
        problems = {**problems, "cursor": lost}
    if frame.viewer is None or checked is None or problems:
        return SearchView(asked, problems)
    live = live_since(parts.status.read())
    reader = reader_of(parts, frame.viewer.caller)
    page = await parts.ledger.find(reader, checked.search(), live, PAGE_CALLS, place)
    found = await parts.ledger.count(reader, checked.search(), live)
    keep = [*frame.viewer.query, *((field.key, asked[field.name]) for field in FIELDS)]
    return SearchView(
        asked,
        problems,
        calls=tuple(page.calls),
        summary=_summary(found),
        scope=_scope(frame.viewer, reader.everything, len(reader.owned)),
        newest=with_query(PATH, keep) if place else "",
        older=with_query(PATH, [*keep, ("cursor", page.after.as_text())]) if page.after else "",
    )


def _checked(asked: Mapping[str, str]) -> tuple[Mapping[str, str], Asked | None]:
    """What is wrong with the form, by field; and the search, where nothing is."""
    try:
        return {}, Asked.model_validate({name: value for name, value in asked.items() if value})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return {str(fault["loc"][0]): fault["msg"].removeprefix("Value error, ") for fault in faults}, None


def _place(cursor: str) -> tuple[Place | None, str]:
    try:
        return (Place.read(cursor) if cursor else None), ""
    except ValueError as error:
        return None, f"This address of a page cannot be read: {error}. Search again."


def _summary(found: Found) -> str:
    shown = {name: number(getattr(found, name)) for name in ("count", "denied", "unfinished")}
    if found.back_to_ms is None:
        return _FOUND.format(**shown)
    return _FOUND_SO_FAR.format(**shown, back_to=moment(found.back_to_ms))


def _scope(viewer: Viewer, everything: bool, owned: int) -> str:
    if everything:
        return "Every call: security reads them all."
    servers = "one server" if owned == 1 else f"{owned} servers"
    others = f", and all calls on the {servers} of {viewer.name}’s team" if owned else ""
    return f"{viewer.name}’s own calls{others}."


async def life_view(parts: Parts, viewer: Viewer | None, id_: str, server: str) -> LifeView:
    """One call's life, as far as the viewer may know it."""
    if viewer is None:
        return LifeView(id_)
    reader = reader_of(parts, viewer.caller)
    found = await parts.ledger.lives(reader, id_, server or None, live_since(parts.status.read()))
    if not found:
        return LifeView(id_, problem=f"There is no such call that {viewer.name} may read.")
    if len(found) > 1:
        where = ", ".join(life.call.server for life in found)
        return LifeView(id_, problem=f"Several calls have this id, on {where}. Choose one of them in the ledger.")
    return LifeView(id_, found[0], tuple(_steps(found[0])), question=_question(found[0]))


def _question(life: Life) -> dict[str, str]:
    call = life.call
    if call.decision != "denied" or life.sub_type != "person" or not call.sub or not call.server:
        return {}
    asked = {"server": call.server, "tool": call.tool, "person": call.sub, "on": call.surface}
    return {**asked, "channel": call.channel or ""}


def _steps(life: Life) -> Iterator[Step]:
    """What happened to a call, in its order."""
    call = life.call
    yield Step(call.at_ms, "Asked", _said(_asked(life)))
    yield Step(call.at_ms, f"{call.decision.capitalize()} by the {call.layer}", _said(_decided(life)))
    if call.decision == "allowed":
        yield Step(life.ended_at_ms, "Ended" if life.ended_at_ms else "No outcome", _said(_ended(life)))
    yield Step(life.received_at_ms, "Delivered", _said(_delivered(life)))


def _asked(life: Life) -> Mapping[str, str]:
    call = life.call
    arguments = f"{number(life.arguments_bytes)} bytes"
    if life.arguments_digest:
        arguments += f", digest {life.arguments_digest}"
    return {
        "Who": f"{call.sub} ({life.sub_type})",
        "From": f"{' '.join(filter(None, (call.surface, call.channel)))}, with {call.client_id}",
        "Acted": f"{call.act}, for {call.sub}" if call.act else "",
        "Server": call.server or "an unknown server",
        "Release": call.release[:12],
        "Called": call.tool or life.method,
        "Protocol": life.protocol,
        "Arguments": arguments if call.layer == "server" else "",
        "Request id": call.request_id,
        "Trace id": call.trace_id,
        "Call id": call.id,
    }


def _decided(life: Life) -> Mapping[str, str]:
    call = life.call
    return {
        "Code": call.code,
        "Reason": call.reason.replace("_", " "),
        "Detail": call.detail,
        "Policy": f"{call.policy}, version {call.policy_version[:12]}" if call.policy else "",
        APPROVAL: " ".join(call.approval),
    }


def _ended(life: Life) -> Mapping[str, str]:
    call = life.call
    result = "" if life.result_bytes is None else f"{number(life.result_bytes)} bytes"
    if life.result_digest:
        result += f", digest {life.result_digest}"
    return {
        "Outcome": call.status.replace("_", " "),
        "": life.unfinished,
        "Error": life.error_type,
        "Took": f"{number(call.duration_ms)} ms" if call.duration_ms is not None else "",
        "Result": result,
        "Saved": f"{number(call.minutes_saved)} minutes, as its owner declares" if call.minutes_saved else "",
    }


def _delivered(life: Life) -> Mapping[str, str]:
    call = life.call
    whom = "The edge’s agent" if call.layer == "edge" else "The server"
    lag = _later(life.received_at_ms, call.at_ms)
    end = _later(life.outcome_received_at_ms, life.ended_at_ms)
    return {
        "": "" if life.received_at_ms else "When the hub took it in was not noted yet in those days.",
        "Decision": f"{whom} delivered it {lag} after it was written." if lag else "",
        "Outcome": f"{whom} delivered it {end} after it was written." if end else "",
    }


def _later(received_ms: int | None, written_ms: int | None) -> str:
    if received_ms is None or written_ms is None:
        return ""
    return f"{number(max(received_ms - written_ms, 0) / 1000)} s"


def _said(facts: Mapping[str, Any]) -> dict[str, str]:
    return {label: " ".join(value.split()) for label, value in facts.items() if value}
