"""Ranking what a query finds, for one caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pegboard_hub.registry.indexing import (
    AFTER_TOOLS,
    FIRST_TOOL,
    RANKS,
    TOOLS,
    Index,
    Word,
    kind_of,
    members,
    tool_texts,
)
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.query import Position


class Ranking:
    """One query's matches by rank.

    A server may stand at several ranks at first: that of its facts, and those that its tools would give if the caller
    may list them. Its real rank is worked out when a page comes to it, and it is told there alone.
    """

    def __init__(self, index: Index, words: list[Word], allowed: int, sees: int, mask: Callable[[int], int]) -> None:
        self._index = index
        self._facts = [(word.word, word.by_facts) for word in words]
        self._mask = mask
        self._ranked = {0: allowed}
        self._by_tools = 0
        self._real: dict[int, int | None] = {}
        for word in words:
            self._by_tools |= word.by_tools & sees
            self._ranked = _summed(self._ranked, word, sees)

    def page(self, position: Position, limit: int, end: int) -> tuple[list[int], Position | None]:
        """Places from a position on, of ranks below `end`, and where the next page begins; None after the last."""
        found: list[int] = []
        reached = position.rank
        for rank, place in self._from(position, end):
            if self._by_tools >> place & 1 and self._rank(place) != rank:
                continue
            if len(found) == limit:
                return found, Position(reached, str(self._index.servers[found[-1]].name))
            found.append(place)
            reached = rank
        goes_on = end < RANKS
        return found, max(position, Position(end)) if goes_on else None

    def _from(self, position: Position, end: int) -> Iterator[tuple[int, int]]:
        names = self._index.servers
        for rank in sorted(self._ranked):
            if not position.rank <= rank < end:
                continue
            bits = self._ranked[rank]
            if rank == position.rank and position.after:
                low = _after(names, position.after)
                bits = bits >> low << low
            for place in members(bits):
                yield rank, place

    def _rank(self, place: int) -> int | None:
        """The real rank of a server for this caller; None where a word matches nothing that they may know."""
        if place not in self._real:
            self._real[place] = self._worked_out(place)
        return self._real[place]

    def _worked_out(self, place: int) -> int | None:
        mask, total = self._mask(place), 0
        texts = _in(mask, tool_texts(self._index.columns[TOOLS].piece(place))) if mask else []
        for word, by_facts in self._facts:
            rank = self._index.rank_of_facts(place, word) if by_facts >> place & 1 else None
            if texts and (rank is None or rank >= AFTER_TOOLS):
                kinds = [kind for one in texts if word in one and (kind := kind_of(one, word)) is not None]
                rank = FIRST_TOOL + min(kinds) if kinds else rank
            if rank is None:
                return None
            total += rank
        return total


def _in(mask: int, texts: list[str]) -> list[str]:
    return [one for number, one in enumerate(texts) if mask >> number & 1]


def _summed(ranked: Mapping[int, int], word: Word, sees: int) -> dict[int, int]:
    """The sums of what was ranked so far and another word."""
    found: dict[int, int] = {}
    for before, some in ranked.items():
        for rank, bits in enumerate(word.ranks):
            both = some & bits & sees if FIRST_TOOL <= rank < AFTER_TOOLS else some & bits
            if both:
                found[before + rank] = found.get(before + rank, 0) | both
    return found


def _after(servers: list[RegisteredServer], name: str) -> int:
    """The first place whose server comes after `name`, whether or not there still is one of that name."""
    low, high = 0, len(servers)
    while low < high:
        middle = (low + high) // 2
        if str(servers[middle].name) <= name:
            low = middle + 1
        else:
            high = middle
    return low
