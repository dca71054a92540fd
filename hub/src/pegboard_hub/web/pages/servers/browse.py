"""Browse and search the servers. The page is whole without a script; htmx asks for it again while one types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.caller import Caller
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import PERSON_SURFACES
from pegboard_hub.ledger.model import Figures
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.query import Query, QueryRefused
from pegboard_hub.registry.search import Hit
from pegboard_hub.web.pages.frame import Frame, Framer, with_query
from pegboard_hub.web.pages.standing import Standing, standing
from pegboard_hub.web.parts import Parts

PATH = "/servers"
PAGE_SERVERS = 25
MOST_OFFERED = 200
"""Owners and namespaces that a filter offers; more of them are searched for by their name."""

MOST_SORTED = 2000
"""Servers that are put in another order than the search's own."""

STATES = (
    "live",
    "starting",
    "down",
    "flapping",
    "stopped",
    "preparing",
    "failed",
    "not started",
    "unknown",
    "not deployed",
)
LIFECYCLES = tuple(each.value for each in Lifecycle)
SORTS = {"": "relevance", "name": "name", "usage": "most used"}


FIELDS = ("q", "owner", "namespace", "sensitivity", "status", "lifecycle", "use", "sort")
"""The form's fields, by their name in the page's address."""

BESIDE = frozenset({"as", "surface", "cursor"})
"""What else may stand in it: whom the page is shown as, and where the list goes on."""


class Choice(NamedTuple):
    """A value that a filter offers."""

    value: str
    words: str


class Narrower(NamedTuple):
    """A value that what was found can be narrowed down to, and to how many; or a chosen one, to be taken away."""

    value: str
    number: int
    href: str
    chosen: bool


class Facet(NamedTuple):
    """The values of one filter among what was found."""

    label: str
    choices: tuple[Narrower, ...]


class Filter(NamedTuple):
    """One filter of the form."""

    name: str
    label: str
    anything: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One server of the list.

    Attributes:
        tools: those that matched, of the person's own.
        mine: whether the person reaches it from where they look.
    """

    hit: Hit
    now: Standing
    figures: Figures

    @property
    def css(self) -> str:
        """An id for the page."""
        return str(self.hit.server.name).replace("/", "-")


@dataclass(frozen=True, slots=True)
class BrowseView:
    """What the page shows.

    Attributes:
        asked: what the form says, by field.
        problems: what is wrong with it, by field.
        told: what was found, in words.
        older: address of the next page; empty on the last.
        newest: address of the first page; empty on it.
        cut: whether only the first of what was found are in the order that was asked for.
        unknown: what the address asks for that the page knows nothing of; `known_fields` are what it knows.
    """

    asked: Mapping[str, str]
    problems: Mapping[str, str]
    filters: tuple[Filter, ...]
    items: tuple[Item, ...] = ()
    told: str = ""
    known: int = 0
    older: str = ""
    newest: str = ""
    cut: bool = False
    narrower: tuple[Facet, ...] = ()
    unknown: tuple[str, ...] = ()
    known_fields: tuple[str, ...] = FIELDS

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What keeps the search when the viewer changes."""
        return [(name, value) for name, value in self.asked.items() if value]

    @property
    def searched(self) -> bool:
        """Whether something was asked for."""
        return any(value for name, value in self.asked.items() if name != "sort")


def add_browse_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the route of the page."""

    @router.get(PATH)
    async def browse(request: Request) -> Response:
        frame = framer.frame(request, PATH)
        unknown = tuple(each[:64] for each in request.query_params if each not in {*FIELDS, *BESIDE})
        view = replace(await browse_view(parts, frame, request.query_params), unknown=unknown[:8])
        part = request.headers.get("hx-request-type") == "partial"
        template = "browse_results.html" if part else "browse.html"
        here = with_query(PATH, [*(frame.viewer.query if frame.viewer else ()), *view.asked.items()])
        response: HTMLResponse = framer.answer(template, frame, view, 422 if view.problems and not part else 200)
        response.headers.update({"Vary": "HX-Request-Type", **({"HX-Replace-Url": here} if part else {})})
        return response


async def browse_view(parts: Parts, frame: Frame, query: Mapping[str, str]) -> BrowseView:
    """What the page shows to the viewer."""
    asked = {name: query.get(name, "").strip() for name in FIELDS}
    caller = frame.caller
    # Filters offer all that there is, so that one can go from one value to another.
    filters = _filters(asked, parts.catalogue.find(caller, Query(limit=1)).facets)
    problems = dict(_problems(asked))
    if problems:
        return BrowseView(asked, problems, filters)
    wanted = _query(asked, query.get("cursor", ""))
    try:
        # The order is the search's own unless another is asked for.
        own = not asked["sort"]
        found = parts.catalogue.find(caller, wanted if own else replace(wanted, cursor=None))
        hits, rest, cut = found.items, found.next, False
        if not own:
            hits, rest, cut = await _sorted(parts, caller, wanted, asked["sort"])
    except QueryRefused as error:
        field = {"text": "q"}.get(error.field, error.field)
        return BrowseView(asked, {field: f"{error.message} {error.mend}"}, filters)
    figures = await parts.ledger.figures_of([str(hit.server.name) for hit in hits])
    status = parts.status.read()
    keep = [*(frame.viewer.query if frame.viewer else ()), *asked.items()]
    return BrowseView(
        asked,
        {},
        filters,
        items=tuple(
            Item(hit, standing(status, hit.server), figures.get(str(hit.server.name), Figures())) for hit in hits
        ),
        told=_told(found.counts.matched, len(hits), any(hit.tools for hit in hits)),
        known=found.counts.known,
        older=with_query(PATH, [*keep, ("cursor", rest)]) if rest else "",
        newest=with_query(PATH, keep) if wanted.cursor else "",
        cut=cut,
        narrower=tuple(_narrower(found.facets, keep, asked)),
    )


FACETS = {"owner": "Owner", "namespace": "Namespace", "sensitivity": "Data", "lifecycle": "Lifecycle"}
MOST_NARROWER = 8


def _narrower(
    facets: Mapping[str, Mapping[str, int]], keep: list[tuple[str, str]], asked: Mapping[str, str]
) -> Iterator[Facet]:
    """The filters that would leave some of what was found and not all, the largest part first."""
    for name, label in FACETS.items():
        counts = facets.get(name, {})
        if len(counts) < 2:
            continue
        others = [pair for pair in keep if pair[0] != name]
        largest = sorted(counts.items(), key=lambda pair: (pair[0] != asked[name], -pair[1], pair[0]))
        yield Facet(
            label,
            tuple(
                Narrower(
                    value,
                    count,
                    with_query(PATH, [*others, (name, "" if value == asked[name] else value)]),
                    value == asked[name],
                )
                for value, count in largest[:MOST_NARROWER]
                if value
            ),
        )


def _query(asked: Mapping[str, str], cursor: str) -> Query:
    return Query(
        text=asked["q"],
        owner=_one(asked["owner"]),
        namespace=_one(asked["namespace"]),
        sensitivity=_one(asked["sensitivity"]),
        lifecycle=_one(asked["lifecycle"]),
        status=_one(asked["status"]),
        usable_from=asked["use"] or None,
        cursor=cursor or None,
        limit=PAGE_SERVERS,
    )


def _one(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


_KNOWN = {
    "sensitivity": get_args(Sensitivity),
    "status": STATES,
    "lifecycle": LIFECYCLES,
    "use": PERSON_SURFACES,
    "sort": tuple(SORTS),
}


def _problems(asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, known in _KNOWN.items():
        if asked[name] and asked[name] not in known:
            yield name, f"Choose one of {', '.join(filter(None, known))}."
    for name in ("owner", "namespace"):
        if len(asked[name]) > 64:
            yield name, "It is longer than any name."


async def _sorted(
    parts: Parts, caller: Caller, wanted: Query, order: str
) -> tuple[tuple[Hit, ...], str | None, bool]:
    """A page in another order than the search's own: by name, or by usage. The cursor is the last server's name."""
    hits: list[Hit] = []
    page = replace(wanted, cursor=None, limit=200)
    while len(hits) < MOST_SORTED:
        found = parts.catalogue.find(caller, page)
        hits += found.items
        if found.next is None:
            break
        page = replace(page, cursor=found.next)
    hits.sort(key=lambda hit: str(hit.server.name))
    if order == "usage":
        figures = await parts.ledger.figures_of([str(hit.server.name) for hit in hits])
        hits.sort(key=lambda hit: -figures.get(str(hit.server.name), Figures()).calls)
    names = [str(hit.server.name) for hit in hits]
    begin = 0
    if wanted.cursor is not None:
        if wanted.cursor not in names:
            raise QueryRefused("cursor", "The list has changed since.", "Begin again from the first page.")
        begin = names.index(wanted.cursor) + 1
    shown = tuple(hits[begin : begin + PAGE_SERVERS])
    rest = names[begin + PAGE_SERVERS - 1] if len(hits) > begin + PAGE_SERVERS else None
    return shown, rest, found.next is not None


def _filters(asked: Mapping[str, str], facets: Mapping[str, Mapping[str, int]]) -> tuple[Filter, ...]:
    def counted(name: str, known: Iterable[str] = ()) -> tuple[Choice, ...]:
        counts = facets.get(name, {})
        values = [value for value in known if value in counts] if known else list(counts)
        kept = [value for value in (asked[name],) if value and value not in values]
        return tuple(Choice(value, value) for value in islice(filter(None, [*kept, *values]), MOST_OFFERED))

    return (
        Filter("owner", "Owner", "any team", counted("owner")),
        Filter("namespace", "Namespace", "any", counted("namespace")),
        Filter("sensitivity", "Data", "any", counted("sensitivity", get_args(Sensitivity))),
        Filter("lifecycle", "Lifecycle", "any", counted("lifecycle", LIFECYCLES)),
        Filter("status", "Status now", "any", tuple(Choice(state, state) for state in STATES)),
        Filter("use", "I may use from", "no matter", tuple(Choice(s, s) for s in PERSON_SURFACES)),
        Filter("sort", "Sorted by", "relevance" if asked["q"] else "name", _sorts(asked["q"])),
    )


def _sorts(text: str) -> tuple[Choice, ...]:
    return tuple(Choice(value, words) for value, words in SORTS.items() if value and (text or value != "name"))


def _told(matched: int, shown: int, by_tools: bool) -> str:
    if by_tools and shown > matched:
        # What matches by tools alone is not counted: the search tells nobody of tools that they may not list.
        return f"{shown} server{'' if shown == 1 else 's'} found on this page, some by their tools."
    return f"{matched:,} server{'' if matched == 1 else 's'} found."
