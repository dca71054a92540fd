"""What every page has around it: navigation, whom it is shown as, the footer; and how a page is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pegboard.core.caller import Caller
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.registry.status import Isolation
from pegboard_hub.web.parts import Parts

HERE = Path(__file__).parent

PAGES = {"/": "Home", "/explain": "Explain", "/ledger": "Ledger"}
"""The pages by their path, in the order of the navigation."""

DEFAULT_SURFACE = "cli"


@dataclass(frozen=True, slots=True)
class Viewer:
    """The demo person a page is shown as."""

    sub: str
    name: str
    about: str
    caller: Caller

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """What keeps the viewer in a page's address."""
        return ("as", self.sub), ("surface", self.caller.surface)


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the navigation."""

    title: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds one page.

    Attributes:
        title: of the page, for the browser's tab.
        path: of the page, where its forms go.
        links: the navigation; each keeps whom the pages are shown as.
        viewer: the demo person the page is shown as; None for nobody.
        surface: where that person is.
        notice: why there is no viewer although one was asked for; empty otherwise.
        people: the demo directory's people, name by sub.
    """

    title: str
    path: str
    links: tuple[Link, ...]
    viewer: Viewer | None
    surface: str
    notice: str
    people: Mapping[str, str]
    surfaces: tuple[str, ...]
    isolation: Isolation
    public_url: str
    version: str

    def link(self, path: str, **query: str) -> str:
        """The address of a page, with whom it is shown as."""
        return with_query(path, [*(self.viewer.query if self.viewer else ()), *query.items()])


class Framer:
    """Makes frames, and answers with a page in one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._templates = _templates()
        self._version = version("pegboard-hub")

    def frame(self, request: Request, path: str, title: str = "") -> Frame:
        """The frame of the page at `path`, shown as the person that the request's `as` and `surface` choose."""
        asked = request.query_params
        directory = self._parts.sign_in.directory
        viewer, notice = self._viewer(asked.get("as", ""), asked.get("surface", "") or DEFAULT_SURFACE)
        kept = viewer.query if viewer else ()
        return Frame(
            title=title or PAGES[path],
            path=path,
            links=tuple(Link(name, with_query(href, kept), href == path) for href, name in PAGES.items()),
            viewer=viewer,
            surface=viewer.caller.surface if viewer else DEFAULT_SURFACE,
            notice=notice,
            people={sub: found.name for sub, found in directory.people.items()},
            surfaces=directory.surfaces,
            isolation=self._parts.status.read().isolation,
            public_url=self._parts.public_url,
            version=self._version,
        )

    def answer(self, template: str, frame: Frame, view: Any, status: int = 200) -> HTMLResponse:
        """The page. What a person may see must not be kept where another may look."""
        page = self._templates.get_template(template).render(frame=frame, view=view)
        return HTMLResponse(page, status, headers={"Cache-Control": "no-store"})

    def _viewer(self, person: str, surface: str) -> tuple[Viewer | None, str]:
        if not person:
            return None, ""
        try:
            caller = self._parts.sign_in.caller(person, surface)
        except OAuthRefused as error:
            return None, f"{error.description[0].upper()}{error.description[1:]}."
        found = self._parts.sign_in.directory.people[person]
        return Viewer(person, found.name, found.about, caller), ""


def with_query(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`path` with those of `pairs` that say something as its query."""
    query = urlencode([(name, value) for name, value in pairs if value])
    return f"{path}?{query}" if query else path


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style_url"] = _versioned("pegboard.css")
    environment.filters["moment"] = moment
    environment.filters["number"] = number
    return environment


def _versioned(name: str) -> str:
    """A static file's URL with its content's digest, so that browsers may keep it and still see a change."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


def moment(at_ms: int) -> str:
    """A time in milliseconds since the epoch, for people, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float) -> str:
    """A figure for people: no decimals from 100 on, one below, none where it is whole."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}"
