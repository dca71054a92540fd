"""What is not wrong in the grants file, and yet hardly meant: said to the operator, changing nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pegboard_hub.registry.model import RegisteredServer, Snapshot


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a grant is held against.

    Attributes:
        groups: those that somebody in the directory is in; None where the company's login alone knows.
        surfaces: those that a client is registered for; None where any client may come.
        started_with: the source of each server that was taken on; None where nobody says it.
    """

    groups: frozenset[str] | None
    surfaces: frozenset[str] | None
    started_with: Mapping[str, str] | None = None


def notices(snapshot: Snapshot, around: Surroundings) -> tuple[str, ...]:
    """A line for each thing to look at, without its full stop; none where all is as it seems to be meant."""
    named = [server for server in snapshot.servers.values() if server.source]
    if not named:
        return () if snapshot.fault else (_names_none(snapshot),)
    return tuple(line for server in named for line in _of_server(server, around))


def _names_none(snapshot: Snapshot) -> str:
    gone = [str(server.name) for server in snapshot.withdrawn]
    if not gone:
        return "names no server"
    listed = " and ".join(filter(None, [", ".join(gone[:-1]), gone[-1]]))
    return f"names no server: {listed} {'are' if len(gone) > 1 else 'is'} withdrawn"


def _of_server(server: RegisteredServer, around: Surroundings) -> Iterator[str]:
    if around.groups is not None:
        # A name that the author asks for as well is no slip of the operator's: its people may come later.
        for group in sorted({*server.granted.groups} - {*server.requested.groups} - around.groups):
            yield f"{server.name}: group {group!r} has no member here{_meant(group, around.groups)}"
    if around.surfaces is not None:
        for surface in server.granted.surfaces:
            if surface not in around.surfaces:
                yield f"{server.name}: surface {surface!r} has no client here{_meant(surface, around.surfaces)}"
    yield from _stops(server)
    if around.started_with is not None:
        source = around.started_with.get(str(server.name))
        if source is not None and source != server.source:
            yield f"{server.name}: its source is now {server.source!r}, used from the next start of pegboard up"


def _stops(server: RegisteredServer) -> Iterator[str]:
    """A stop of a tool that does not exist stops nothing, which is the last thing that is meant."""
    if server.release is None:
        return
    tools = frozenset(tool.name for tool in server.release.tools)
    for tool in server.stopped_tools:
        if tool not in tools:
            yield f"{server.name}: stopped_tools names {tool!r}, which it does not have{_meant(tool, tools)}"


def _meant(name: str, known: frozenset[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
