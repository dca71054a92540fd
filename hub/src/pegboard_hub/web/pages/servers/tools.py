"""The page of a server's tools, as one person finds them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fastapi import Request

from pegboard.core.access import decide_access, decide_method
from pegboard.core.methods import CALL
from pegboard.core.names import WEB
from pegboard.core.release import ToolDeclaration
from pegboard_hub.ledger.model import DAY_MS, Figures
from pegboard_hub.registry.approving import needed
from pegboard_hub.registry.explain import bound_to
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import insider
from pegboard_hub.web.knowing import open_from
from pegboard_hub.web.pages.frame import Frame, with_query
from pegboard_hub.web.pages.servers import chart, schemas
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.pages.servers.reach import listed_anywhere
from pegboard_hub.web.parts import Parts


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


async def tools(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> ToolsView:
    """What the page of tools shows."""
    caller = frame.caller
    surfaces = open_from(parts, caller, server)
    where = listed_anywhere(parts, caller, server, surfaces)
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
