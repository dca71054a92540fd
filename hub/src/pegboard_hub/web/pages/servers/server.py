"""A server's pages, one for each thing people come for: what it is, tools, how to connect, reviews, releases.

Everybody who is signed in sees the server; tools are those of the person who looks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.access import decide_access, decide_method
from pegboard.core.caller import Caller
from pegboard.core.client_configs import CLIENTS, ClientConfig, entry_name
from pegboard.core.methods import CALL
from pegboard.core.names import WEB, ServerName
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import refuse
from pegboard_hub.ledger.model import DAY_MS, Figures
from pegboard_hub.registry import store
from pegboard_hub.registry.approving import needed
from pegboard_hub.registry.explain import bound_to
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.reading import ReleasePlace, ReleaseRow, releases_of
from pegboard_hub.registry.reviews.model import Review
from pegboard_hub.registry.status import Isolation
from pegboard_hub.registry.visibility import edits, insider, owns
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.knowing import known_server, knows_stop, listed, looks_after, open_from
from pegboard_hub.web.pages.frame import Frame, Framer, with_query
from pegboard_hub.web.pages.health_view import HealthView, health_view_of_one
from pegboard_hub.web.pages.servers import chart, schemas
from pegboard_hub.web.pages.servers.chart import Chart
from pegboard_hub.web.pages.servers.required import RequiredView, required_view
from pegboard_hub.web.pages.standing import Banner, Standing, banners, standing
from pegboard_hub.web.parts import Parts

PATH = "/servers/{namespace}/{name}"
PLATFORMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
DEFAULTS = {"$XDG_CONFIG_HOME": "~/.config", "$APPDATA": "%APPDATA%"}
"""How a page writes what stands in the paths of the clients' files."""

PAGE_RELEASES = 50
MOST_REVIEWS = 50

TABS = {
    "": "Overview",
    "tools": "Tools",
    "connect": "Connect",
    "security": "Security and reviews",
    "releases": "Releases",
    "deployment": "Deployment",
    "logs": "Logs",
    "history": "History",
}

INSIDE = {"deployment", "logs"}
"""Pages of a server whose releases are submitted, for those who look after it."""


class Tab(NamedTuple):
    """One of a server's pages."""

    title: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above every page of a server.

    Attributes:
        edit: address of the form that changes it; empty where this person cannot.
        reviewed: whether servers of its namespace need reviews.
        submit: address of the page that submits it; empty where it is no draft or not this person's.
        waiting: version of the release that waits for reviews; empty where none does, and for outsiders.
    """

    server: RegisteredServer
    now: Standing
    banners: tuple[Banner, ...]
    tabs: tuple[Tab, ...]
    edit: str = ""
    submit: str = ""
    reviewed: bool = True
    waiting: str = ""

    @property
    def closed(self) -> str:
        """Why nobody can call it, where nobody can, in words that follow a colon."""
        server = self.server
        lifecycle = "a draft" if server.lifecycle is Lifecycle.DRAFT else server.lifecycle.value
        if server.release or server.lifecycle is Lifecycle.RETIRED:
            return f"it is {lifecycle}"
        if self.waiting:
            return f"it is {lifecycle}, and its release {self.waiting} waits for reviews"
        if not server.first_live_at_ms:  # whether one waits is for those who look after it
            return f"it is {lifecycle}, and was never live"
        if server.waiting:
            return f"it is {lifecycle}, for a new release of it waits for reviews"
        return f"it is {lifecycle}, without a release"

    @property
    def ask(self) -> str:
        """Whom to ask about it."""
        server = self.server
        if not server.owner:
            return "Ask the platform team."
        return (
            f"Ask {server.owner} in {server.support_channel}." if server.support_channel else f"Ask {server.owner}."
        )


@dataclass(frozen=True, slots=True)
class OverviewView:
    """What a server is.

    Attributes:
        url: its address; empty while it cannot be called.
        surfaces: from where it is open to the person.
        refusal: why it is not open to them; empty where it is, or nobody looks.
        reviews: the newest of each kind.
        usage: None while it was never live.
    """

    head: Head
    health: HealthView
    url: str
    surfaces: tuple[str, ...]
    refusal: str
    tool_count: int
    reviews: tuple[Review, ...]
    figures: Figures
    usage: Chart | None


@dataclass(frozen=True, slots=True)
class ToolView:
    """One tool.

    Attributes:
        surfaces: from which the person finds it; none where only an insider knows it.
        hints: what its author says of it, in words.
        stopped: why nobody may call it now; empty while it is not stopped.
        figures: of the last days.
        try_it: address of the form that calls it; empty where it is not open to the person on our own pages.
        policy: text of its policy, for those who may know every tool; empty for others.
    """

    tool: ToolDeclaration
    surfaces: tuple[str, ...]
    hints: tuple[str, ...]
    stopped: str
    figures: Figures
    arguments: schemas.Table
    answer: schemas.Table | None
    try_it: str
    policy: str = ""


@dataclass(frozen=True, slots=True)
class ToolsView:
    """A server's tools, for one person.

    Attributes:
        others: tools that are not open to this person, who may know them all the same.
        tries: whether the person may try tools here.
        try_refusal: why not, and whom to ask.
    """

    head: Head
    surfaces: tuple[str, ...]
    tools: tuple[ToolView, ...]
    others: tuple[ToolView, ...]
    tries: bool
    try_refusal: str
    days: int = chart.DAYS


@dataclass(frozen=True, slots=True)
class Way:
    """How one client is connected to the server.

    Attributes:
        command: for a terminal; empty where the client has none.
        link: for a browser; empty where the client takes none.
        snippet: for the client's file.
        files: where that file is, by platform; one without a name where it is the same everywhere.
        then: what the person does next.
        open: whether the server is open to the person from where the client may be taken to be.
    """

    client: ClientConfig
    command: str
    link: str
    snippet: str
    files: Mapping[str, str]
    then: str
    open: bool


@dataclass(frozen=True, slots=True)
class ConnectView:
    """How clients are connected; no ways where the person does not reach the server.

    Attributes:
        url: the server's address.
        origin: this instance's, for commands.
    """

    head: Head
    url: str
    surfaces: tuple[str, ...]
    refusal: str
    ways: tuple[Way, ...]
    origin: str

    @property
    def connect(self) -> str:
        """The command that writes any client's file."""
        return f"pegboard connect CLIENT --server {self.head.server.name} --url {self.origin}"


class Asked(NamedTuple):
    """One kind of access: each value with whether it was requested and granted."""

    title: str
    values: tuple[tuple[str, bool, bool], ...]


@dataclass(frozen=True, slots=True)
class SecurityView:
    """What was looked at, by whom, and what came of it.

    Attributes:
        insides: whether the person may read what reviewers and owners wrote.
        reviewed: whether servers of its namespace need reviews.
        egress: what it may reach outside, as it declares; None before it declares anything, and for those who may
            not know.
        ask: address of the page where its owners ask for access and submit it for review; empty for others.
        stop: address of the page with the switch that stops it; empty for those who may not.
        required: approvals that the registry requires of its tools; None for those who do not look after it.
    """

    head: Head
    insides: bool
    reviewed: bool
    isolation: Isolation
    asked: tuple[Asked, ...]
    reviews: tuple[Review, ...]
    egress: tuple[str, ...] | None
    ask: str = ""
    stop: str = ""
    required: RequiredView | None = None

    @property
    def granted(self) -> bool:
        """Whether anything is granted."""
        return any(self.head.server.granted)


@dataclass(frozen=True, slots=True)
class ReleasesView:
    """A server's releases.

    Attributes:
        older: address of the next page; empty on the last.
    """

    head: Head
    releases: tuple[ReleaseRow, ...]
    older: str
    newest: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


Page = Callable[[Parts, Frame, RegisteredServer, Request], Awaitable[Any]]


def add_server_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of a server's pages."""

    def page(tab: str, template: str, view: Page) -> None:
        async def shown(request: Request, namespace: str, name: str) -> HTMLResponse:
            frame, found = framed(parts, framer, request, f"{namespace}/{name}", tab)
            return framer.answer(template, frame, await view(parts, frame, found, request))

        router.add_api_route(f"{PATH}/{tab}" if tab else PATH, shown, methods=["GET"])

    page("", "server.html", overview)
    page("tools", "server_tools.html", tools)
    page("connect", "server_connect.html", connect)
    page("security", "server_security.html", security)
    page("releases", "server_releases.html", releases)


def framed(parts: Parts, framer: Framer, request: Request, name: str, tab: str) -> tuple[Frame, RegisteredServer]:
    """The frame of one of a server's pages, and the server.

    Raises:
        Refused: there is no such server for the person who looks.
    """
    frame = framer.frame(request, request.url.path, name)
    found = known_server(parts, frame.caller, name)
    shown = TABS.get(tab, "")
    title = f"{name}: {shown}" if tab and shown else name
    return replace(frame, title=title, section="/servers"), found


async def head(parts: Parts, frame: Frame, server: RegisteredServer) -> Head:
    """What stands above a server's page."""
    caller = frame.caller
    now = standing(parts.status.read(), server, whole=frame.viewer is None or looks_after(parts, caller, server))
    if server.stopped and frame.viewer and not knows_stop(parts, caller, server):
        now = replace(now, why="")
    here = f"/servers/{server.name}"
    inside = server.submitted and looks_after(parts, caller, server)
    links = {title: f"{here}/{tab}" if tab else here for tab, title in TABS.items() if inside or tab not in INSIDE}
    # What was submitted is a page below the deployment's.
    at = f"{here}/deployment" if frame.path.startswith(f"{here}/submissions/") else frame.path
    drawn = tuple(Tab(title, frame.link(href), href == at) for title, href in links.items())
    theirs = edits(parts.reviewing.rights.roles, caller, server)
    edit = frame.link(f"{here}/edit") if theirs and editable(server) else ""
    submit = f"{here}/access" if theirs else ""
    closed = (await parts.reviewing.unreached([server])).get(str(server.name))
    ask = f"{here}/access" if owns(caller, server) else ""
    runs = frame.link(f"{here}/deployment") if inside and at != f"{here}/deployment" else ""
    said = tuple(banners(server, now, await parts.reviewing.rejections([server]), closed, ask, runs))
    needs = parts.reviewing.rights.is_reviewed(server)
    return Head(server, now, said, drawn, edit, submit, needs, await _waiting(parts, caller, server))


async def _waiting(parts: Parts, caller: Caller, server: RegisteredServer) -> str:
    """The version of the release that waits for reviews; empty where none does, and for outsiders."""
    if server.waiting is None or not looks_after(parts, caller, server):
        return ""
    async with parts.database.read() as connection:
        return await store.semver(connection, str(server.name), server.waiting.digest)


def editable(server: RegisteredServer) -> bool:
    """Whether people may write a server's record: a draft's. Later a release says it, and reviews looked at it."""
    return server.lifecycle is Lifecycle.DRAFT and not server.released


async def overview(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> OverviewView:
    """What the first page shows."""
    caller = frame.caller
    name, now_ms = str(server.name), int(time.time() * 1000)
    surfaces = open_from(parts, caller, server)
    figures = (await parts.ledger.figures_of([name])).get(name, Figures())
    days, _ = await parts.ledger.usage_of(name, now_ms - chart.DAYS * DAY_MS)
    reviews = await parts.reviewing.listed(server=name, limit=MOST_REVIEWS)
    return OverviewView(
        head=await head(parts, frame, server),
        health=await health_view_of_one(parts, server),
        url=server.name.resource_url(parts.public_url) if server.reachable else "",
        surfaces=surfaces,
        refusal=refusal(parts, frame, server, surfaces),
        tool_count=len(_listed_anywhere(parts, caller, server, surfaces)),
        reviews=newest_of_each_kind(reviews),
        figures=figures,
        usage=chart.chart(days, now_ms) if server.first_live_at_ms else None,
    )


async def tools(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> ToolsView:
    """What the page of tools shows."""
    caller = frame.caller
    surfaces = open_from(parts, caller, server)
    where = _listed_anywhere(parts, caller, server, surfaces)
    since = int(time.time() * 1000) - chart.DAYS * DAY_MS
    _, figures = await parts.ledger.usage_of(str(server.name), since)
    known = server.release or server.waiting
    declared = known.tools if known else ()
    may_try, why_not = tries(parts, frame, server)
    inside = insider(caller, server)
    views = {
        tool.name: _tool_view(tool, where.get(tool.name, ()), server, figures, may_try=may_try)
        for tool in declared
        if tool.name in where or inside
    }
    if known and inside:
        views = {name: replace(view, policy=known.policies[view.tool.policy]) for name, view in views.items()}
    return ToolsView(
        head=await head(parts, frame, server),
        surfaces=surfaces,
        tools=tuple(view for view in views.values() if view.surfaces),
        others=tuple(view for view in views.values() if not view.surfaces),
        tries=may_try,
        try_refusal=why_not,
    )


async def connect(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> ConnectView:
    """What the page on connecting shows."""
    caller = frame.caller
    surfaces = open_from(parts, caller, server)
    url = server.name.resource_url(parts.public_url) if server.reachable else ""
    ways = tuple(_way(client, server.name, url, surfaces) for client in CLIENTS) if surfaces else ()
    refused = refusal(parts, frame, server, surfaces)
    return ConnectView(await head(parts, frame, server), url, surfaces, refused, ways, parts.public_url)


async def security(parts: Parts, frame: Frame, server: RegisteredServer, request: Request) -> SecurityView:
    """What the page on security and reviews shows."""
    caller = frame.caller
    insides = looks_after(parts, caller, server)
    reviews = await parts.reviewing.listed(server=str(server.name), limit=MOST_REVIEWS)
    shown = server.release or server.waiting
    return SecurityView(
        head=await head(parts, frame, server),
        insides=insides,
        reviewed=parts.reviewing.rights.is_reviewed(server),
        isolation=parts.status.read().isolation,
        asked=tuple(_asked(server, insides)),
        reviews=tuple(reviews),
        egress=shown.manifest.egress if shown and insides else None,
        ask=f"/servers/{server.name}/access" if owns(caller, server) else "",
        stop=_switch(parts, caller, server),
        required=await required_view(parts, frame, server, request.query_params.get("done", "")),
    )


def _switch(parts: Parts, caller: Caller, server: RegisteredServer) -> str:
    """The address of the page of stops with this server filled in; empty for those who may not stop it."""
    who = Who.person(caller.sub, caller.groups)
    may = parts.stopping.governs(who) or parts.reviewing.rights.roles.own(caller.groups, server)
    if not may or not server.reachable or server.stopped:
        return ""
    return with_query("/stops", [("kind", "server"), ("name", str(server.name))])


async def releases(parts: Parts, frame: Frame, server: RegisteredServer, request: Request) -> ReleasesView:
    """What the page of releases shows."""
    after = _place(request.query_params.get("cursor", ""))
    mine = looks_after(parts, frame.caller, server)
    async with parts.database.read() as connection:
        found, rest = await releases_of(connection, str(server.name), after, PAGE_RELEASES, deployed_only=not mine)
    here = f"/servers/{server.name}/releases"
    query = frame.viewer.query if frame.viewer else ()
    return ReleasesView(
        head=await head(parts, frame, server),
        releases=tuple(found),
        older=with_query(here, [*query, ("cursor", f"{rest.seen_at_ms}-{rest.digest}")]) if rest else "",
        newest=with_query(here, query) if after else "",
        words={
            **({server.waiting.digest: "waits for reviews"} if server.waiting else {}),
            **({server.release.digest: "deployed"} if server.release else {}),
        },
    )


def tries(parts: Parts, frame: Frame, server: RegisteredServer) -> tuple[bool, str]:
    """Whether who is signed in may try tools of a server on our pages; if not, why, and whom to ask.

    It is always who is signed in, whoever the page is shown as.
    """
    session = frame.session
    if not server.reachable:
        return False, ""
    if session is None:
        return False, "Sign in to try a tool: the call is made as you."
    if frame.viewer is None or frame.viewer.sub != session.facts.sub:
        return False, "A tool is tried as who is signed in, and this page is shown as somebody else."
    mine = replace(frame.viewer.caller, surface=WEB, channel=None)
    access = replace(server.access(parts.public_url), rules=parts.rules.current.of(server.name))
    bound = bound_to(mine, server, parts.public_url)
    refused = decide_access(bound, access).refusal or decide_method(bound, access, CALL).refusal
    return (refused is None), (refused.message if refused else "")


def refusal(parts: Parts, frame: Frame, server: RegisteredServer, surfaces: tuple[str, ...]) -> str:
    """Why a server is not open to somebody; empty where it is, where nobody looks, and where it is open to nobody."""
    if frame.viewer is None or surfaces or not server.reachable:
        return ""
    unstopped = replace(server.access(parts.public_url), stopped="")
    refused = decide_access(bound_to(frame.caller, server, parts.public_url), unstopped).refusal
    return refused.message if refused else ""


def newest_of_each_kind(reviews: list[Review]) -> tuple[Review, ...]:
    """The newest review of each kind, of rows that come newest first."""
    found: dict[str, Review] = {}
    for row in reviews:
        found.setdefault(row.kind, row)
    return tuple(found[kind] for kind in sorted(found))


def hints(tool: ToolDeclaration) -> Iterator[str]:
    """What a tool's author says of it, in words. It is their word: nothing holds them to it but the reviews."""
    yield "only reads" if tool.read_only else "may change things"
    for name, words in _HINTS.items():
        if (said := getattr(tool, name)) in words:
            yield words[said]


def _waits(tool: ToolDeclaration, server: RegisteredServer) -> Iterator[str]:
    """Whether calls wait for people, in a word or two; the page that explains says for whom."""
    found = needed(server, tool.name)
    always = any(each.always for each in found)
    if found:
        yield "needs an approval" if always else "may need an approval"
    if tool.confirmation and not always:
        yield "may ask the caller to confirm"


_HINTS = {
    "destructive": {True: "may overwrite or delete"},
    "idempotent": {True: "the same when called again"},
    "open_world": {True: "reaches outside the company", False: "stays inside the company"},
}


def _listed_anywhere(
    parts: Parts, caller: Caller, server: RegisteredServer, surfaces: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """From which of `surfaces` each tool is listed; without those that are listed nowhere."""
    found: dict[str, tuple[str, ...]] = {}
    for surface in surfaces:
        for tool in listed(parts, caller, server, surface):
            found[tool.name] = (*found.get(tool.name, ()), surface)
    return found


def _tool_view(
    tool: ToolDeclaration,
    surfaces: tuple[str, ...],
    server: RegisteredServer,
    figures: Mapping[str, Figures],
    *,
    may_try: bool,
) -> ToolView:
    offered = may_try and WEB in surfaces and tool.name not in server.stopped_tools
    return ToolView(
        tool=tool,
        surfaces=surfaces,
        hints=(*hints(tool), *_waits(tool, server)),
        stopped=server.stopped_tools.get(tool.name, ""),
        figures=figures.get(tool.name, Figures()),
        arguments=schemas.table(tool.input_schema),
        answer=schemas.table(tool.output_schema) if tool.output_schema else None,
        try_it=with_query(f"/servers/{server.name}/try", [("tool", tool.name)]) if offered else "",
    )


def _asked(server: RegisteredServer, insides: bool) -> Iterator[Asked]:
    kinds = ("groups", "surfaces", "channels", "services") if insides else ("groups", "surfaces")
    for kind in kinds:
        granted = getattr(server.granted, kind)
        # What was asked for and not given is for those who look after it.
        requested = getattr(server.requested, kind) if insides else granted
        values = sorted({*requested, *granted})
        if values or kind in ("groups", "surfaces"):
            yield Asked(kind.capitalize(), tuple((value, value in requested, value in granted) for value in values))


def _place(cursor: str) -> ReleasePlace | None:
    if not cursor:
        return None
    at, _, digest = cursor.partition("-")
    if not (at.isascii() and at.isdigit() and len(at) <= 15 and digest.isascii() and digest.isalnum()):
        raise refuse(422, "invalid_request", "cursor: it is not one that a page gave.", "Begin again without it.")
    return ReleasePlace(int(at), digest[:64])


def _way(client: ClientConfig, server: ServerName, url: str, surfaces: tuple[str, ...]) -> Way:
    name = entry_name(server)
    return Way(
        client=client,
        command=client.command_for(name, url),
        link=client.link_for(name, url),
        snippet=client.snippet(name, url),
        files=_files(client),
        then=client.then.replace("NAME", name),
        open=not set(client.surfaces).isdisjoint(surfaces),
    )


def _files(client: ClientConfig) -> dict[str, str]:
    written = {PLATFORMS[platform]: _written(path) for platform, path in client.files.items()}
    return {"": next(iter(written.values()))} if len(set(written.values())) == 1 else written


def _written(path: str) -> str:
    for variable, shown in DEFAULTS.items():
        path = path.replace(variable, shown)
    return path
