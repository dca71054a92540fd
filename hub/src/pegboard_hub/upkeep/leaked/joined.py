"""Joined edges after an order: those that live are waited for; those that may still believe the old key are named.

None is tried as the other doors are, for an edge may be on another machine: each says which bundle it decides with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pegboard.core.bundle import Bundle
from pegboard.core.errors import Unreachable
from pegboard_hub.common.home import Home
from pegboard_hub.upkeep.hub_door import HubDoor, HubRefused

DOOR = "/internal/v1/edges"
LOOK_S = 0.1
ANSWER_S = 2.0

GONE = frozenset({"never", "removed"})
"""Standings of an edge that has nothing to decide with."""

AWAY = frozenset({"away"})
"""Standings of an edge that is not waited for."""

UNTIL_HEARD = "it may believe the old key until it hears of the hub, a day at most; servers and hub behind it do not"
UNKNOWN = f"the hub does not answer, so nobody knows how it is: {UNTIL_HEARD}"


@dataclass
class Joined:
    """What came of it.

    Attributes:
        without_s: seconds from the order until each edge decided without the old keys.
        waits: edges that may still believe the old key, and why.
    """

    without_s: dict[str, float] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)


def wait_for_joined(
    home: Home, renewed: Callable[[str], Bundle | None], say: Callable[[str], None], began: float, until: float
) -> Joined:
    """Wait for each edge that lives.

    Args:
        home: of the instance.
        renewed: the bundle that was signed anew for an edge of this name; None: there is none yet.
        say: takes a line of progress for each edge.
        began: when the order was given (monotonic, in seconds).
        until: when to stop waiting (alike).
    """
    found, left = Joined(), set(_names(home))
    while left:
        edges = _asked(home)
        if edges is not None:
            left -= {name for name in left if name not in edges or edges[name]["standing"] in GONE}
        for name in sorted(left):
            wanted = renewed(name)
            if edges is None or wanted is None or not _decides_with(edges[name], wanted):
                continue
            found.without_s[name] = round(time.monotonic() - began, 2)
            say(f"+{found.without_s[name]:.1f} s  edge {name} decides without the old keys")
            left.remove(name)
        found.waits = {name: UNKNOWN if edges is None else _why(name, edges[name]) for name in sorted(left)}
        if edges is None or all(edges[name]["standing"] in AWAY for name in left) or time.monotonic() > until:
            break
        time.sleep(LOOK_S)
    return found


def _names(home: Home) -> list[str]:
    """The edges that have a bundle in the home of the instance."""
    ending = home.joined_edge_bundle("").name
    return [path.name.removesuffix(ending) for path in home.edge_bundle.parent.glob(f"*{ending}")]


def _decides_with(edge: Mapping[str, Any], wanted: Bundle) -> bool:
    """Whether an edge says that it decides with this bundle or a later one, and that it left nothing of it aside.

    A new bundle key alone makes no new version, only a later signature. And who has an old one may have signed any
    version: what the hub has never written counts for nothing.
    """
    version, newest, signed_at = (edge[name] or 0 for name in ("version", "newest", "signed_at"))
    of_now = wanted.version <= version <= newest and signed_at >= wanted.issued_at * 1000
    return of_now and not edge["faults"]


def _why(name: str, edge: Mapping[str, Any]) -> str:
    if edge["standing"] in AWAY:
        return f"it is away: {UNTIL_HEARD}. If it is not to come back: pegboard edge remove {name}"
    if edge["faults"]:
        return f"it does not use all that it was told, `pegboard edge list` shows what: {UNTIL_HEARD}"
    return f"it does not say yet that it decides with the new bundle: {UNTIL_HEARD}"


def _asked(home: Home) -> dict[str, Any] | None:
    """How each joined edge is; None where no hub answers."""
    try:
        with HubDoor(home, ANSWER_S) as hub:
            found = hub.ask("GET", DOOR)["edges"]
    except (Unreachable, HubRefused):
        return None
    return {edge["name"]: edge for edge in found if edge["joined"] and edge["standing"] != "removed"}
