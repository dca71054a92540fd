"""What is listed to callers whom no policy of a server names: worked out for one, known of all."""

from __future__ import annotations

from collections.abc import Mapping

from pegboard_hub.registry.indexing import Index, set_of
from pegboard_hub.registry.listing import Asker, Entities

MOST_PLACES = 500
"""Places to call from, a surface and its channel, of which is remembered what strangers are listed."""


class Strangers:
    """Servers whose tools are worked out for callers whom none of their policies names.

    All such callers from one place are listed the same tools of a server. So what was worked out for the first of a
    thousand people serves the others, but for the servers whose policies name one of their groups or themselves.
    """

    def __init__(self) -> None:
        self._epoch, self._changes = -1, 0
        self._named: dict[tuple[str, str], int] = {}
        self._known: dict[tuple[object, ...], int] = {}

    def known(self, index: Index, asker: Asker) -> int:
        """The servers to which this caller is a stranger, and whose tools are worked out for such."""
        self._follow(index)
        named = 0
        for principal in asker.principals:
            named |= self._named.get(principal, 0)
        return self._known.get(asker.place, 0) & ~named

    def learn(self, index: Index, asker: Asker, worked_out: Mapping[int, Entities]) -> None:
        """Note what was worked out for a caller.

        Args:
            index: where the servers stand.
            asker: the caller.
            worked_out: what the policies of each server name, by its place.
        """
        self._follow(index)
        strange = [place for place, names in worked_out.items() if names.isdisjoint(asker.principals)]
        for place in strange:
            for name in worked_out[place]:
                self._named[name] = self._named.get(name, 0) | 1 << place
        if len(self._known) >= MOST_PLACES:
            self._known.clear()
        self._known[asker.place] = self._known.get(asker.place, 0) | set_of(strange, len(index.servers))

    def _follow(self, index: Index) -> None:
        if index.epoch != self._epoch or not index.keeps_since(self._changes):
            self._named.clear()
            self._known.clear()
        elif changed := set_of(index.changed_since(self._changes), len(index.servers)):
            self._known = {place: known & ~changed for place, known in self._known.items()}
        self._epoch, self._changes = index.epoch, index.changes
