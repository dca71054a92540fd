"""Who may know what, for pages and API: the rules of `registry/visibility.py`, with the groups that hold here now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from pegboard.core.caller import Caller
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.explain import reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import in_circle, is_person, owns, sees
from pegboard_hub.web.parts import Parts

WHY_FOR_OTHERS = "why is for those who could use it"
"""What is told of a stop to everybody else."""


def knows(parts: Parts, caller: Caller, server: RegisteredServer) -> bool:
    """Whether somebody may know that there is this server."""
    return sees(parts.reviewing.rights.roles, caller, server, parts.public_url)


def looks_after(parts: Parts, caller: Caller, server: RegisteredServer) -> bool:
    """Whether somebody is in a server's circle: its owner's team, reviewers, operators, security."""
    return in_circle(parts.reviewing.rights.roles, caller, server)


def known(parts: Parts, caller: Caller) -> Iterator[RegisteredServer]:
    """Every server that somebody may know of, in order of name."""
    return (server for server in parts.registry.current.servers.values() if knows(parts, caller, server))


def owned(parts: Parts, caller: Caller) -> Iterator[RegisteredServer]:
    """Every server of a person's teams, of whatever lifecycle, in order of name."""
    return (server for server in parts.registry.current.servers.values() if owns(caller, server))


def owners_for(parts: Parts, groups: Collection[str]) -> frozenset[str] | None:
    """The teams for which people in these groups may register a server; None: any.

    It is their own; for operators every one that somebody here is in, or that owns something already. Where the
    company's login alone knows who is in which group, operators may name any.
    """
    if not parts.reviewing.rights.roles.operate(groups):
        return frozenset(groups)
    demo = parts.identity.demo
    if demo is None:
        return None
    of_people = (group for person in demo.directory.people.values() for group in person.groups)
    owning = (server.owner for server in parts.registry.current.servers.values() if server.owner)
    return frozenset((*groups, *of_people, *owning))


def known_server(parts: Parts, caller: Caller, name: str) -> RegisteredServer:
    """The server of that name, of any lifecycle.

    Raises:
        Refused: 404, there is none that this caller may know of; nobody is told which.
    """
    found = parts.registry.current.servers.get(name)
    if found is None or not knows(parts, caller, found):
        raise no_server()
    return found


def no_server() -> Refused:
    """The one answer for a server that there is not, and for one that must not be known."""
    message = "No such server here for you: it does not exist, or you may not know of it."
    return refuse(404, "unknown_server", message, "List the servers that there are, or ask the platform team.")


def knows_stop(parts: Parts, caller: Caller, server: RegisteredServer) -> bool:
    """Whether somebody may know why a server is stopped: who could use it otherwise, and who looks after it."""
    if looks_after(parts, caller, server) or reaches(caller, server, parts.public_url):
        return True
    return is_person(caller) and bool(open_from(parts, caller, server))


def stop_told(parts: Parts, caller: Caller, server: RegisteredServer) -> str:
    """Why a server is stopped, as this caller may know it; empty while it is not."""
    return server.stopped if not server.stopped or knows_stop(parts, caller, server) else WHY_FOR_OTHERS


def at(caller: Caller, surface: str | None) -> Caller:
    """The caller as if they called from a surface, in no channel; a service calls from its own alone."""
    if surface is None or surface == caller.surface or not is_person(caller):
        return caller
    return replace(caller, surface=surface, channel=None)


def open_from(parts: Parts, caller: Caller, server: RegisteredServer) -> tuple[str, ...]:
    """The surfaces from which a person reaches a server, were it not stopped."""
    return tuple(each for each in PERSON_SURFACES if reaches(_from(caller, each), server, parts.public_url))


def listed(parts: Parts, caller: Caller, server: RegisteredServer, surface: str) -> list[ToolDeclaration]:
    """The tools that a person finds listed from a surface, were the server not stopped."""
    return visible_tools(_from(caller, surface), server, parts.public_url)


def not_an_operator(parts: Parts) -> Refused:
    """The refusal of one who does not look after clients and surfaces."""
    groups = ", ".join(sorted(parts.identity.clients.rules.operators))
    message = f"Clients and surfaces are looked after by people in: {groups}."
    return refuse(403, "access_denied", message, "Ask one of them.", "not_an_operator")


def _from(caller: Caller, surface: str) -> Caller:
    """On a surface and in no channel, also where the caller is on that surface in one."""
    return replace(caller, surface=surface, channel=None)
