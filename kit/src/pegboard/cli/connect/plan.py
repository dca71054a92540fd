"""What a configuration file says now, what it shall say, and the text in between; nothing is written here."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from pegboard.cli.connect import jsonc, toml
from pegboard.cli.connect.errors import Unreadable
from pegboard.core.client_configs import LABEL, ClientConfig, entry_name, label_of, server_at
from pegboard.core.names import ServerName

Action = Literal["add", "change", "keep", "remove", "leave"]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one server's entry.

    Attributes:
        action: `leave` is for an entry that somebody else wrote.
        name: of the entry.
        why: where the action needs a word.
    """

    server: ServerName
    action: Action
    name: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One file's changes, and its text after them.

    Attributes:
        made: the parts of the file that we made, and that have to go when the entries do.
        empty: whether the text says nothing any more, and no comment is in it.
    """

    changes: tuple[Change, ...]
    text: str
    made: frozenset[str]
    empty: bool


FILE, TEXT, ENTRIES = "file", "text", "entries"
"""Parts of a file that we may have made: the file itself, all that an empty one says, and the object that holds the
entries."""


class ConfigText:
    """The text of one client's configuration file, as one instance's entries are looked for in it."""

    def __init__(self, client: ClientConfig, text: str, public_url: str) -> None:
        """Read it.

        Raises:
            Unreadable: the text, or what holds the entries, is not what the client's syntax asks for.
        """
        self._client = client
        self._text = text
        self._public_url = public_url
        self._data = _read(client, text)
        self._entries = self._data.get(client.entries, {})
        if not isinstance(self._entries, Mapping):
            raise Unreadable(f"{client.entries} holds no entries by name")

    def connecting(self, usable: Sequence[ServerName], wanted: Set[ServerName], made: Set[str]) -> Plan:
        """With an entry for each of `wanted`, and without ours for servers that are not `usable` any more.

        Raises:
            Unreadable: this file cannot be changed in place.
        """
        return self._planned([*self._additions(usable, wanted), *self._leftovers(usable)], made)

    def removing(self, chosen: Set[ServerName] | None, made: Set[str]) -> Plan:
        """Without our entries, or those of them that are `chosen`.

        Raises:
            Unreadable: this file cannot be changed in place.
        """
        gone = [each for each in self._ours if chosen is None or each in chosen]
        return self._planned([Change(server, "remove", self._ours[server]) for server in gone], made)

    @property
    def _ours(self) -> dict[ServerName, str]:
        """The names of our entries, by server: those that have our name for it and lead to it."""
        return {server: name for server, name in self._all() if name in self._names(server)}

    def _all(self) -> Iterator[tuple[ServerName, str]]:
        for name, entry in self._entries.items():
            server = server_at(self._client.url_of(entry), self._public_url)
            if server is not None:
                yield server, name

    def _names(self, server: ServerName) -> tuple[str, str]:
        return entry_name(server), entry_name(server, label_of(self._public_url))

    def _label(self) -> str:
        """What our entries here begin with: the short label, where no other instance's entries have it."""
        ours = set(self._ours.values())
        if any(name == entry_name(server) for server, name in self._ours.items()):
            return LABEL
        others = any(name.startswith(f"{LABEL}-") and name not in ours for name in self._entries)
        return label_of(self._public_url) if ours or others else LABEL

    def _additions(self, usable: Sequence[ServerName], wanted: Set[ServerName]) -> Iterator[Change]:
        label, ours, all_ = self._label(), self._ours, dict(self._all())
        for server in usable:
            name = ours.get(server, entry_name(server, label))
            shape = self._client.entry_for(server.resource_url(self._public_url))
            if server in ours:
                kept = shape.items() <= dict(self._entries[name]).items()
                yield Change(server, "keep" if kept else "change", name)
            elif server not in wanted:
                continue
            elif server in all_:
                yield Change(server, "leave", all_[server], "you wrote it yourself")
            elif name in self._entries:
                yield Change(server, "leave", name, "the name is taken by another server")
            else:
                yield Change(server, "add", name)

    def _leftovers(self, usable: Sequence[ServerName]) -> Iterator[Change]:
        for server, name in self._ours.items():
            if server not in usable:
                yield Change(server, "remove", name, "you may not use it any more")

    def _planned(self, changes: Sequence[Change], made: Set[str]) -> Plan:
        key, text, data = self._client.entries, self._text, copy.deepcopy(self._data)
        made = frozenset(made) if key in data else frozenset({*made, ENTRIES})
        made = made if text.strip() else made | {TEXT}
        for change in changes:
            if change.action in ("add", "change"):
                entry = self._client.entry_for(change.server.resource_url(self._public_url))
                text = self._with_entry(text, change, entry)
                entries = data.setdefault(key, {})
                entries[change.name] = {**entries.get(change.name, {}), **entry}
            elif change.action == "remove":
                text = self._without_entry(text, change.name)
                del data[key][change.name]
        # In TOML nothing is left of a table that held only tables.
        if data.get(key) == {} and (ENTRIES in made or self._client.syntax == "toml"):
            text = jsonc.without_member(text, [], key) if self._client.syntax == "json" else text
            data = {name: value for name, value in data.items() if name != key or key in _read(self._client, text)}
        self._check(text, data)
        empty = text.strip() in ("", "{}")
        text = "" if changes and empty and made & {FILE, TEXT} else text
        return Plan(tuple(changes), text, made if key in data else made - {ENTRIES}, empty)

    def _with_entry(self, text: str, change: Change, entry: Mapping[str, str]) -> str:
        if self._client.syntax == "json":
            return jsonc.with_member(text, [self._client.entries], change.name, entry)
        if change.action == "change":
            raise Unreadable(f"{self._client.entries}.{change.name} has another address key; take it out by hand")
        return toml.with_table(text, self._client.entries, change.name, entry)

    def _without_entry(self, text: str, name: str) -> str:
        if self._client.syntax == "json":
            return jsonc.without_member(text, [self._client.entries], name)
        return toml.without_table(text, self._client.entries, name)

    def _check(self, text: str, wanted: Mapping[str, Any]) -> None:
        """Hold the new text to what it must say: what it said, and our changes.

        Raises:
            Unreadable: it says something else, so this file's way of writing is beyond us.
        """
        try:
            said = _read(self._client, text)
        except Unreadable as error:
            raise self._beyond_us() from error
        if said != wanted:
            raise self._beyond_us()

    def _beyond_us(self) -> Unreadable:
        return Unreadable(f"{self._client.entries} is written in a way that cannot be changed in place")


def _read(client: ClientConfig, text: str) -> dict[str, Any]:
    return jsonc.read(text) if client.syntax == "json" else toml.read(text)
