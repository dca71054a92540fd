"""The home page: how it all stands, what is mine, what needs me, what is open to me. The rest is on `/servers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.access import decide_access
from pegboard.core.caller import Caller
from pegboard.core.release import ToolDeclaration
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.ledger.model import Call, Figures
from pegboard_hub.ledger.questions import Search
from pegboard_hub.registry.explain import bound_to, visible_tools
from pegboard_hub.registry.first_steps import first_commands
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.query import Query
from pegboard_hub.registry.reviews.model import TITLES, Kind, Review
from pegboard_hub.registry.status import RuntimeStatus, ServerState
from pegboard_hub.web.calls import live_since, reader_of
from pegboard_hub.web.knowing import looks_after, owned
from pegboard_hub.web.notices import current_notices
from pegboard_hub.web.pages.frame import Framer, Viewer, with_query
from pegboard_hub.web.pages.standing import UNWELL, Standing, standing
from pegboard_hub.web.parts import Parts

PATH = "/"
DEFAULT_PORT = 8400
RECENT_CALLS = 12
MOST_MINE = 12
MOST_OPEN = 12
MOST_NEEDS = 8
FILLED_UP_TO = 6
"""Servers that are shown, if there are so many: those that are not open to somebody say why, and whom to ask."""

NOT_THERE: frozenset[ServerState] = frozenset({"not started", "preparing", "failed"})
"""Servers in these states are nothing to begin with."""

UNSHOWN = frozenset({Lifecycle.DRAFT, Lifecycle.RETIRED})
"""Servers of others that nobody begins with."""

NEEDY = UNWELL | {"stopped"}


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server on the home page. With nobody chosen, `tools` and `refusal` stay empty.

    Attributes:
        tools: those the chosen person may see.
        refusal: why the chosen person does not get in; empty when they do.
    """

    server: RegisteredServer
    now: Standing
    figures: Figures
    tools: tuple[ToolDeclaration, ...]
    refusal: str


class Need(NamedTuple):
    """Something that waits for the person who looks: what, and where."""

    words: str
    href: str


@dataclass(frozen=True, slots=True)
class HomeView:
    """Everything the home page shows within its frame.

    Attributes:
        mine: servers of the person's teams that are not retired; `more_mine` are not shown.
        servers: others: those that are open to the person first.
        all_open: whether all of those others are open to the person.
        reaches_any: whether the chosen person gets into at least one server.
        browse: address of all servers that are open to the person.
        server_count: those that can be called.
        first_setting: what a terminal must be told of where this instance is; empty at the usual place.
    """

    problems: tuple[str, ...]
    notices: tuple[str, ...]
    totals: Figures
    tool_count: int
    server_count: int
    needs: tuple[Need, ...]
    mine: tuple[ServerView, ...]
    more_mine: int
    servers: tuple[ServerView, ...]
    all_open: bool
    reaches_any: bool
    browse: str
    calls: tuple[Call, ...]
    first_commands: tuple[str, ...]
    first_setting: str


def add_home_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the route of the home page."""

    @router.get(PATH)
    async def home(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        return framer.answer("home.html", frame, await home_view(parts, frame.viewer))


async def home_view(parts: Parts, viewer: Viewer | None) -> HomeView:
    """What the home page shows to one person, or to nobody in particular."""
    snapshot, status = parts.registry.current, parts.status.read()
    caller = viewer.caller if viewer else None
    mine = [s for s in owned(parts, caller) if s.lifecycle is not Lifecycle.RETIRED] if caller else []
    open_ones = _open(parts, caller)
    shown = _others(parts, mine, open_ones)
    names = [str(server.name) for server in (*mine[:MOST_MINE], *shown)]
    figures = await parts.ledger.figures_of(names)
    calls: list[Call] = []
    if viewer is not None:
        page = await parts.ledger.find(reader_of(parts, viewer.caller), Search(), live_since(status), RECENT_CALLS)
        calls = page.calls

    def views(servers: list[RegisteredServer]) -> tuple[ServerView, ...]:
        return tuple(_server_view(parts, s, status, figures.get(str(s.name), Figures()), caller) for s in servers)

    return HomeView(
        problems=(*snapshot.problems, *await parts.ledger.problems()),
        notices=current_notices(parts),
        totals=await parts.ledger.total(),
        tool_count=sum(len(server.release.tools) for server in snapshot.all_deployed if server.release),
        server_count=sum(1 for _ in snapshot.all_deployed),
        needs=tuple(islice(await _needs(parts, viewer, mine, status), MOST_NEEDS)),
        mine=views(mine[:MOST_MINE]),
        more_mine=max(len(mine) - MOST_MINE, 0),
        servers=views(shown),
        all_open=all(server in open_ones for server in shown),
        reaches_any=bool(open_ones),
        browse=with_query("/servers", [*viewer.query, ("use", viewer.caller.surface)]) if viewer else "/servers",
        calls=tuple(calls),
        first_commands=_first_commands(parts, status),
        first_setting=first_setting(parts.public_url),
    )


def _open(parts: Parts, caller: Caller | None) -> list[RegisteredServer]:
    """Servers that are open to somebody from where they look, the first of them."""
    if caller is None:
        return []
    found = parts.catalogue.find(caller, Query(usable_from=caller.surface, limit=MOST_OPEN))
    return [hit.server for hit in found.items]


def _others(parts: Parts, mine: list[RegisteredServer], open_ones: list[RegisteredServer]) -> list[RegisteredServer]:
    """What is shown beside one's own: what is open to one, filled up with what is not."""
    shown = {str(server.name): server for server in open_ones if server not in mine}
    rest = (s for s in parts.registry.current.servers.values() if s.lifecycle not in UNSHOWN and s not in mine)
    for server in rest:
        if len(shown) + len(mine) >= FILLED_UP_TO:
            break
        shown.setdefault(str(server.name), server)
    return list(shown.values())


async def _needs(
    parts: Parts, viewer: Viewer | None, mine: list[RegisteredServer], status: RuntimeStatus
) -> Iterator[Need]:
    """What waits for the person who looks: reviews to decide, and what is the matter with their own servers."""
    if viewer is None:
        return iter(())
    person = PersonFacts(viewer.sub, viewer.name, viewer.caller.groups, viewer.caller.email)
    waiting = Counter(review.kind for review in await parts.reviewing.waiting_for(person))
    rejected = await parts.reviewing.rejections(mine[:MOST_MINE])
    closed = await parts.reviewing.unreached(mine[:MOST_MINE])
    taken = await parts.reviewing.taken_from(mine[:MOST_MINE])
    approvals = await parts.approvals.waiting(parts.approvals.reader(viewer.sub, viewer.caller.groups))
    return chain(_approvals(approvals), _told_needs(viewer, mine, status, waiting, rejected, closed, taken))


def _approvals(count: int) -> Iterator[Need]:
    """Calls that wait for a yes come first: somebody sits before each of them."""
    if count:
        words = "99 calls or more wait" if count > 99 else f"{count} {'call waits' if count == 1 else 'calls wait'}"
        yield Need(f"{words} for your yes", "/approvals")


def _told_needs(
    viewer: Viewer,
    mine: list[RegisteredServer],
    status: RuntimeStatus,
    waiting: Mapping[Kind, int],
    rejected: Iterable[Review],
    closed: Iterable[str],
    taken: Mapping[str, Access],
) -> Iterator[Need]:
    for review in rejected:
        words = (
            f"The {TITLES[review.kind]} review of {review.server} was rejected: change what it asks for, or reopen it"
        )
        yield Need(words, f"/reviews/{review.id}")
    for name in closed:
        yield Need(f"Nobody can reach {name}: its page says why", f"/servers/{name}")
    for name, access in taken.items():
        values = ", ".join(value for some in access for value in some)
        words = f"The last approval of {name} ended {values} for everybody who had it: ask again, or no more"
        yield Need(words, f"/servers/{name}/access")
    for kind, count in waiting.items():
        yield Need(f"{count} {TITLES[kind]} review{'' if count == 1 else 's'} to decide", "/reviews")
    for server in mine:
        now, here = standing(status, server), with_query(f"/servers/{server.name}", viewer.query)
        if now.state in NEEDY:
            yield Need(f"{server.name} is {now.word}", here)
        elif server.lifecycle is Lifecycle.DRAFT and server.submitted:
            runs = f"{here.partition('?')[0]}/deployment"
            yield Need(f"{server.name} was submitted, and was never live: see how far it came", runs)
        elif server.lifecycle is Lifecycle.DRAFT:
            submit = f"/servers/{server.name}/access"
            yield Need(f"{server.name} is a draft: submit it once it is whole", submit)
        elif server.waiting is not None:
            yield Need(f"A release of {server.name} waits for reviews", f"{here.partition('?')[0]}/security")


def _first_commands(parts: Parts, status: RuntimeStatus) -> tuple[str, ...]:
    there = [s for s in parts.registry.current.all_deployed if not s.stopped and status.state(s) not in NOT_THERE]
    demo = parts.identity.demo
    if demo is None:
        return ("login", "servers", *(f"tools {server.name}" for server in there[:1]))
    return first_commands({server.name: server.granted for server in there}, demo.directory)


def first_setting(public_url: str) -> str:
    """What a terminal must be told of where an instance is; empty at the usual place."""
    at, _, port = public_url.rpartition(":")
    if at != "http://localhost" or not port.isdigit():
        return f"export PEGBOARD_PUBLIC_URL={public_url}"
    return "" if int(port) == DEFAULT_PORT else f"export PEGBOARD_PORT={port}"


def _server_view(
    parts: Parts, server: RegisteredServer, status: RuntimeStatus, figures: Figures, caller: Caller | None
) -> ServerView:
    tools: tuple[ToolDeclaration, ...] = ()
    refusal = ""
    if caller is not None and server.reachable:
        bound = bound_to(caller, server, parts.public_url)
        # A stop is shown for what it is, beside what the person could use without it.
        access = replace(server.access(parts.public_url), stopped="", rules=parts.rules.current.of(server.name))
        refused = decide_access(bound, access).refusal
        refusal = refused.message if refused else ""
        tools = tuple(visible_tools(caller, server, parts.public_url))
    now = standing(status, server, whole=caller is None or looks_after(parts, caller, server))
    return ServerView(server, now, figures, tools, refusal)
