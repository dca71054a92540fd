"""The registry arranged for search: text in one string a field, and sets of servers as the bits of an integer.

A server's place is its position in the order of names, and bit *n* of a set is the server at place *n*: so that the
lowest bits of a set are the first names of a page, and an intersection of 10,000 servers takes less than a
microsecond. Text is found by its tokens, in about a millisecond for 200,000 tools, and what was found is kept for the
next who asks for the same word.

Nothing here looks at who is asking, but for `reachable`; what a caller may know is the catalogue's (`search`).
"""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from pegboard.core.access import OPEN_TO_SERVICES
from pegboard.core.caller import Caller
from pegboard.core.names import SERVICE
from pegboard_hub.registry.folding import folded
from pegboard_hub.registry.model import RegisteredServer

NAME, TITLE, TOOLS, DESCRIPTION = range(4)
"""Fields in the order in which a match counts."""

EXACT, PREFIX, WORD, INSIDE = range(4)
"""How a word matches a field: is it, begins it, begins one of its words, is anywhere in it."""

KINDS = 4
RANKS = 4 * KINDS
"""Ranks of a match: a field's number × 4 + how it matches. Lower is better."""

FIRST_TOOL, AFTER_TOOLS = TOOLS * KINDS, (TOOLS + 1) * KINDS
MOST_WORDS_KEPT = 2000
MOST_CHANGES_KEPT = 64


def members(bits: int) -> Iterator[int]:
    """The places in a set, lowest first."""
    digits = bin(bits)[:1:-1] if bits else ""
    place = digits.find("1")
    while place >= 0:
        yield place
        place = digits.find("1", place + 1)


def set_of(places: Iterable[int], size: int) -> int:
    """The set of these places, out of `size`."""
    found = bytearray(size // 8 + 1)
    for place in places:
        found[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(found, "little")


def _lines(*values: str) -> str:
    """Values as they are searched: each between line breaks, so that where one begins and ends can be found too."""
    kept = [value for value in values if value]
    return "\n" + "\n".join(kept) + "\n" if kept else ""


def _texts(server: RegisteredServer) -> tuple[str, str, str, str]:
    tools = server.release.tools if server.release else ()
    return (
        _lines(folded(server.name.name), folded(str(server.name))),
        _lines(folded(server.title or "")),
        "".join(_lines(folded(tool.name), folded(tool.title or "")) or "\n\n" for tool in tools),
        _lines(folded(server.description)),
    )


def tool_texts(text: str) -> list[str]:
    """The searched text of each tool, out of a server's: in the author's order."""
    return [f"\n{one}\n" for one in text[1:-1].split("\n\n")] if text else []


def kind_of(text: str, word: str) -> int | None:
    """How a word matches a field's text at best; None where it does not.

    One letter alone matches beginnings only.
    """
    if word not in text:
        return None
    if f"\n{word}" in text:
        return EXACT if f"\n{word}\n" in text else PREFIX
    if f" {word}" in text:
        return WORD
    return INSIDE if len(word) > 1 else None


def kinds_of(text: str, word: str) -> list[int]:
    """Every way in which a word may match one of a field's values, and maybe more: what is exact also begins."""
    best = kind_of(text, word)
    return [] if best is None else list(range(best, KINDS))


def _tokens(text: str) -> set[str]:
    """The tokens of a field's text with what is around them: `\\nads` begins a value, `\\nads\\n` is one.

    So `kind_of` says of a token alone how a word matches it, and of a text's tokens the best is that of the text.
    """
    return {*_TOKEN.findall(text), *(f"{token}\n" for token in _ALONE.findall(text))}


_TOKEN = re.compile(r"[\n ][^\n ]+")
_ALONE = re.compile(r"\n[^\n ]+(?=\n)")


class Column:
    """One field's text of all servers, one after the other, and where each of its tokens stands.

    There are many tools and few tokens: a word is looked for in these.
    """

    def __init__(self, pieces: Sequence[str], before: Column | None = None, moved: Mapping[int, int] = {}) -> None:
        """Arrange.

        Args:
            pieces: the text of each server.
            before: a column that some of them are already in.
            moved: the places of those there, each with its place here.
        """
        self._text = "".join(pieces)
        self._starts = array("I", accumulate(map(len, pieces), initial=0))
        self._places: dict[str, array[int]] = {}
        if before is not None:
            for token, places in before._places.items():
                if here := array("I", [moved[place] for place in places if place in moved]):
                    self._places[token] = here
        known = set(moved.values())
        for place, piece in enumerate(pieces):
            if place not in known:
                self._add(place, piece)

    def piece(self, place: int) -> str:
        """The text of one server."""
        return self._text[self._starts[place] : self._starts[place + 1]]

    def replace(self, place: int, piece: str) -> None:
        """Put another text in the place of one server's."""
        start, end = self._starts[place], self._starts[place + 1]
        before = self._text[start:end]
        if before == piece:
            return
        for token in _tokens(before):
            self._places[token].remove(place)
            if not self._places[token]:
                del self._places[token]
        self._add(place, piece)
        self._text = self._text[:start] + piece + self._text[end:]
        if more := len(piece) - (end - start):
            for later in range(place + 1, len(self._starts)):
                self._starts[later] += more

    def kinds(self, word: str) -> list[int]:
        """The servers whose text has the word somewhere, for each kind in which it does.

        Its best kind is among a server's; others may be, too.
        """
        at: list[list[int]] = [[] for _ in range(KINDS)]
        if " " in word:
            for place in self._having(word.split(" ")):
                if (kind := kind_of(self.piece(place), word)) is not None:
                    at[kind].append(place)
        else:
            for token in [token for token in self._places if word in token]:
                if (kind := kind_of(token, word)) is not None:
                    at[kind].extend(self._places[token])
        return [set_of(places, len(self._starts)) if places else 0 for places in at]

    def _having(self, parts: Sequence[str]) -> set[int]:
        """Servers that may have these tokens in a row: of the first its end, of the last its beginning."""
        first, last = parts[0], f" {parts[-1]}"
        found = self._of(token for token in self._places if token.endswith(first))
        for part in parts[1:-1]:
            found &= self._of([f" {part}"])
        return found & self._of(token for token in self._places if token.startswith(last))

    def _of(self, tokens: Iterable[str]) -> set[int]:
        return set().union(*(self._places.get(token, ()) for token in tokens))

    def _add(self, place: int, piece: str) -> None:
        for token in _tokens(piece):
            if token in self._places:
                self._places[token].append(place)
            else:
                self._places[token] = array("I", (place,))

    @property
    def characters(self) -> int:
        """Length of the text."""
        return len(self._text)


class Word:
    """Where one word of a query is found.

    Attributes:
        ranks: a set for each rank. By name, title and description a server stands in its best one alone; by tools in
            each in which one of its tools may put it, whoever may list that tool, unless name or title do better.
        changes: of the index, that it has taken in.
    """

    __slots__ = ("changes", "ranks", "word")

    def __init__(self, word: str, index: Index) -> None:
        self.word = word
        self.changes = index.changes
        self.ranks: list[int] = []
        better = 0
        for field in (NAME, TITLE, TOOLS, DESCRIPTION):
            seen = 0
            for found in index.columns[field].kinds(word):
                # By tools also in every kind after the best: whoever may not list that tool may list another.
                self.ranks.append((seen | found if field == TOOLS else found & ~seen) & ~better)
                seen |= found
            better |= seen if field in (NAME, TITLE) else 0

    def catch_up(self, index: Index) -> None:
        """Look again at the servers that changed since."""
        for place in set(index.changed_since(self.changes)):
            bit = 1 << place
            now = set(index.ranks_of(place, self.word))
            self.ranks = [bits | bit if rank in now else bits & ~bit for rank, bits in enumerate(self.ranks)]
        self.changes = index.changes

    @property
    def by_facts(self) -> int:
        """Servers that have it in name, title or description."""
        found = 0
        for rank in (*range(FIRST_TOOL), *range(AFTER_TOOLS, RANKS)):
            found |= self.ranks[rank]
        return found

    @property
    def by_tools(self) -> int:
        """Servers that have it in a tool, of those that have it in neither name nor title."""
        found = 0
        for rank in range(FIRST_TOOL, AFTER_TOOLS):
            found |= self.ranks[rank]
        return found


def _ranks_of(text: str, field: int, word: str) -> list[int]:
    if field == TOOLS:
        return [field * KINDS + kind for kind in kinds_of(text, word)]
    kind = kind_of(text, word)
    return [] if kind is None else [field * KINDS + kind]


class Index:
    """All servers of a snapshot, kept in line with it: one that changed is looked at again, and the others are not.

    Attributes:
        servers: in order of name.
        columns: the text of each field.
        sets: servers by what they are: ("owner", "ads-eng"), ("group", "sales"), ("surface", "cli") …
        changes: how many servers were looked at again; it starts anew with `epoch`.
        epoch: counts up when servers come or go, which moves places.
    """

    def __init__(self) -> None:
        self.servers: list[RegisteredServer] = []
        self.columns = [Column([]) for _ in range(4)]
        self.sets: dict[tuple[str, str], int] = {}
        self.everything = 0
        self.epoch = 0
        self.changes = 0
        self._places: dict[str, int] = {}
        self._log: list[int] = []
        self._words: OrderedDict[str, Word] = OrderedDict()
        self._of: Mapping[str, RegisteredServer] | None = None

    def follow(self, servers: Mapping[str, RegisteredServer]) -> None:
        """Take over what is different in `servers`, by name; the same mapping costs nothing."""
        if servers is self._of:
            return
        if len(servers) != len(self.servers) or any(name not in self._places for name in servers):
            self._arrange(dict(sorted(servers.items())))
        else:
            for name, server in servers.items():
                place = self._places[name]
                before = self.servers[place]
                if server is not before and server != before:
                    self._change(place, server)
        self._of = servers

    def place(self, name: str) -> int | None:
        """Where the server of that name stands."""
        return self._places.get(name)

    def word(self, word: str) -> Word:
        """Where a folded word is found."""
        found = self._words.get(word)
        if found is None or not self.keeps_since(found.changes):
            found = self._words[word] = Word(word, self)
            if len(self._words) > MOST_WORDS_KEPT:
                self._words.popitem(last=False)
        elif found.changes != self.changes:
            found.catch_up(self)
        self._words.move_to_end(word)
        return found

    def changed_since(self, changes: int) -> list[int]:
        """The places that were looked at again since then; at most as many as are kept."""
        return self._log[len(self._log) - (self.changes - changes) :] if changes != self.changes else []

    def keeps_since(self, changes: int) -> bool:
        """Whether it is still known what changed since then."""
        return self.changes - changes <= len(self._log)

    def ranks_of(self, place: int, word: str) -> list[int]:
        """The ranks of one server for a word, as `Word.ranks` has them."""
        facts = self.rank_of_facts(place, word)
        if facts is not None and facts < FIRST_TOOL:
            return [facts]
        tools = _ranks_of(self.columns[TOOLS].piece(place), TOOLS, word)
        return tools if facts is None else [*tools, facts]

    def rank_of_facts(self, place: int, word: str) -> int | None:
        """The best rank of one server for a word by what everybody may see of it."""
        for field in (NAME, TITLE, DESCRIPTION):
            kind = kind_of(self.columns[field].piece(place), word)
            if kind is not None:
                return field * KINDS + kind
        return None

    def any_of(self, kind: str, values: Iterable[str]) -> int:
        """Servers that are one of `values` in this respect."""
        found = 0
        for value in values:
            found |= self.sets.get((kind, value), 0)
        return found

    def reachable(self, caller: Caller) -> int:
        """Servers that the coarse rules let a caller reach with a token for them, were they not stopped.

        It says the same as `explain.reaches`, a rule at a time for all servers; a test holds the two together.
        """
        if caller.sub_type == "service":
            found = self.any_of("service", (caller.sub,)) & self.any_of("sensitivity", OPEN_TO_SERVICES)
        else:
            found = self.any_of("group", caller.groups)
        found &= self.any_of("surface", (caller.surface,))
        if (caller.sub_type == "service") != (caller.surface == SERVICE):
            return 0
        if caller.surface == "bot":
            found &= self.any_of("channel", (caller.channel,) if caller.channel is not None else ())
        return found

    def _arrange(self, servers: Mapping[str, RegisteredServer]) -> None:
        """All anew; the text of those that stay as they are is taken as it is."""
        texts = [self._known_texts(name, server) for name, server in servers.items()]
        moved = {
            self._places[name]: place
            for place, (name, server) in enumerate(servers.items())
            if name in self._places and self.servers[self._places[name]] is server
        }
        self.columns = [
            Column([each[field] for each in texts], column, moved) for field, column in enumerate(self.columns)
        ]
        self.servers = list(servers.values())
        self._places = {name: place for place, name in enumerate(servers)}
        places: dict[tuple[str, str], list[int]] = {}
        for place, server in enumerate(self.servers):
            for key in _keys(server):
                places.setdefault(key, []).append(place)
        self.sets = {key: set_of(found, len(self.servers)) for key, found in places.items()}
        self.everything = (1 << len(self.servers)) - 1
        self.epoch += 1
        self.changes, self._log = 0, []
        self._words.clear()

    def _known_texts(self, name: str, server: RegisteredServer) -> tuple[str, ...]:
        place = self._places.get(name)
        if place is None or self.servers[place] is not server:
            return _texts(server)
        return tuple(column.piece(place) for column in self.columns)

    def _change(self, place: int, server: RegisteredServer) -> None:
        before, bit = self.servers[place], 1 << place
        self.servers[place] = server
        for field, text in enumerate(_texts(server)):
            self.columns[field].replace(place, text)
        was, now = _keys(before), _keys(server)
        for key in was - now:
            self.sets[key] &= ~bit
            if not self.sets[key]:
                del self.sets[key]
        for key in now - was:
            self.sets[key] = self.sets.get(key, 0) | bit
        self.changes += 1
        self._log = [*self._log[-(MOST_CHANGES_KEPT - 1) :], place]


def _keys(server: RegisteredServer) -> set[tuple[str, str]]:
    """The sets that a server is in."""
    found = {
        ("owner", server.owner),
        ("namespace", server.name.namespace),
        ("sensitivity", server.sensitivity),
        ("lifecycle", str(server.lifecycle)),
        ("published", "yes" if server.published else "no"),
    }
    if server.reachable:
        granted = server.granted
        found |= {("group", value) for value in granted.groups}
        found |= {("surface", value) for value in granted.surfaces}
        found |= {("channel", value) for value in granted.channels}
        found |= {("service", value) for value in granted.services}
    return found
