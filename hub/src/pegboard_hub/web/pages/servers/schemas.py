"""A JSON schema as people read it: a table of arguments. Schemas are untrusted text of any size and depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_ROWS = 100
MOST_TEXT = 500
MOST_CHOICES = 30
MOST_RAW = 20_000
"""Characters of a schema as JSON that a page shows."""


class Row(NamedTuple):
    """One argument, or one part of a result.

    Attributes:
        kind: its type in words.
        about: what its author says of it.
        limits: what else its values must hold to, in words.
        default: as JSON; empty where there is none.
    """

    name: str
    kind: str
    required: bool
    about: str
    limits: str
    default: str


class Table(NamedTuple):
    """A schema as rows.

    Attributes:
        more: how many rows are not shown.
        raw: the schema as JSON; its beginning where it is long.
    """

    rows: tuple[Row, ...]
    more: int
    raw: str


_LIMITS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "matching {}"),
    ("format", "as {}"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)


def table(schema: Mapping[str, Any]) -> Table:
    """The properties of an object's schema."""
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    wanted = schema.get("required")
    required = {name for name in wanted if isinstance(name, str)} if isinstance(wanted, list) else set()
    rows = tuple(
        _row(schema, name, described, name in required) for name, described in list(named.items())[:MOST_ROWS]
    )
    return Table(rows, max(len(named) - MOST_ROWS, 0), written(schema, MOST_RAW))


def written(value: Any, most: int = MOST_RAW) -> str:
    """A value as JSON for people; its beginning where it is long."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} characters more"


def resolved(schema: Mapping[str, Any], described: Any) -> Mapping[str, Any]:
    """What a property's schema says, its reference into the same schema followed once; nothing where it is none."""
    if not isinstance(described, dict):
        return {}
    pointer = described.get("$ref")
    if not isinstance(pointer, str) or not pointer.startswith("#/"):
        return described
    found: Any = schema
    for step in pointer[2:].split("/")[:8]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return {**found, **{k: v for k, v in described.items() if k != "$ref"}} if isinstance(found, dict) else described


def one_kind(schema: Mapping[str, Any], described: Any) -> tuple[Mapping[str, Any], bool]:
    """A property's schema without the "or null" that optional arguments have, and whether it had one."""
    found = resolved(schema, described)
    kinds = found.get("type")
    if isinstance(kinds, list) and "null" in kinds and len(kinds) == 2:
        return {**found, "type": next(kind for kind in kinds if kind != "null")}, True
    choices = found.get("anyOf", found.get("oneOf"))
    if not isinstance(choices, list) or len(choices) != 2:
        return found, False
    rest = [each for each in choices if not (isinstance(each, dict) and each.get("type") == "null")]
    if len(rest) != 1:
        return found, False
    outer = {k: v for k, v in found.items() if k not in ("anyOf", "oneOf")}
    return {**resolved(schema, rest[0]), **outer}, True


def kind_of(described: Mapping[str, Any]) -> str:
    """A schema's type in a word or two."""
    choices = described.get("enum")
    if isinstance(choices, list) and choices:
        return (
            "one of "
            + ", ".join(_short(choice) for choice in choices[:MOST_CHOICES])
            + (", …" if len(choices) > MOST_CHOICES else "")
        )
    if "const" in described:
        return _short(described["const"])
    kind = described.get("type")
    if isinstance(kind, list):
        return " or ".join(str(each)[:20] for each in kind[:6])
    if kind == "array":
        items = described.get("items")
        inner = items.get("type") if isinstance(items, dict) else None
        return f"list of {str(inner)[:20]}" if isinstance(inner, str) else "list"
    return str(kind)[:20] if isinstance(kind, str) else "any"


def _row(schema: Mapping[str, Any], name: str, described: Any, required: bool) -> Row:
    found, _ = one_kind(schema, described)
    limits = [words.format(_short(found[key])) for key, words in _LIMITS if key in found]
    about = found.get("description")
    return Row(
        name=name[:MOST_TEXT],
        kind=kind_of(found),
        required=required,
        about=about[:MOST_TEXT] if isinstance(about, str) else "",
        limits=", ".join(limits),
        default=_short(found["default"]) if found.get("default") is not None else "",
    )


def _short(value: Any, most: int = 80) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}…"
