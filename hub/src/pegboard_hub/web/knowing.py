"""Who may know what of the registry. Every page of it asks here, and so do the parts that are loaded alone.

| of | may be known by |
|---|---|
| a server that was published | everybody who is signed in |
| a draft, also one that was given up | its owners, reviewers, operators |
| a tool | whom it would be listed for; owners and security know every tool |
| what changed, and what was said in reviews | owners, security, reviewers, operators |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pegboard.core.caller import Caller
from pegboard.core.grants import Reviews
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.explain import SECURITY, reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.reviews.rules import approvers
from pegboard_hub.registry.visibility import unpublished
from pegboard_hub.web.parts import Parts


def overseers_by(reviews: Reviews, operators: Iterable[str]) -> frozenset[str]:
    """The groups that know every draft and every change: reviewers, operators, security."""
    reviewers = {group for kind in Kind for group in approvers(reviews, kind)}
    return frozenset({SECURITY, *reviewers, *operators})


def overseers(parts: Parts) -> frozenset[str]:
    """Those groups, as operator's file and sign-in file name them now."""
    return overseers_by(parts.registry.reviews, parts.identity.clients.rules.operators)


def oversees(parts: Parts, caller: Caller | None) -> bool:
    """Whether somebody is a reviewer, an operator or of security."""
    return is_person(caller) and not overseers(parts).isdisjoint(caller.groups if caller else ())


def owns(caller: Caller | None, server: RegisteredServer) -> bool:
    """Whether somebody is in the team that owns a server."""
    return caller is not None and is_person(caller) and server.owner in caller.groups


def is_person(caller: Caller | None) -> bool:
    """Whether there is somebody, and they are no service."""
    return caller is not None and caller.sub_type == "person"


def is_insider(caller: Caller | None, server: RegisteredServer) -> bool:
    """Whether somebody may know every tool of a server: its owners and security may."""
    return owns(caller, server) or (caller is not None and is_person(caller) and SECURITY in caller.groups)


def knows(parts: Parts, caller: Caller | None, server: RegisteredServer) -> bool:
    """Whether somebody may know that there is this server."""
    return not unpublished(server) or owns(caller, server) or oversees(parts, caller)


def knows_changes(parts: Parts, caller: Caller | None, server: RegisteredServer) -> bool:
    """Whether somebody may read how a server came to be as it is; texts in it name tools."""
    return is_insider(caller, server) or oversees(parts, caller)


def known_server(parts: Parts, caller: Caller | None, name: str) -> RegisteredServer:
    """The server of that name.

    Raises:
        Refused: there is none, or it is a draft that this person may not know; nobody is told which.
    """
    found = parts.registry.current.servers.get(name)
    if found is None or not knows(parts, caller, found):
        raise nothing_here()
    return found


def nothing_here() -> Refused:
    """The one answer for a server that there is not, and for one that must not be known."""
    what_to_do = "Search for it on the page of servers, or ask the platform team."
    return refuse(404, "unknown_server", "No such server is here for you.", what_to_do)


def open_from(parts: Parts, caller: Caller, server: RegisteredServer) -> tuple[str, ...]:
    """The surfaces from which a person reaches a server, were it not stopped."""
    if not server.reachable:
        return ()
    places = ((surface, at(caller, surface)) for surface in PERSON_SURFACES)
    return tuple(surface for surface, there in places if reaches(there, server, parts.public_url))


def listed(parts: Parts, caller: Caller, server: RegisteredServer, surface: str) -> list[ToolDeclaration]:
    """The tools that a person finds listed from a surface, were the server not stopped."""
    if not server.reachable:
        return []
    return visible_tools(at(caller, surface), server, parts.public_url)


def at(caller: Caller, surface: str) -> Caller:
    """The caller on another surface; in no channel."""
    return replace(caller, surface=surface, channel=None)


def owned(parts: Parts, caller: Caller | None) -> Iterator[RegisteredServer]:
    """Every server of a person's teams, of whatever lifecycle, in order of name."""
    if caller is not None and is_person(caller):
        groups = frozenset(caller.groups)
        yield from (server for server in parts.registry.current.servers.values() if server.owner in groups)


def known(parts: Parts, caller: Caller | None, servers: Iterable[RegisteredServer]) -> Iterator[RegisteredServer]:
    """Those of servers that somebody may know."""
    everything, groups = oversees(parts, caller), frozenset(caller.groups if caller else ())
    for server in servers:
        if everything or not unpublished(server) or (is_person(caller) and server.owner in groups):
            yield server
