"""What owners and operators say of a server's lifecycle: that it goes, that it is gone, or that it is back."""

from __future__ import annotations

from collections.abc import Callable

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews.rights import Rights

OWNERS_MAY = {
    "deprecate": (Lifecycle.APPROVED, Lifecycle.LIVE),
    "retire": (Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.APPROVED, Lifecycle.LIVE, Lifecycle.DEPRECATED),
    "bring back": (Lifecycle.DEPRECATED, Lifecycle.RETIRED),
}
"""What owners and operators do with a server's lifecycle, each with where it must stand for it."""


async def move(
    changing: Changing, rights: Rights, person: PersonFacts, name: str, action: str, why: str, expected: int
) -> RegisteredServer:
    """Deprecate or retire a server, or bring it back."""
    server = await rights.owned(changing, person, name, expected)
    _check_may(server, action)
    told = "" if action == "bring back" else why
    values = {"lifecycle": _MOVES[action](server), "lifecycle_why": told}
    return await changing.apply(Change(name, Actor(person.sub), action, why, expected, values))


def _check_may(server: RegisteredServer, action: str) -> None:
    if server.lifecycle not in OWNERS_MAY.get(action, ()):
        fault = f"what is {server.lifecycle} cannot be moved like that"
        raise ChangeRefused("lifecycle", fault, "Look at the server again.")
    if action == "bring back" and server.release is not None and not server.source:
        raise ChangeRefused("source", "nothing runs it any more", "Name it in the grants file first.")


def _back(server: RegisteredServer) -> Lifecycle:
    """Where a server stands once it is brought back: no further than it was."""
    if server.release is not None:
        return Lifecycle.APPROVED
    if server.waiting is not None:
        return Lifecycle.IN_REVIEW
    return Lifecycle.APPROVED if any(server.granted) else Lifecycle.DRAFT


_MOVES: dict[str, Callable[[RegisteredServer], Lifecycle]] = {
    "deprecate": lambda _server: Lifecycle.DEPRECATED,
    "retire": lambda _server: Lifecycle.RETIRED,
    "bring back": _back,
}
