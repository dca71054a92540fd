"""What owners and operators say of a server's lifecycle: that it goes, that it is gone, or that it is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.ending import NO_ENDING, Ending, check_ending
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.reviews.rights import Rights
from pegboard_hub.registry.reviews.store import TAKE_BACK

OWNERS_MAY = {
    # Once more: to say another date.
    "deprecate": (Lifecycle.APPROVED, Lifecycle.LIVE, Lifecycle.DEPRECATED),
    "retire": (Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.APPROVED, Lifecycle.LIVE, Lifecycle.DEPRECATED),
    "bring back": (Lifecycle.DEPRECATED, Lifecycle.RETIRED),
    TAKE_BACK: (Lifecycle.IN_REVIEW,),
}
"""What owners and operators do with a server's lifecycle, each with where it must stand for it."""


def moves_of(server: RegisteredServer) -> tuple[str, ...]:
    """What owners and operators may do with a server's lifecycle now."""
    return tuple(
        action
        for action, stands in OWNERS_MAY.items()
        if server.lifecycle in stands and (action != TAKE_BACK or _unwritten(server))
    )


def _unwritten(server: RegisteredServer) -> bool:
    """Whether only its record describes a server: it never had code, and nothing is granted."""
    return server.first_live_at_ms is None and not server.released and not any(server.granted)


async def move(
    changing: Changing,
    rights: Rights,
    person: PersonFacts,
    name: str,
    action: str,
    why: str,
    expected: int | None,
    ending: Ending = NO_ENDING,
) -> RegisteredServer:
    """Deprecate or retire a server, or bring it back."""
    server = await rights.owned(changing, person, name, expected)
    _check_may(server, action)
    told = why if action in ("deprecate", "retire") else ""
    values: dict[str, Any] = {"lifecycle": _MOVES[action](server), "lifecycle_why": told}
    if action == "deprecate":
        checked = check_ending(ending, server, changing.servers, changing.now_ms)
        values |= {"ends_at_ms": checked.ends_at_ms, "successor": checked.successor}
    elif action != "retire":
        values |= {"ends_at_ms": None, "successor": None}
    if values["lifecycle"] is Lifecycle.DRAFT:
        # What a draft will ask for is reviewed once it is submitted.
        await store.supersede(changing.connection, name, tuple(Kind))
    return await changing.apply(Change(name, Actor(person.sub), action, why, expected, values))


def _check_may(server: RegisteredServer, action: str) -> None:
    if action not in moves_of(server):
        fault = f"what is {server.lifecycle} cannot be moved like that"
        raise ChangeRefused("lifecycle", fault, "Look at the server again.")
    if action == "bring back" and server.release is not None and not (server.source or server.submitted):
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
    TAKE_BACK: lambda _server: Lifecycle.DRAFT,
}
