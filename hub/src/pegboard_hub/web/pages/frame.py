"""What every page has around it: navigation, whom it is shown as, the footer; and how a page is answered."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pegboard.core.caller import Caller
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.stops import ASK, told
from pegboard.core.text import sentence
from pegboard_hub.common.requests import NoRoute, Refused, answer, refuse, request_id
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.reviews.model import TITLES as REVIEW_TITLES
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.status import Isolation
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.pages.browser import NOBODY, Browsers, Visitor, signed_in, visitor
from pegboard_hub.web.pages.onward import onward, sign_in_path
from pegboard_hub.web.parts import Parts

HERE = Path(__file__).parent

PAGES = {
    "/": "Home",
    "/servers": "Servers",
    "/teams": "Teams",
    "/approvals": "Approvals",
    "/reviews": "Reviews",
    "/explain": "Explain",
    "/ledger": "Ledger",
    "/history": "History",
}
"""The pages by their path, in the order of the navigation."""

GOVERNORS_PAGES = {"/stops": "Stops", "/rules": "Rules", "/edges": "Edges"}
"""Pages behind `OPERATE` for security, too."""

OPERATORS_PAGES = {"/clients": "Clients", "/surfaces": "Surfaces", **GOVERNORS_PAGES}
"""Pages behind `OPERATE` for operators alone."""

OPERATE = "Operate"
"""The entry of the navigation behind which those pages are, each a tab: it leads to the first."""

DEFAULT_SURFACE = "cli"

TITLES = {
    401: "Not signed in",
    403: "Not allowed",
    404: "There is nothing here",
    500: "Something went wrong",
    503: "Not just now",
}
"""What the page of a refusal is called, by its status."""

NO_PAGE = ("No page of Pegboard is at this address.", "It may have been mistyped, or have moved.")
"""What a person is told where a program is told of the API's description."""

STRANGER = Caller("", "person", (), "", "", "", 0, "")
"""Who looks where nobody is signed in, as the demo directory allows: they may know no tool and no draft."""

CLIENT = "pegboard-pages"
"""The client id of whoever looks at pages; no token has it."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person a page is shown as.

    Attributes:
        chosen: whether the address says so; otherwise it is who is signed in.
    """

    sub: str
    name: str
    about: str
    caller: Caller
    chosen: bool

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """What keeps the viewer in a page's address."""
        return ("as", self.sub if self.chosen else ""), ("surface", self.caller.surface)


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the navigation.

    Attributes:
        count: how much there waits for whoever looks.
    """

    title: str
    href: str
    current: bool
    path: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds one page.

    Attributes:
        title: of the page, for the browser's tab.
        path: of the page, where its forms go.
        section: path of the entry of the navigation that the page belongs to; empty where that is its own.
        links: the navigation; each keeps whom the pages are shown as.
        operating: the pages behind `OPERATE` that whoever is signed in here may see.
        viewer: the person the page is shown as; None for nobody.
        surface: where that person is.
        notice: why there is no viewer although one was asked for; empty otherwise.
        login: what people sign in with, by name.
        people: the demo directory's people, name by sub; None with any other login.
        visitor: the browser that asked, and who is signed in there.
        sign_in: the address of the sign-in page, which leads back here.
    """

    title: str
    path: str
    links: tuple[Link, ...]
    operating: tuple[Link, ...]
    viewer: Viewer | None
    surface: str
    notice: str
    login: str
    people: Mapping[str, str] | None
    visitor: Visitor
    sign_in: str
    surfaces: tuple[str, ...]
    isolation: Isolation
    public_url: str
    version: str
    section: str = ""

    @property
    def session(self) -> Session | None:
        """Who is signed in in this browser, whoever the page is shown as."""
        return self.visitor.session

    @property
    def caller(self) -> Caller:
        """Who looks, for the rules of who may know what."""
        return self.viewer.caller if self.viewer else STRANGER

    @property
    def demo(self) -> bool:
        """Whether people come from the demo directory."""
        return self.people is not None

    def form_token(self, action: str) -> str:
        """What makes a form of this page count that is sent to `action`, whatever that asks for."""
        return self.visitor.form_token(action.partition("?")[0])

    @property
    def navigation(self) -> Iterator[Link]:
        """The links, with the one of the page's section marked."""
        yield from map(self._marked, self.links)
        if self.operating:
            yield replace(self.operating[0], title=OPERATE, current=bool(self.tabs))

    @property
    def tabs(self) -> tuple[Link, ...]:
        """The pages behind `OPERATE`, where this is one of them."""
        marked = tuple(map(self._marked, self.operating))
        return marked if any(link.current for link in marked) else ()

    def _marked(self, link: Link) -> Link:
        return replace(link, current=link.current or link.path == self.section)

    def link(self, path: str, **query: str) -> str:
        """The address of a page, with whom it is shown as."""
        return with_query(path, [*(self.viewer.query if self.viewer else ()), *query.items()])


@dataclass(frozen=True, slots=True)
class RefusalView:
    """What the page of a refusal shows.

    Attributes:
        facts: what the request said, by label; a stranger's text.
        whom: whom the message ends with; a stranger's word, too.
        nearest: address and name of the page of the navigation that the address belongs to; None where there is none.
    """

    message: str
    what_to_do: str
    code: str
    reason: str
    request_id: str
    facts: Mapping[str, str] = field(default_factory=dict)
    whom: str = ""
    nearest: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class OnwardView:
    """A page that leads on to another, by itself or by a click."""

    then: str
    words: str
    by_itself: bool = True


class Framer:
    """Makes frames, and answers with a page in one.

    Attributes:
        browsers: tells whose browser a request comes from.
    """

    def __init__(self, parts: Parts, browsers: Browsers) -> None:
        self.browsers = browsers
        self._parts = parts
        self._templates = _templates()
        self._version = version("pegboard-hub")

    async def allow(self, request: Request) -> None:
        """Let a request for a page pass: who is not signed in sees none but with the demo directory.

        Raises:
            SignInNeeded: nobody is signed in.
            Refused: it asks for the page as somebody else sees it.
        """
        if self._parts.identity.demo is not None:
            return
        signed_in(request)
        if "as" in request.query_params:
            message = "Pages are shown as somebody else only with the demo directory."
            raise refuse(403, "access_denied", message, "Leave `as` out of the address.", "as_refused")

    async def going(self, request: Request) -> None:
        """Let a request for a page pass, unless the person who is signed in is stopped.

        Raises:
            Refused: they are; it says why.
        """
        session = visitor(request).session
        why = self._parts.stops.current.people.get(session.facts.sub) if session else None
        if why:
            raise refuse(403, "stopped", f"{told('person', why)}.", ASK, "person_stopped")

    def frame(self, request: Request, path: str, title: str = "") -> Frame:
        """The frame of the page at `path`, shown as who is signed in or as the request's `as` chooses."""
        asked = request.query_params
        viewer, notice = self._viewer(request, asked.get("surface", "") or DEFAULT_SURFACE)
        return self._frame(request, path, title or PAGES[path], viewer, notice)

    def answer(self, template: str, frame: Frame, view: Any, status: int = 200) -> HTMLResponse:
        """The page. What a person may see must not be kept where another may look."""
        page = self._templates.get_template(template).render(frame=frame, view=view)
        return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})

    def onward(self, request: Request, title: str, words: str, then: str) -> HTMLResponse:
        """The answer to a form after which the way leads to a client: a page that goes on to `then` by itself.

        It is no redirect, because Chromium holds every step after a form against the page's `form-action`: the
        client's address, and wherever the client leads on to from there, which nobody here can know.
        """
        return self.answer("onward.html", self.bare(request, title), OnwardView(then, words))

    def bare(self, request: Request, title: str) -> Frame:
        """The frame of a page that is at no path of its own, shown as nobody."""
        return replace(self._frame(request, "", title, None, ""), sign_in=sign_in_path("/"))

    async def refusal(self, request: Request, refused: Refused) -> Response:
        """A refusal as a page, where the request comes from somebody who looks at pages; else as JSON."""
        if not wants_page(request):
            return answer(request, refused)
        try:
            await self.browsers.visit(request)
        except Exception:
            request.state.visitor = NOBODY
        told = refused.refusal
        said = NO_PAGE if isinstance(refused, NoRoute) else (told.message, told.what_to_do)
        nearest = _nearest(request.url.path)
        view = RefusalView(*said, told.code, told.reason, request_id(request), nearest=nearest)
        title = TITLES.get(refused.status, "This cannot be done")
        response = self.answer("refused.html", self.bare(request, title), view, refused.status)
        response.headers.update(refused.headers)
        return response

    def _frame(self, request: Request, path: str, title: str, viewer: Viewer | None, notice: str) -> Frame:
        demo, kept = self._parts.identity.demo, viewer.query if viewer else ()
        here = f"{request.url.path}?{request.url.query}" if request.method == "GET" else request.url.path
        waiting: Mapping[str, int] = getattr(request.state, "waiting", {})

        def links(pages: Mapping[str, str]) -> tuple[Link, ...]:
            return tuple(
                Link(name, with_query(href, kept), href == path, href, waiting.get(href, 0))
                for href, name in pages.items()
            )

        return Frame(
            title=title,
            path=path,
            links=links(PAGES),
            operating=links(self._operating(request)),
            viewer=viewer,
            surface=viewer.caller.surface if viewer else DEFAULT_SURFACE,
            notice=notice,
            login=self._parts.identity.sessions.login.name,
            people={sub: found.name for sub, found in demo.directory.people.items()} if demo else None,
            visitor=visitor(request),
            sign_in=sign_in_path(onward(here.rstrip("?"))),
            surfaces=demo.directory.surfaces if demo else PERSON_SURFACES,
            isolation=self._parts.status.read().isolation,
            public_url=self._parts.public_url,
            version=self._version,
        )

    def _operating(self, request: Request) -> Mapping[str, str]:
        """The pages of those who look after the instance, for whoever is signed in here."""
        session = visitor(request).session
        if session is None:
            return {}
        facts = session.facts
        if self._parts.identity.clients.may_look_after(facts.groups):
            return OPERATORS_PAGES
        return GOVERNORS_PAGES if self._parts.stopping.governs(Who.person(facts.sub, facts.groups)) else {}

    def _viewer(self, request: Request, surface: str) -> tuple[Viewer | None, str]:
        demo, session = self._parts.identity.demo, visitor(request).session
        person = request.query_params.get("as", "")
        if demo is not None and person:
            try:
                caller = demo.caller(person, surface)
            except OAuthRefused as error:
                return None, sentence(error.description)
            found = demo.directory.people[person]
            return Viewer(person, found.name, found.about, caller, chosen=True), ""
        return _as_themselves(session, surface) if session else (None, "")


def wants_page(request: Request) -> bool:
    """Whether somebody looks: browsers ask for HTML by name when a page is opened, and programs do not."""
    return "text/html" in request.headers.get("accept", "")


def _nearest(path: str) -> tuple[str, str] | None:
    """The page of the navigation under which an address is."""
    first = "/" + path.split("/")[1]
    title = PAGES.get(first)
    return (first, title) if title and first != "/" else None


def _as_themselves(session: Session, surface: str) -> tuple[Viewer | None, str]:
    if surface not in PERSON_SURFACES:
        return None, f"Unknown surface {surface!r}; known are {', '.join(PERSON_SURFACES)}."
    facts = session.facts
    caller = caller_of(facts, surface, CLIENT)
    return Viewer(facts.sub, facts.name, f"{facts.email or facts.sub}, signed in.", caller, chosen=False), ""


def with_query(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`path` with those of `pairs` that say something as its query."""
    query = urlencode([(name, value) for name, value in pairs if value])
    return f"{path}?{query}" if query else path


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style_url"] = _versioned("pegboard.css")
    environment.globals["copy_url"] = _versioned("copy.js")
    environment.globals["htmx_url"] = _versioned("htmx.min.js")
    environment.globals["live_url"] = _versioned("live.js")
    environment.filters["shown"] = shown
    environment.filters["unindented"] = cleandoc
    environment.filters["shown_block"] = shown_block
    environment.filters["day"] = day
    environment.filters["sentence"] = sentence
    environment.filters["moment"] = moment
    environment.filters["number"] = number
    environment.filters["reviews_named"] = reviews_named
    environment.filters["review_title"] = REVIEW_TITLES.__getitem__
    return environment


def _versioned(name: str) -> str:
    """A static file's URL with its content's digest, so that browsers may keep it and still see a change."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


def moment(at_ms: int) -> str:
    """A time in milliseconds since the epoch, for people, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def shown_block(text: str) -> str:
    """Text of a stranger that may have lines: each of them as `shown` writes it."""
    return "\n".join(shown(line) for line in text.expandtabs(4).split("\n"))


def day(at_ms: int) -> str:
    """A day, of a time in milliseconds since the epoch, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def number(value: float) -> str:
    """A figure for people: no decimals from 100 on, one below, none where it is whole."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}"


_REVIEW = re.compile(rf"\b({'|'.join(REVIEW_TITLES)}) review ([0-9a-f]{{16,32}})\b")


def reviews_named(text: str, linked: bool) -> Markup:
    """A text with the reviews in it by what people call them; `linked` for those who may read them."""
    parts: list[Markup] = []
    end = 0
    for found in _REVIEW.finditer(text):
        words = f"{REVIEW_TITLES[Kind(found[1])]} review"
        link = Markup('<a href="/reviews/{}">{}</a>').format(found[2], words) if linked else escape(words)
        parts += [escape(text[end : found.start()]), link]
        end = found.end()
    return Markup().join([*parts, escape(text[end:])])
