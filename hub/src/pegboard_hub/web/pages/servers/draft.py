"""Register a server, and edit a draft. A draft has no power: nobody can call it, and reviews come before anybody can.

Two people may edit at once: a form knows the version that it was made of, and what somebody else changed since is
shown beside it instead of being lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.declared import LONGEST_TITLE
from pegboard.core.manifest import MOST_LINKS, Sensitivity
from pegboard.core.text import sentence
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.record import (
    LONGEST_CHANNEL,
    LONGEST_DESCRIPTION,
    LONGEST_WHY,
    NAME_MEND,
    check_record,
    check_server_name,
    check_why,
)
from pegboard_hub.registry.reviews.lifecycle import moves_of
from pegboard_hub.registry.reviews.store import TAKE_BACK
from pegboard_hub.web.knowing import known_server, owners_for
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, Frame, Framer, Viewer
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import editable
from pegboard_hub.web.parts import Parts

NEW = "/servers/new"
EDIT = f"{SERVER}/edit"
TITLE = "Register a server"


class Field(NamedTuple):
    """One field of the form.

    Attributes:
        kind: text, lines, choice or flag.
        longest: characters; 0 where it does not matter.
        optional: whether it may be left empty.
    """

    name: str
    label: str
    hint: str
    kind: str = "text"
    longest: int = 0
    optional: bool = False


RECORD = (
    Field(
        "title",
        "Title",
        "the name that people read; the name itself where it is left empty",
        longest=LONGEST_TITLE,
        optional=True,
    ),
    Field("description", "Description", "one line: what it is for", "text", LONGEST_DESCRIPTION),
    Field("owner", "Owner", "the team that looks after it", "choice"),
    Field(
        "support_channel", "Support channel", "where people ask, for example #data-platform", "text", LONGEST_CHANNEL
    ),
    Field("sensitivity", "Data", "the most sensitive that its tools show", "choice"),
    Field(
        "links", "Links", f"up to {MOST_LINKS}, a line each: a name, then an https address", "lines", optional=True
    ),
    Field(
        "uses_models", "It sends data to a language model", "then there is a GenAI review, too", "flag", optional=True
    ),
    Field(
        "gallery",
        "It may stand in the public list",
        "which names servers to programs without a sign-in",
        "flag",
        optional=True,
    ),
)
NAMES = (
    Field("namespace", "Namespace", "dev to try things, prod for everybody’s work", "text", 32),
    Field("name", "Name", "what it is for in a word or two, for example presto", "text", 32),
)
NO_NAME = "Write 2 to 32 of a-z, 0-9 and single - in each of the two fields, as prod and presto."
"""What is said of a name that cannot be, which elsewhere is written as one."""

WHY = Field("why", "Why, for whoever looks at it later", "", "text", LONGEST_WHY)


class Clash(NamedTuple):
    """A field that somebody else changed meanwhile: theirs and mine, as text."""

    label: str
    before: str
    theirs: str
    mine: str


@dataclass(frozen=True, slots=True)
class DraftView:
    """The form.

    Attributes:
        action: where it goes.
        server: the draft that is edited; empty for a new one.
        version: that the form was made of.
        said: what stands in the fields.
        problems: what is wrong, by field; under no field what concerns all.
        clashes: what somebody else changed meanwhile; `by` says who and when, in words.
    """

    action: str
    server: str
    version: int
    said: Mapping[str, str]
    owners: tuple[str, ...]
    problems: Mapping[str, str]
    clashes: tuple[Clash, ...] = ()
    by: str = ""
    fields: tuple[Field, ...] = ()
    sensitivities: tuple[str, ...] = get_args(Sensitivity)

    @property
    def labels(self) -> Mapping[str, str]:
        """What each field is called."""
        return {field.name: field.label for field in self.fields}


def add_draft_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the forms."""

    def answer(frame: Frame, view: DraftView) -> HTMLResponse:
        status = 409 if view.clashes or view.by else 422 if view.problems else 200
        return framer.answer("draft.html", frame, view, status)

    @router.get(NEW)
    async def blank(request: Request, session: HereSession) -> Response:
        said = {"sensitivity": "internal", "namespace": "dev", "owner": next(iter(session.facts.groups), "")}
        return answer(_frame(framer, request, TITLE, session), _new_view(parts, session, said, {}))

    @router.post(NEW)
    async def register(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        session = await told_now(parts, request, session)
        name = f"{form.get('namespace', '').strip()}/{form.get('name', '').strip()}"
        if problems := _faults(parts, session, form, name):
            return answer(_frame(framer, request, TITLE, session), _new_view(parts, session, form, problems))
        try:
            record, why = _record(parts, session, form), check_why(form.get("why", ""))
            async with parts.registry.changing() as changing:
                await changing.register(name, record, Actor(session.facts.sub), why)
        except ChangeRefused as error:
            field = "name" if error.field == "server" else error.field
            view = _new_view(parts, session, form, _problem(field, error))
            return answer(_frame(framer, request, TITLE, session), view)
        return see_other(f"/servers/{name}")

    @router.get(EDIT)
    async def edit(request: Request, namespace: str, name: str, session: HereSession) -> Response:
        server = _mine(parts, session, f"{namespace}/{name}")
        view = _edit_view(parts, session, server, said_of(server), server.version)
        return answer(_frame(framer, request, f"Edit {server.name}", session), view)

    @router.post(EDIT)
    async def change(request: Request, namespace: str, name: str, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        session = await told_now(parts, request, session)
        server = _mine(parts, session, f"{namespace}/{name}")
        view = await _changed(parts, session, server, form)
        if view is None:
            return see_other(f"/servers/{server.name}")
        return answer(_frame(framer, request, f"Edit {server.name}", session), view)


async def _changed(parts: Parts, session: Session, server: RegisteredServer, form: Form) -> DraftView | None:
    """The form again, where the change was not made; None where it was."""
    expected = _version(form.get("version", ""))
    if problems := _faults(parts, session, form):
        return _edit_view(parts, session, server, form, expected, problems)
    try:
        record, why = _record(parts, session, form), check_why(form.get("why", ""))
        async with parts.registry.changing() as changing:
            # Between the page and now somebody may have submitted it.
            _mine_of(parts, session, changing.server(str(server.name)))
            await changing.apply(
                Change(str(server.name), Actor(session.facts.sub), "edit", why, expected=expected, values=record)
            )
    except ChangeRefused as error:
        return _edit_view(parts, session, server, form, expected, _problem(error.field, error))
    except ChangeConflict as error:
        view = _edit_view(parts, session, error.current, form, error.current.version)
        return replace(view, clashes=_clashes(error, form), by=_by(error))
    return None


def said_of(server: RegisteredServer) -> dict[str, str]:
    """What stands in the form of a draft."""
    return {field.name: _written(field, getattr(server, field.name)) for field in RECORD}


def _written(field: Field, value: Any) -> str:
    if field.kind == "flag":
        return "yes" if value else ""
    if field.kind == "lines":
        return "\n".join(f"{name} {url}" for name, url in dict(value or {}).items())
    return "" if value is None else str(value)


def _record(parts: Parts, session: Session, form: Form) -> dict[str, Any]:
    """The record that a form says; its values are checked where they are kept.

    Raises:
        ChangeRefused: a field cannot be read, or the owner is no team of theirs.
    """
    values = {field.name: _read(field, form.get(field.name, "").strip()) for field in RECORD}
    _check_owner(parts, session, values["owner"])
    return values


def _faults(parts: Parts, session: Session, form: Form, name: str = "") -> dict[str, str]:
    """What is wrong with each field on its own, all of it at once; with the name, too, where one is given."""
    checks: list[tuple[str, Callable[[], object]]] = [
        *([("name", partial(check_server_name, name))] if name else []),
        *((field.name, partial(_check, parts, session, form, field)) for field in RECORD),
        ("why", partial(check_why, form.get("why", ""))),
    ]
    found: dict[str, str] = {}
    for field, check in checks:
        try:
            check()
        except ChangeRefused as error:
            found |= _problem(field, error)
    return found


def _check(parts: Parts, session: Session, form: Form, field: Field) -> None:
    value = _read(field, form.get(field.name, "").strip())
    if field.name == "owner":
        _check_owner(parts, session, value)
    check_record({field.name: value})


def _check_owner(parts: Parts, session: Session, owner: str) -> None:
    owners = owners_for(parts, session.facts.groups)
    if owners is None or owner in owners:
        return
    if owners > frozenset(session.facts.groups):
        raise ChangeRefused("owner", "nobody here is in that group", "Choose a team that there is.")
    raise ChangeRefused("owner", "it is no team of yours", "Choose one of your own.")


def _read(field: Field, text: str) -> Any:
    if field.kind == "flag":
        return text == "yes"
    if field.kind != "lines":
        return None if not text and field.name == "title" else text
    links: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, _, url = line.rpartition(" ")
        if not name or name.strip() in links:
            raise ChangeRefused(
                "links", f"{line[:60]!r} is no name and an address, or names one twice", "Write docs https://…"
            )
        links[name.strip()] = url
    return links


def _clashes(error: ChangeConflict, form: Form) -> tuple[Clash, ...]:
    """The fields that are other since, with theirs and mine."""
    before: dict[str, Any] = {}
    for entry in error.missed:
        for name, (was, _) in entry.fields.items():
            before.setdefault(name, was)
    now = said_of(error.current)
    return tuple(
        Clash(field.label, _written(field, before[field.name]), now[field.name], form.get(field.name, "").strip())
        for field in RECORD
        if field.name in before
    )


def _by(error: ChangeConflict) -> str:
    who = ", ".join(dict.fromkeys(entry.actor for entry in error.missed)) or "somebody"
    return f"{who} changed this draft after you opened it"


def _problem(field: str, error: ChangeRefused) -> dict[str, str]:
    known = {each.name for each in (*RECORD, *NAMES, WHY)}
    field = field.partition(".")[0].removesuffix(" name")
    words = NO_NAME if error.mend == NAME_MEND else f"{sentence(error.fault)} {error.mend}".strip()
    return {field if field in known else "": words}


def _version(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


def _new_view(parts: Parts, session: Session, said: Mapping[str, str], problems: Mapping[str, str]) -> DraftView:
    fields = (*NAMES, *RECORD, WHY)
    return DraftView(NEW, "", 0, _filled(fields, said), _owners(parts, session, said), problems, fields=fields)


def _edit_view(
    parts: Parts,
    session: Session,
    server: RegisteredServer,
    said: Mapping[str, str],
    version: int,
    problems: Mapping[str, str] | None = None,
) -> DraftView:
    fields, name = (*RECORD, WHY), str(server.name)
    owners = _owners(parts, session, {"owner": server.owner} | dict(said))
    filled = _filled(fields, said)
    return DraftView(f"/servers/{name}/edit", name, version, filled, owners, problems or {}, fields=fields)


def _filled(fields: tuple[Field, ...], said: Mapping[str, str]) -> dict[str, str]:
    return {field.name: said.get(field.name, "") for field in fields}


def _owners(parts: Parts, session: Session, said: Mapping[str, str]) -> tuple[str, ...]:
    """The teams that the form offers: those that its reader may choose, or of any those that own something."""
    groups = owners_for(parts, session.facts.groups)
    if groups is None:
        owning = (server.owner for server in parts.registry.current.servers.values())
        groups = frozenset((*session.facts.groups, *owning, said.get("owner", "")))
    return tuple(sorted(filter(None, groups)))


def _frame(framer: Framer, request: Request, title: str, session: Session) -> Frame:
    """Of who is signed in: nobody writes as somebody else, whomever pages are shown as."""
    frame = framer.frame(request, request.url.path, title)
    caller = caller_of(session.facts, DEFAULT_SURFACE, CLIENT)
    mine = Viewer(session.facts.sub, session.facts.name, "", caller, chosen=False)
    return replace(frame, viewer=mine, section="/servers")


def _mine(parts: Parts, session: Session, name: str) -> RegisteredServer:
    """The draft of that name.

    Raises:
        Refused: there is none for this person, it is not theirs, or it is a draft no more.
    """
    return _mine_of(parts, session, known_server(parts, caller_of(session.facts, DEFAULT_SURFACE, CLIENT), name))


def _mine_of(parts: Parts, session: Session, server: RegisteredServer) -> RegisteredServer:
    if not parts.reviewing.rights.owns(session.facts, server):
        raise _not_theirs(server)
    if not editable(server):
        message = f"{server.name} is no draft any more, so its record is not written here."
        coded = server.release is not None or server.waiting is not None
        # Before there is code, what was submitted stands.
        mend = (
            _CODED
            if coded
            else f"Its reviewers look at what was submitted. Take it back to draft at {access_of(server)} first."
            if TAKE_BACK in moves_of(server)
            else f"Ask for other access at {access_of(server)}."
        )
        raise refuse(409, "not_a_draft", message, mend)
    return server


_CODED = "What its release’s pegboard.toml says is what stands in it."


def access_of(server: RegisteredServer) -> str:
    """The address of the page that asks for access."""
    return f"/servers/{server.name}/access"


def _not_theirs(server: RegisteredServer) -> Refused:
    return refuse(403, "not_owner", f"{server.name} is edited by its owners.", f"Ask {server.owner}.")
