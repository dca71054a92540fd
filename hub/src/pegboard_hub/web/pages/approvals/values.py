"""A call's arguments as an approver reads them: each by its name and type, SQL as SQL, a diff as a diff, the rest as
JSON. All of each is there; what is long is folded, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from markupsafe import Markup

from pegboard.core.approval import Block
from pegboard_hub.web.pages.approvals.strange import (
    OPEN_CHARACTERS,
    OPEN_LINES,
    Kind,
    Piece,
    Strange,
    markup,
    notes_of,
    one_line,
    strange,
)

MEDIA_KINDS: Final[Mapping[str, Kind]] = {
    "application/sql": "sql",
    "text/x-sql": "sql",
    "text/x-diff": "diff",
    "text/x-patch": "diff",
    "application/json": "json",
}
"""What a text is shown as, by its `contentMediaType` (JSON Schema 2020-12, Validation §8.4)."""

KIND_WORDS: Final[Mapping[Kind, str]] = {"text": "text", "sql": "SQL", "diff": "diff", "json": "JSON"}

MOST_DEPTH = 6
"""Levels within an argument that are searched for a text of a declared kind."""

MOST_REFS = 20


MOST_VALUES = 40
"""Arguments that stand by themselves; those beyond are one value of JSON."""

LONGEST_LABEL = 100
"""Characters of a name that stands above its value; a longer one is shown as JSON together with it."""

OPEN_OF_ALL = 100
"""Lines of all values of one action that stand unfolded; of each beyond stand `OPEN_AFTER`."""

OPEN_AFTER = (2, 120)
"""Lines and characters."""

NOT_DECLARED = "The tool does not declare this argument, and may run as if it were not there."


@dataclass(frozen=True, slots=True)
class Value:
    """One value with its name.

    Attributes:
        label: whose it is; a stranger's text.
        type: in a word, so that the text `1` and the number `1` are told apart.
        shown: its text.
        notes: what to know of name and text.
        open, folded: the lines of the text, as items of lists.
    """

    label: tuple[Piece, ...]
    type: str
    shown: Strange
    notes: tuple[str, ...]
    open: Markup
    folded: Markup


class Values:
    """The values of one action, gathered so that little of them stands between the point and the decision."""

    def __init__(self) -> None:
        self._left = OPEN_OF_ALL
        self._found: list[Value] = []

    def arguments(self, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Value, ...]:
        """The arguments of a call.

        Args:
            arguments: as they run if approved.
            schema: the tool's input schema, as its author pinned it. What is not declared is shown all the same, and
                said to be so: somebody may read it who thinks that it counts. What is declared with a default and was
                not sent is shown as well, for it runs with that.
        """
        names = list(arguments)
        for at, name in enumerate(names):
            before, taken = len(self._found), [name]
            if len(self._found) >= MOST_VALUES and at + 1 < len(names):
                taken = names[at:]
                rest = {each: arguments[each] for each in taken}
                self._add(f"{len(rest):,} more arguments", "JSON", written(rest), "json")
            elif len(name) > LONGEST_LABEL:
                self._add("an argument with a long name", "JSON", written({name: arguments[name]}), "json")
            else:
                self._value(_named("", name), arguments[name], _child(schema, name, schema), schema, MOST_DEPTH)
            if not all(_takes(schema, each) for each in taken):
                first = self._found[before]
                self._found[before] = replace(first, notes=(NOT_DECLARED, *first.notes))
            if len(taken) > 1:
                break
        if unsent := _defaults(schema, arguments):
            self._add("not sent, so as the tool has it", "JSON", written(unsent), "json")
        return self._taken()

    def blocks(self, blocks: Iterable[Block]) -> tuple[Value, ...]:
        """What a tool shows beside the arguments: a dry run, a plan."""
        for block in blocks:
            self._add(block.title, KIND_WORDS[block.kind], block.text, block.kind)
        return self._taken()

    def _taken(self) -> tuple[Value, ...]:
        found, self._found = tuple(self._found), []
        return found

    def _value(self, label: str, value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> None:
        if isinstance(value, str):
            kind = MEDIA_KINDS.get(_media_type(schema, root), "text")
            self._add(label, KIND_WORDS[kind], value, kind)
        elif self._is_taken_apart(label, value, schema, root, depth):
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                self._value(_named(label, key), each, _child(schema, key, root), root, depth - 1)
        else:
            self._add(label, _type(value), written(value), "json")

    def _is_taken_apart(
        self, label: str, value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int
    ) -> bool:
        if not (depth and value and isinstance(value, dict | list)) or len(label) > LONGEST_LABEL:
            return False
        if len(self._found) + len(value) > MOST_VALUES or any(len(str(key)) > LONGEST_LABEL for key in value):
            return False
        return _declares_text(schema, root, depth)

    def _add(self, label: str, type_: str, text: str, kind: Kind) -> None:
        lines, characters = (OPEN_LINES, OPEN_CHARACTERS) if self._left > 0 else OPEN_AFTER
        found = strange(text, kind, lines, characters)
        self._left -= max(len(found.open), sum(len(line.text) for line in found.open) // A_LINE)
        notes = tuple(dict.fromkeys((*notes_of(label), *found.notes)))
        self._found.append(Value(one_line(label), type_, found, notes, markup(found.open), markup(found.folded)))


A_LINE = 80
"""Characters that take about as much room as a line does."""


def _named(label: str, key: str | int) -> str:
    """The name of a member; no key of anybody's reads as a path of ours."""
    if isinstance(key, int):
        return f"{label}[{key}]"
    plain = key.isidentifier()
    if not label:
        return key if plain else json.dumps(key, ensure_ascii=False)
    return f"{label}.{key}" if plain else f"{label}[{json.dumps(key, ensure_ascii=False)}]"


def written(value: Any) -> str:
    """A value as JSON that people read: what is short stands on one line."""
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= 100 else json.dumps(value, ensure_ascii=False, indent=2)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return "number"
    count = len(value)
    if isinstance(value, list):
        return f"list of {count:,}"
    return f"object of {count:,}"


def _resolved(schema: Any, root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema, and all that it may be instead or is beside; only what stands in the same document."""
    waiting, met = [schema], 0
    while waiting and met < MOST_REFS:
        met += 1
        found = waiting.pop(0)
        if not isinstance(found, dict):
            continue
        yield found
        reference = found.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            waiting.append(_at(root, reference[2:].split("/")))
        for word in ("anyOf", "oneOf", "allOf"):
            branches = found.get(word)
            waiting += branches if isinstance(branches, list) else []


def _at(root: Any, path: list[str]) -> Any:
    for step in path:
        root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, dict) else None
    return root


def _media_type(schema: Any, root: Mapping[str, Any]) -> str:
    found = (each.get("contentMediaType") for each in _resolved(schema, root))
    return next((each.partition(";")[0].strip().lower() for each in found if isinstance(each, str)), "")


def _child(schema: Any, key: str | int, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a member; one that says nothing where there is none."""
    for each in _resolved(schema, root):
        properties = each.get("properties")
        found = properties.get(key) if isinstance(key, str) and isinstance(properties, dict) else each.get("items")
        if isinstance(found, dict):
            return found
    return {}


def _takes(schema: Mapping[str, Any], name: str) -> bool:
    """Whether a tool takes an argument of this name, as far as its schema says."""
    declared = schema.get("properties")
    return not isinstance(declared, dict) or name in declared or bool(schema.get("additionalProperties"))


def _defaults(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a tool has for arguments that were not sent."""
    declared = schema.get("properties")
    members = declared.items() if isinstance(declared, dict) else ()
    return {
        name: each["default"]
        for name, each in members
        if name not in arguments and isinstance(each, dict) and "default" in each
    }


def _declares_text(schema: Any, root: Mapping[str, Any], depth: int) -> bool:
    """Whether some text within is declared to be of a kind that is shown as such."""
    if _media_type(schema, root) in MEDIA_KINDS:
        return True
    if not depth:
        return False
    for each in _resolved(schema, root):
        properties = each.get("properties")
        children = [*(properties.values() if isinstance(properties, dict) else ()), each.get("items")]
        if any(_declares_text(child, root, depth - 1) for child in children[:MOST_REFS] if isinstance(child, dict)):
            return True
    return False
