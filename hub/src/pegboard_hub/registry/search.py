"""Browse and search the registry, as one person may know it.

What is found is ranked by the field that matches (name, title, tools, description) and by how (it is the word, begins
with it, has a word that does, has it inside). Every word of a query must match somewhere; a server's rank is the sum
of its words' ranks, and equal ranks are in order of name. Case, accents and signs do not count.

**Nobody learns of a tool that they may not list.** Tools match for a caller only if the kit would list them for this
caller (or the caller is an insider of the server, who may see all). Order, number and cursors say nothing else:

- a server appears at the rank that the tools this caller may list give it, as if it had no others;
- counts are of what matches by name, title and description, which everybody may see; matches by tools come on top;
- what a caller may list is worked out for their servers as a whole, whatever is asked, `SERVERS_PER_REQUEST` at a
  time. While that is not finished a page ends before the ranks that tools can give, and has a `next` that goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

from pegboard.core.caller import Caller
from pegboard_hub.registry.indexing import (
    FIRST_TOOL,
    RANKS,
    TOOLS,
    Index,
    Word,
    kind_of,
    members,
    set_of,
    tool_texts,
)
from pegboard_hub.registry.listing import LISTINGS, Asker
from pegboard_hub.registry.model import RegisteredServer, Snapshot
from pegboard_hub.registry.query import MOST_WORDS, Query, read_query, written
from pegboard_hub.registry.ranking import Ranking
from pegboard_hub.registry.strangers import Strangers
from pegboard_hub.registry.visibility import SECURITY

SERVERS_PER_REQUEST = 400
"""Servers whose tools are worked out for a caller in one request; what is worked out stays known."""

MOST_VIEWS = 4000
"""Kinds of callers that are remembered; some 5 KB each with 10,000 servers."""

FACETS = ("owner", "namespace", "sensitivity", "lifecycle")


@dataclass(frozen=True)
class Hit:
    """One server of a page.

    Attributes:
        reachable: whether the coarse rules let the caller reach it, were it not stopped.
    """

    server: RegisteredServer
    reachable: bool
    _tools: Callable[[], tuple[str, ...]] = field(repr=False, compare=False)

    @cached_property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that matched, of those that the caller may know; in the author's order."""
        return self._tools()


@dataclass(frozen=True, slots=True)
class Counts:
    """How many servers there are.

    Attributes:
        matched: exact, those that match by name, title and description, and by all filters.
        known: those that this caller may know of, whatever is asked.
    """

    matched: int
    known: int


@dataclass(frozen=True)
class Found:
    """One page.

    Attributes:
        items: in order of rank, then name. A page may be shorter than the limit, or empty, and have a next one.
        next: the cursor of the next page; None after the last.
    """

    items: tuple[Hit, ...]
    next: str | None
    counts: Counts
    _facets: Callable[[], Mapping[str, Mapping[str, int]]] = field(repr=False, compare=False)

    @cached_property
    def facets(self) -> Mapping[str, Mapping[str, int]]:
        """For each of `FACETS` and for `status` its values with the number of servers, counted as `Counts.matched`.

        A filter's own choice is left out of its counts: they say what choosing another value would give.
        """
        return self._facets()


@dataclass(slots=True)
class _View:
    """What one kind of caller may see: all who have the same groups and call from the same place.

    Attributes:
        reachable: set of servers.
        insider: set of servers whose tools they see all.
        known: set of servers whose listed tools were worked out, so that `Listings` tells them at once.
    """

    epoch: int
    changes: int
    reachable: int
    insider: int
    known: int = 0

    @property
    def sees(self) -> int:
        """Servers of which a caller may know tools."""
        return self.reachable | self.insider


class Catalogue:
    """The registry as people browse it. It follows the snapshot by itself, and belongs to one event loop."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        states: Callable[[], Mapping[str, str]] = dict,
        overseers: Callable[[], frozenset[str]] = lambda: frozenset({SECURITY}),
    ) -> None:
        """Prepare; the index is made with the first query, or before it by `follow`.

        Args:
            snapshot: tells the registry as it is now.
            states: live status of servers by name; one it does not name is "unknown". A new mapping is given whenever
                one has changed.
            overseers: groups that may know of every server: `Roles.overseers`.
        """
        self._snapshot = snapshot
        self._states = states
        self._overseers = overseers
        self._index = Index()
        self._listings = LISTINGS
        self._views: OrderedDict[tuple[object, ...], _View] = OrderedDict()
        self._strangers = Strangers()
        self._status: tuple[Mapping[str, str] | None, int, dict[str, int]] = (None, 0, {})

    def follow(self) -> Index:
        """Bring the index in line with the snapshot. Making it of 10,000 servers takes a second or two."""
        self._index.follow(self._snapshot().servers)
        return self._index

    def find(self, caller: Caller, query: Query) -> Found:
        """One page of what a query finds for a caller.

        Raises:
            QueryRefused: with the field that is to blame.
        """
        words, position = read_query(query)
        index = self.follow()
        # Where the caller is already, a bot stays in its channel.
        if query.usable_from not in (None, caller.surface) and caller.sub_type == "person":
            caller = replace(caller, surface=str(query.usable_from), channel=None)
        asker = Asker(caller)
        view = self._view(caller)
        known = chosen = self._known(caller, view)
        if query.usable_from is not None:
            chosen &= view.reachable
        if query.text.strip() and not words:
            chosen = 0  # nothing but signs
        found = [index.word(word) for word in words]
        filters, matched = self._filters(query), chosen
        allowed = chosen
        for bits in filters.values():
            allowed &= bits
        for word in found:
            matched &= word.by_facts
        complete = not words or self._work_out(asker, view)
        search = Ranking(index, found, allowed, view.sees, lambda place: self._mask(asker, view, place))
        places, next_ = search.page(position, query.limit, RANKS * MOST_WORDS if complete else FIRST_TOOL)
        return Found(
            items=tuple(self._hit(asker, view, found, place) for place in places),
            next=None if next_ is None else written(next_, query),
            counts=Counts((matched & allowed).bit_count(), known.bit_count()),
            _facets=lambda: self._facets(matched, filters),
        )

    def reachable(self, caller: Caller) -> list[RegisteredServer]:
        """The servers that the coarse rules let a caller reach, were they not stopped; in order of name."""
        index = self.follow()
        return [index.servers[place] for place in members(self._view(caller).reachable)]

    def _hit(self, asker: Asker, view: _View, words: list[Word], place: int) -> Hit:
        reachable = bool(view.reachable >> place & 1)
        return Hit(self._index.servers[place], reachable, lambda: self._matching(asker, view, words, place))

    def _matching(self, asker: Asker, view: _View, words: list[Word], place: int) -> tuple[str, ...]:
        server, text = self._index.servers[place], self._index.columns[TOOLS].piece(place)
        asked = [each.word for each in words if each.word in text]
        if not asked or server.release is None or not (mask := self._mask(asker, view, place)):
            return ()
        return tuple(
            tool.name
            for number, (tool, one) in enumerate(zip(server.release.tools, tool_texts(text), strict=True))
            if mask >> number & 1 and any(kind_of(one, word) is not None for word in asked)
        )

    def _known(self, caller: Caller, view: _View) -> int:
        """Servers that a caller may know of: a service what it may reach, a person what others published too."""
        index = self._index
        if caller.sub_type != "person":
            return view.reachable
        drafts = index.any_of("published", ("no",))
        if not drafts or not self._overseers().isdisjoint(caller.groups):
            return index.everything
        return index.everything & ~drafts | drafts & index.any_of("owner", caller.groups)

    def _filters(self, query: Query) -> dict[str, int]:
        """The set that each filter in use lets through."""
        found = {name: self._index.any_of(name, values) for name in FACETS if (values := getattr(query, name))}
        if query.status:
            states = self._by_status()
            found["status"] = 0
            for value in query.status:
                found["status"] |= states.get(value, 0)
        return found

    def _by_status(self) -> dict[str, int]:
        states, index = self._states(), self._index
        if self._status[0] is not states or self._status[1] != index.epoch:
            places: dict[str, list[int]] = {}
            for place, server in enumerate(index.servers):
                places.setdefault(states.get(str(server.name), "unknown"), []).append(place)
            sets = {state: set_of(found, len(index.servers)) for state, found in places.items()}
            self._status = (states, index.epoch, sets)
        return self._status[2]

    def _facets(self, matched: int, filters: Mapping[str, int]) -> dict[str, dict[str, int]]:
        within = dict.fromkeys((*FACETS, "status"), matched)
        for name in within:
            for other, chosen in filters.items():
                within[name] &= chosen if other != name else -1
        sets = {**self._index.sets, **{("status", state): bits for state, bits in self._by_status().items()}}
        found: dict[str, dict[str, int]] = {name: {} for name in within}
        for (name, value), bits in sets.items():
            if name in found and (number := (bits & within[name]).bit_count()):
                found[name][value] = number
        return {name: dict(sorted(values.items())) for name, values in found.items()}

    # What a caller may see: worked out once for all who look alike.

    def _view(self, caller: Caller) -> _View:
        index = self._index
        service = caller.sub if caller.sub_type == "service" else None
        key = (service, caller.surface, caller.channel, frozenset(caller.groups))
        view = self._views.get(key)
        if view is None or view.epoch != index.epoch or not index.keeps_since(view.changes):
            view = self._views[key] = _View(index.epoch, index.changes, *self._scope(caller))
            if len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
        elif view.changes != index.changes:
            for place in index.changed_since(view.changes):
                view.known &= ~(1 << place)
            view.reachable, view.insider = self._scope(caller)
            view.changes = index.changes
        self._views.move_to_end(key)
        return view

    def _scope(self, caller: Caller) -> tuple[int, int]:
        index = self._index
        if caller.sub_type != "person":
            return index.reachable(caller), 0
        insider = index.everything if SECURITY in caller.groups else index.any_of("owner", caller.groups)
        return index.reachable(caller), insider

    def _work_out(self, asker: Asker, view: _View) -> bool:
        """Work out what tools a caller is listed, of so many servers more; whether all are worked out."""
        index = self._index
        if view.reachable & ~view.insider & ~view.known:
            view.known |= self._strangers.known(index, asker)
        waiting = view.reachable & ~view.insider & ~view.known
        if not waiting:
            return True
        now = list(islice(members(waiting), SERVERS_PER_REQUEST))
        for place in now:
            self._listings.mask(asker, index.servers[place])
        self._strangers.learn(index, asker, {place: self._listings.named(index.servers[place]) for place in now})
        view.known |= set_of(now, len(index.servers))
        return waiting & ~view.known == 0

    def _mask(self, asker: Asker, view: _View, place: int) -> int:
        """The tools of a server that a caller may know, a bit for each; of one that they cannot reach none."""
        server = self._index.servers[place]
        if view.insider >> place & 1:
            return (1 << len(server.release.tools)) - 1 if server.release else 0
        return self._listings.mask(asker, server) if view.reachable >> place & 1 else 0
