"""Pages of servers as JSON, put together of what was written before.

A page has up to two hundred servers with twenty tools each, and to make models of them all takes longer than to find
them. So the entry of a server is written once for all who are told the same of it, and each of its tools once; a page
joins them. `CataloguePage`, `CatalogueEntry` and `ToolSummary` write their own parts, so the shape is theirs. Which
tools go in is asked for each caller anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pegboard.core.caller import Caller
from pegboard_hub.registry.listing import LISTINGS, Asker
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import Health
from pegboard_hub.web.api.registry_schema import CataloguePage
from pegboard_hub.web.api.schema import ToolSummary
from pegboard_hub.web.api.views import entry, tool_in_list
from pegboard_hub.web.knowing import stop_told
from pegboard_hub.web.parts import Parts

MOST_SERVERS = 50_000
"""Servers of which something written is kept; the oldest go first. Each takes some 5 KB with its twenty tools."""

MOST_ALIKE = 8
"""Entries of one server that are kept, for callers who are told different things of it."""

_NO_SERVERS, _NO_TOOLS = b'"servers":[]', b'"tools":[]'
"""A key with its empty list, as nothing but a key can read: within a text the quotes are escaped."""


class Shown(NamedTuple):
    """A server of a page, and whether the grants let the caller call it, were it not stopped."""

    server: RegisteredServer
    usable: bool


class _Written:
    """What was written of one server.

    Attributes:
        entries: before and after its tools, by what is told of it.
        tools: in the author's order; None before somebody was listed one.
    """

    __slots__ = ("entries", "server", "tools")

    def __init__(self, server: RegisteredServer) -> None:
        self.server = server
        self.entries: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self.tools: tuple[bytes, ...] | None = None


_WRITTEN: dict[str, _Written] = {}
"""This process's, by name. None is ever stale: it counts for the very server that it was written of."""


def page_of_servers(
    parts: Parts, caller: Caller, shown: Iterable[Shown], next_: str | None, *, with_tools: bool = True
) -> bytes:
    """A `CataloguePage`.

    Args:
        parts: tell how servers are doing.
        caller: whom the tools are listed for.
        shown: the servers of the page, in its order.
        next_: cursor of the next page.
        with_tools: whether their tools are told.
    """
    status, asker = parts.status.read(), Asker(caller)
    entries = [_entry(parts, asker, each, status.standing(each.server), with_tools=with_tools) for each in shown]
    before, _, after = CataloguePage(servers=[], next=next_).model_dump_json().encode().partition(_NO_SERVERS)
    return b'%b"servers":[%b]%b' % (before, b",".join(entries), after)


def _entry(parts: Parts, asker: Asker, shown: Shown, health: Health, *, with_tools: bool) -> bytes:
    server, usable = shown
    name = str(server.name)
    written = _WRITTEN.get(name)
    if written is None or written.server is not server:
        written = _begin(name, server)
    # All that one caller may be told otherwise than another, or at another time.
    told = (health[:3], stop_told(parts, asker.caller, server), usable, parts.public_url)
    around = written.entries.get(told)
    if around is None:
        if len(written.entries) >= MOST_ALIKE:
            written.entries.clear()
        text = entry(parts, asker, server, health, usable=usable).model_dump_json().encode()
        before, _, after = text.partition(_NO_TOOLS)
        around = written.entries[told] = (before, after)
    tools = _tools(asker, written) if with_tools and usable else b""
    return b'%b"tools":[%b]%b' % (around[0], tools, around[1])


def _tools(asker: Asker, written: _Written) -> bytes:
    server = written.server
    if server.release is None:
        return b""
    if written.tools is None:
        written.tools = tuple(
            ToolSummary.model_validate(tool_in_list(tool, server)).model_dump_json().encode()
            for tool in server.release.tools
        )
    mask = LISTINGS.mask(asker, server)
    return b",".join([text for number, text in enumerate(written.tools) if mask >> number & 1])


def _begin(name: str, server: RegisteredServer) -> _Written:
    if name not in _WRITTEN and len(_WRITTEN) >= MOST_SERVERS:
        del _WRITTEN[next(iter(_WRITTEN))]
    found = _WRITTEN[name] = _Written(server)
    return found
