"""JSON Schemas of tools, as authors declare them: checked before anything follows, shows or hands them on.

A tool's schema is JSON Schema 2020-12 (MCP, Tool.inputSchema) that stands alone: it refers to nothing outside itself,
ends when it is followed, and is small enough for a page, a model and the ledger. The table says what each keyword
must hold, as the metaschema does; a test holds the table to the metaschema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple
from urllib.parse import unquote

from pegboard.core.text import hidden_in

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MOST_BYTES = 64 * 1024
"""Bytes of one schema as JSON."""

MOST_VALUES = 5_000
"""Values in one schema: objects, lists, texts, numbers."""

MOST_PROPERTIES = 500
"""Properties that one schema names, in all its objects together."""

DEEPEST = 32
"""Objects and lists inside one another."""

MOST_FOLLOWED = 20_000
"""Subschemas there are once every `$ref` is written out: a page and a client may do so."""

LARGEST_NUMBER = 2**64


class Fault(NamedTuple):
    """What is wrong at one place: `where` is a JSON Pointer (RFC 6901), empty for the whole."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class _Kind(NamedTuple):
    """What a keyword holds: a check, its name in a sentence, and where the subschemas are in it."""

    name: str
    holds: Callable[[Any], bool]
    inner: Callable[[Any], Iterator[tuple[str, Any]]] = lambda _: iter(())


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_types(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and _is_names(value) and _TYPES.issuperset(value)
    return isinstance(value, str) and value in _TYPES


_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})

_ANY = _Kind("anything", lambda _: True)
_SCHEMA = _Kind("a schema (an object, true or false)", _is_schema, lambda value: iter([("", value)]))
_SCHEMAS = _Kind(
    "a list of at least one schema",
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_schema, value)),
    lambda value: ((f"/{number}", each) for number, each in enumerate(value)),
)
_MAP = _Kind(
    "an object of schemas by name",
    lambda value: isinstance(value, dict) and all(map(_is_schema, value.values())),
    lambda value: ((f"/{_escaped(name)}", each) for name, each in value.items()),
)
_TEXT = _Kind("a text", _is_text)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_LIST = _Kind("a list", lambda value: isinstance(value, list))
_NUMBER = _Kind("a number", _is_number)
_FACTOR = _Kind("a number above 0", lambda value: _is_number(value) and value > 0)
_COUNT = _Kind("a whole number, 0 or more", lambda value: _is_number(value) and value >= 0 and value == int(value))
_NAMES = _Kind("a list of texts, each once", _is_names)
_NEEDS = _Kind(
    "an object of lists of texts", lambda value: isinstance(value, dict) and all(map(_is_names, value.values()))
)
_DIALECT = _Kind(f"{DIALECT!r}, or left out", lambda value: value == DIALECT)
_REF = _Kind(
    "a place in this schema, as '#/$defs/Name': nothing is fetched",
    lambda value: isinstance(value, str) and (value == "#" or value.startswith("#/")),
)
_NEVER = _Kind("left out: a tool's schema stands alone and names places by '#/…'", lambda _: False)

KEYWORDS: dict[str, _Kind] = {
    **dict.fromkeys(("$defs", "definitions", "properties", "patternProperties", "dependentSchemas"), _MAP),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _SCHEMAS),
    **dict.fromkeys(("items", "contains", "additionalProperties", "propertyNames", "contentSchema"), _SCHEMA),
    **dict.fromkeys(("not", "if", "then", "else", "unevaluatedItems", "unevaluatedProperties"), _SCHEMA),
    **dict.fromkeys(("title", "description", "$comment", "format", "pattern"), _TEXT),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), _TEXT),
    **dict.fromkeys(("deprecated", "readOnly", "writeOnly", "uniqueItems"), _FLAG),
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), _NUMBER),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxProperties"), _COUNT),
    **dict.fromkeys(("minProperties", "maxContains", "minContains"), _COUNT),
    **dict.fromkeys(("enum", "examples"), _LIST),
    **dict.fromkeys(("const", "default"), _ANY),
    **dict.fromkeys(("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary"), _NEVER),
    **dict.fromkeys(("$recursiveRef", "$recursiveAnchor", "dependencies"), _NEVER),
    "type": _Kind(f"one of {', '.join(sorted(_TYPES))}, or a list of them, each once", _is_types),
    "multipleOf": _FACTOR,
    "required": _NAMES,
    "dependentRequired": _NEEDS,
    "$schema": _DIALECT,
    "$ref": _REF,
}
"""What each keyword must hold. Others are notes to readers, as JSON Schema says."""

_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "$ref"})
"""Keywords whose subschemas look at the same value: a circle of them never ends."""


def schema_faults(schema: Any, *, of_object: bool) -> list[Fault]:
    """What is wrong with a tool's schema; empty when nothing is. Never raises, whatever `schema` holds.

    Args:
        schema: as the author declares it, of any size and shape.
        of_object: whether it must describe an object, as the arguments of a tool are. An empty one says nothing, and
            is taken.
    """
    if too_much := _too_much(schema):
        return [too_much]
    if not isinstance(schema, dict):
        return [Fault("", "must be a JSON Schema, which is an object")]
    if faults := _value_faults(schema):
        return faults
    if of_object and schema and schema.get("type") != "object":
        faults.append(Fault("/type", "must be 'object': a tool's arguments have names"))
    found: dict[str, Any] = {}
    faults += _keyword_faults(schema, found)
    return faults or list(_following_faults(found))


def _too_much(schema: Any) -> Fault | None:
    """The first bound that is passed, or what is no JSON. What is beyond a bound is never looked at."""
    count = properties = 0
    waiting = [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict):
            if not all(map(_is_text, value)):
                return Fault("", "has a name that is no text")
            inner: Iterable[Any] = value.values()
            named = value.get("properties")
            properties += len(named) if isinstance(named, dict) else 0
        elif isinstance(value, list):
            inner = value
        elif value is None or isinstance(value, str | bool | int | float):
            continue
        else:
            return Fault("", f"holds {type(value).__name__}, which is not JSON")
        count += len(value) + 1
        if count > MOST_VALUES:
            return Fault("", f"has more than {MOST_VALUES} values: describe less, or split the tool")
        if properties > MOST_PROPERTIES:
            return Fault("", f"names more than {MOST_PROPERTIES} properties: split the tool")
        if depth > DEEPEST:
            return Fault("", f"nests deeper than {DEEPEST}: flatten it, or name parts in $defs")
        waiting += [(each, depth + 1) for each in inner]
    return None


def _value_faults(schema: Any) -> list[Fault]:
    """Every number and every text, wherever it stands: names, titles, choices and defaults are all shown."""
    try:
        text = json.dumps(schema, allow_nan=False)
    except ValueError:  # a number that is none: found below
        text = ""
    if len(text) > MOST_BYTES:
        return [Fault("", f"is larger than {MOST_BYTES // 1024} KiB: describe less, or split the tool")]
    if text and not _TO_LOOK_AT.search(text):
        return []
    return [Fault(where, told) for where, value in _values(schema) if (told := _value_fault(value))]


_TO_LOOK_AT = re.compile(r"\\[^\"\\/]|[0-9]{19}")
"""In JSON: a character that had to be escaped, or a number that may be too large. Most schemas have neither."""


def _values(schema: Any) -> Iterator[tuple[str, Any]]:
    """Each value by its pointer, and of each object a `_Key` for each name in it."""
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        where, value = waiting.pop()
        yield where, value
        if isinstance(value, list):
            waiting += [(f"{where}/{number}", each) for number, each in enumerate(value)]
        elif isinstance(value, dict):
            for key, each in value.items():
                below = f"{where}/{_escaped(key)}"
                yield below, _Key(key)
                waiting.append((below, each))


class _Key(NamedTuple):
    """A name of an entry, as the author's object has it."""

    name: str


def _value_fault(value: Any) -> str:
    match value:
        case _Key():
            return f"its name {hidden}" if (hidden := hidden_in(value.name)) else ""
        case str():
            return hidden_in(value, lines=True)
        case float() if not math.isfinite(value):
            return _NO_NUMBER
        case int() if abs(value) > LARGEST_NUMBER:
            return _NO_NUMBER
    return ""


_NO_NUMBER = "is no number that JSON can carry everywhere: use one below 2 to the 64th"


def _keyword_faults(schema: dict[str, Any], found: dict[str, Any]) -> Iterator[Fault]:
    """Hold every subschema to the table, and note each in `found` by its pointer."""
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        where, value = waiting.pop()
        found[where] = value
        if isinstance(value, bool):
            continue
        for keyword, content in value.items():
            kind = KEYWORDS.get(keyword, _ANY)
            if not kind.holds(content):
                yield Fault(f"{where}/{keyword}", f"must be {kind.name}")
                continue
            waiting += [(f"{where}/{keyword}{below}", each) for below, each in kind.inner(content)]


def _following_faults(found: Mapping[str, Any]) -> Iterator[Fault]:
    """Every `$ref` must lead to a subschema, no circle may be without end, and all together stay small."""
    for where, value in found.items():
        if isinstance(value, dict) and "$ref" in value and _target(value["$ref"]) not in found:
            yield Fault(f"{where}/$ref", f"leads nowhere: there is no schema at {value['$ref']!r}")
            return
    try:
        TopologicalSorter({where: list(_next(where, value, _IN_PLACE)) for where, value in found.items()}).prepare()
    except CycleError as error:
        yield Fault(str(error.args[1][0]), "refers to itself without an end: let it refer to itself by a property")
        return
    if _followed(found) > MOST_FOLLOWED:
        yield Fault("", f"grows beyond {MOST_FOLLOWED} schemas once its $refs are followed: refer less often")


def _followed(found: Mapping[str, Any]) -> int:
    """Subschemas with every `$ref` written out; where one leads back to what it stands in, it counts once."""
    sizes: dict[str, int] = {}
    entered: set[str] = set()
    waiting = [""]
    while waiting:
        where = waiting[-1]
        after = list(_next(where, found[where], KEYWORDS))
        if where not in entered:
            entered.add(where)
            waiting += [each for each in after if each not in entered]
            continue
        waiting.pop()
        if where not in sizes:
            sizes[where] = 1 + sum(sizes.get(each, 1) for each in after)
    return sizes[""]


def _next(where: str, value: Any, keywords: frozenset[str] | Mapping[str, Any]) -> Iterator[str]:
    """Pointers of the subschemas that these keywords lead to; definitions are led to by what refers to them."""
    if isinstance(value, bool):
        return
    for keyword, content in value.items():
        if keyword == "$ref" and keyword in keywords:
            yield _target(content)
        elif keyword in keywords and keyword in KEYWORDS and keyword not in ("$defs", "definitions"):
            yield from (f"{where}/{keyword}{below}" for below, _ in KEYWORDS[keyword].inner(content))


def _target(ref: str) -> str:
    """The pointer that a `$ref` means, in the form in which `found` has it."""
    parts = unquote(ref[1:]).split("/")
    return "/".join(_escaped(part.replace("~1", "/").replace("~0", "~")) for part in parts)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
