"""Browse and search the registry as one caller may know it. A pass over all servers, as small registries want.

A tool matches for those alone who are listed it, and for insiders: nobody learns of a tool by what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from pegboard.core.caller import Caller
from pegboard_hub.registry.explain import insider, reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import Health, RuntimeStatus
from pegboard_hub.registry.visibility import Roles, sees
from pegboard_hub.web.parts import Parts

LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. A filter that is empty lets everything through; of several values one must hold.

    Attributes:
        text: words, of which each must match; empty to browse in order of name.
        usable_from: a surface: only servers that the caller may reach from there, were they not stopped.
        after: rank and name of the last server of the page before.
        limit: most items.
    """

    text: str = ""
    owner: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = ()
    lifecycle: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    usable_from: str | None = None
    after: tuple[int, str] | None = None
    limit: int = 50


class Hit(NamedTuple):
    """One server that was found. `reachable`: whether the caller may reach it from there, were it not stopped."""

    rank: int
    server: RegisteredServer
    health: Health
    reachable: bool

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands."""
        return self.rank, str(self.server.name)


def find(parts: Parts, caller: Caller, query: Query) -> list[Hit]:
    """What a query finds for a caller: by field that matches (name, title, tools, description), then by name."""
    roles, status = roles_of(parts), parts.status.read()
    there = at(caller, query.usable_from)
    words = tuple(query.text.casefold().split())
    hits = sorted(_hits(parts, roles, status, there, query, words), key=lambda hit: hit.place)
    rest = [hit for hit in hits if query.after is None or hit.place > query.after]
    return rest[: query.limit]


def at(caller: Caller, surface: str | None) -> Caller:
    """The caller as if they called from a surface; a service calls from its own alone."""
    if surface is None or surface == caller.surface or caller.sub_type != "person":
        return caller
    return replace(caller, surface=surface, channel=None)


def roles_of(parts: Parts) -> Roles:
    """Who looks after the instance and who reviews, as the operator's files say now."""
    return Roles.of(parts.identity.clients.rules.operators, parts.registry.reviews)


def health_of(status: RuntimeStatus, server: RegisteredServer) -> Health:
    """How a server is doing; one that cannot be called is not deployed, whatever still runs."""
    return status.health(server) if server.reachable else Health("not deployed", None, "", None)


def _hits(
    parts: Parts, roles: Roles, status: RuntimeStatus, caller: Caller, query: Query, words: tuple[str, ...]
) -> Iterator[Hit]:
    for server in parts.registry.current.servers.values():
        if not _passes(query, server) or not sees(roles, caller, server, parts.public_url):
            continue
        reachable = server.reachable and reaches(caller, server, parts.public_url)
        if query.usable_from is not None and not reachable:
            continue
        health = health_of(status, server)
        if query.status and health.state not in query.status:
            continue
        rank = _rank(parts, caller, server, words)
        if rank is not None:
            yield Hit(rank, server, health, reachable)


def _passes(query: Query, server: RegisteredServer) -> bool:
    told = (
        (query.owner, server.owner),
        (query.namespace, server.name.namespace),
        (query.sensitivity, server.sensitivity),
        (query.lifecycle, server.lifecycle),
    )
    return all(not wanted or value in wanted for wanted, value in told)


def _rank(parts: Parts, caller: Caller, server: RegisteredServer, words: tuple[str, ...]) -> int | None:
    """The sum of the ranks of the words; None where one matches nowhere."""
    if not words:
        return 0
    knows_all = server.release is not None and insider(caller, server)
    tools = server.release.tools if knows_all and server.release else visible_tools(caller, server, parts.public_url)
    fields = (
        str(server.name),
        server.title or "",
        " ".join(f"{tool.name} {tool.title or ''} {tool.description}" for tool in tools),
        server.description,
    )
    folded = tuple(field.casefold() for field in fields)
    ranks = [next((rank for rank, text in enumerate(folded) if word in text), None) for word in words]
    return None if None in ranks else sum(rank for rank in ranks if rank is not None)
