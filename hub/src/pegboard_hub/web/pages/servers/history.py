"""What changed in the registry: who did it, when, why, and what was before. Of one server, or of all one may know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.caller import Caller
from pegboard.core.changed import Told, told, words
from pegboard.core.names import ServerName
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.history import Entry, entries
from pegboard_hub.registry.history import entry as read_entry
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import oversees, told_history
from pegboard_hub.web.knowing import knows, looks_after, owned
from pegboard_hub.web.pages.frame import Framer, with_query
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import Head, framed, head
from pegboard_hub.web.parts import Parts

PATH = "/history"
PAGE_ENTRIES = 50
LOOKED_AT = 1000
"""Entries that one page looks at for somebody who is told some of them alone."""

LONGEST_ACTOR = 255
MOST_OWNED = 500
"""Servers of a person's teams that one list looks at; those of more are listed by server."""

KINDS = {
    "person": "",
    "operator": "operator at the machine",
    "file": "grants file",
    "system": "Pegboard itself",
    "service": "service",
}


class EntryView(NamedTuple):
    """One change, as the list shows it."""

    entry: Entry
    href: str
    fields: str
    kind: str


@dataclass(frozen=True, slots=True)
class HistoryView:
    """Changes.

    Attributes:
        head: of the server whose page it is; None on the page of all.
        asked: what the form says, by field.
        problems: what is wrong with it, by field.
        scope: whose changes these are, in words.
        none: why there is nothing to be seen at all; empty where there may be.
        shortened: some of it is left out, for who looks is not in the server's circle.
    """

    head: Head | None
    asked: Mapping[str, str]
    problems: Mapping[str, str]
    entries: tuple[EntryView, ...] = ()
    scope: str = ""
    none: str = ""
    older: str = ""
    newest: str = ""
    shortened: bool = False


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change, `shortened` to what everybody may read; `all` is the address of the server's other ones."""

    entry: Entry
    kind: str
    told: tuple[Told, ...]
    all: str
    shortened: bool


def add_history_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(PATH)
    async def everything(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        caller = frame.viewer.caller if frame.viewer else None
        view = await _all(parts, caller, request.query_params, frame.viewer.query if frame.viewer else ())
        return framer.answer("history.html", frame, view, 422 if view.problems else 200)

    @router.get(f"{PATH}/{{seq}}")
    async def one(request: Request, seq: str) -> HTMLResponse:
        frame = replace(framer.frame(request, f"{PATH}/{seq}", "One change"), section=PATH)
        view = await _one(parts, frame.caller, seq, frame.link)
        return framer.answer("change.html", frame, view)

    @router.get(f"{SERVER}/history")
    async def of_server(request: Request, namespace: str, name: str) -> HTMLResponse:
        frame, server = framed(parts, framer, request, f"{namespace}/{name}", "history")
        here, kept = f"/servers/{server.name}/history", frame.viewer.query if frame.viewer else ()
        before, problems = _before(request.query_params.get("cursor", ""))
        whole = looks_after(parts, frame.caller, server)
        limit = PAGE_ENTRIES + 1 if whole else LOOKED_AT
        async with parts.database.read() as connection:
            looked = await entries(connection, server=str(server.name), before_seq=before, limit=limit)
        found = [told for entry in looked if (told := _told_to(parts, frame.caller, server, entry))]
        cut = not whole and len(looked) == limit and len(found) <= PAGE_ENTRIES
        view = HistoryView(
            await head(parts, frame, server),
            {},
            problems,
            tuple(_view(entry, kept) for entry in found[:PAGE_ENTRIES]),
            older=with_query(here, [*kept, ("cursor", str(looked[-1].seq))]) if cut else _older(here, kept, found),
            shortened=not whole,
            newest=with_query(here, kept) if before else "",
        )
        return framer.answer("server_history.html", frame, view, 422 if problems else 200)


async def _all(
    parts: Parts, caller: Caller | None, query: Mapping[str, str], kept: tuple[tuple[str, str], ...]
) -> HistoryView:
    """What the page of all changes shows to somebody."""
    asked = {name: query.get(name, "").strip() for name in ("server", "person")}
    if caller is None:
        return HistoryView(None, asked, {}, none="Choose a person above: changes are shown to owners and reviewers.")
    everything = oversees(parts.reviewing.rights.roles, caller)
    mine = [str(server.name) for server in owned(parts, caller)][:MOST_OWNED]
    if not everything and not mine:
        words = "Changes are shown to owners of servers, to reviewers, operators and security."
        return HistoryView(None, asked, {}, none=words)
    before, problems = _before(query.get("cursor", ""))
    problems = {**problems, **dict(_problems(parts, caller, asked))}
    if problems:
        return HistoryView(None, asked, problems)
    async with parts.database.read() as connection:
        found = await entries(
            connection,
            server=asked["server"] or None,
            actor=asked["person"] or None,
            before_seq=before,
            limit=PAGE_ENTRIES + 1,
            among=None if everything else mine,
        )
    keep = (*kept, *asked.items())
    return HistoryView(
        None,
        asked,
        {},
        tuple(_view(entry, kept) for entry in found[:PAGE_ENTRIES]),
        scope="Every change." if everything else f"Changes of your teams’ {len(mine)} servers.",
        older=_older(PATH, keep, found),
        newest=with_query(PATH, keep) if before else "",
    )


def _problems(parts: Parts, caller: Caller, asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name = asked["server"]
    if name:
        try:
            ServerName.parse(name)
        except ValueError:
            yield "server", "Write it as NAMESPACE/NAME, for example prod/presto."
            return
        found = parts.registry.current.servers.get(name)
        if found is None or not looks_after(parts, caller, found):
            yield "server", "There is no such server whose changes are shown to you."
    if len(asked["person"]) > LONGEST_ACTOR:
        yield "person", "It is longer than any id."


async def _one(parts: Parts, caller: Caller, text: str, link: Any) -> ChangeView:
    found = None
    if text.isascii() and text.isdigit() and len(text) <= 18:
        async with parts.database.read() as connection:
            found = await read_entry(connection, int(text))
    server = parts.registry.current.servers.get(found.server) if found else None
    if found is not None:
        found = _told_to(parts, caller, server, found) if server and knows(parts, caller, server) else None
    if found is None or server is None:
        message = "No such change is here for you: there is none, or it is not shown to you."
        raise refuse(404, "unknown_change", message, "Look for it on the page of changes.")
    all_of_it, shortened = link(f"/servers/{found.server}/history"), not looks_after(parts, caller, server)
    return ChangeView(found, KINDS[found.actor_kind], told(found.fields), all_of_it, shortened)


def _told_to(parts: Parts, caller: Caller, server: RegisteredServer, entry: Entry) -> Entry | None:
    return told_history(parts.reviewing.rights.roles, caller, server, entry)


def _view(entry: Entry, kept: tuple[tuple[str, str], ...]) -> EntryView:
    named = ", ".join(words(field) for field in list(entry.fields)[:6])
    more = f" and {len(entry.fields) - 6} more" if len(entry.fields) > 6 else ""
    return EntryView(entry, with_query(f"{PATH}/{entry.seq}", kept), named + more, KINDS[entry.actor_kind])


def _before(cursor: str) -> tuple[int | None, dict[str, str]]:
    if not cursor:
        return None, {}
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        return None, {"cursor": "This address of a page cannot be read. Begin again from the newest."}
    return int(cursor), {}


def _older(path: str, kept: tuple[tuple[str, str], ...], found: list[Entry]) -> str:
    if len(found) <= PAGE_ENTRIES:
        return ""
    return with_query(path, [*kept, ("cursor", str(found[PAGE_ENTRIES - 1].seq))])
