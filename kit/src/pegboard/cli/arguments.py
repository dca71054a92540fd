"""Turning `--arg name=text` into the typed arguments a tool's schema asks for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pegboard.cli.exit import Failure

Schema = Mapping[str, Any]

_TYPES: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
    list: ("array",),
    dict: ("object",),
    type(None): ("null",),
}
"""The JSON Schema types that a Python value from JSON counts as."""


def parse_pairs(pairs: Iterable[str], schema: Schema | None) -> dict[str, Any]:
    """The arguments that `pairs` write, typed by the tool's input schema.

    Without a schema (the tool is not in the caller's list) a value is JSON where it reads as JSON, else text:
    the server shall answer, not this command.

    Raises:
        Failure: wrong usage; the message names the argument and the mend.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise Failure.usage(f"--arg {pair}: write it as NAME=VALUE.")
        if name in arguments:
            raise Failure.usage(f"--arg {name} is given twice.")
        arguments[name] = _read(name, text, _property(schema, name), schema or {})
    missing = [name for name in (schema or {}).get("required", ()) if name not in arguments]
    if missing:
        raise Failure.usage(f"Missing: {', '.join(f'--arg {name}=…' for name in missing)}.")
    return arguments


def parse_json(text: str) -> dict[str, Any]:
    """The arguments as one JSON object.

    Raises:
        Failure: wrong usage; the text is not a JSON object.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Failure.usage(f"--json-args is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Failure.usage("--json-args is not a JSON object.", 'Write it as {"name": value, …}.')
    return value


def type_label(schema: Schema, root: Schema) -> str:
    """A property's type in a word or two, for a list of arguments."""
    types = [name for name in _types(schema, root) if name != "null"]
    arrays = [each for each in (schema, *schema.get("anyOf", ())) if isinstance(each.get("items"), Mapping)]
    if types == ["array"] and len(arrays) == 1:
        return f"array of {type_label(arrays[0]['items'], root)}"
    return " or ".join(types) or "any"


def _property(schema: Schema | None, name: str) -> Schema:
    if schema is None:
        return {}
    known = schema.get("properties", {})
    if name in known:
        found = known[name]
        return found if isinstance(found, Mapping) else {}
    if schema.get("additionalProperties"):
        return {}
    near = get_close_matches(name, known, n=1)
    mend = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known) or 'no arguments'}."
    raise Failure.usage(f"The tool has no argument {name}.", mend)


def _read(name: str, text: str, schema: Schema, root: Schema) -> Any:
    types = _types(schema, root)
    if types and set(types) <= {"string", "null"}:
        return text
    try:
        # True and FALSE are what people type; JSON knows only the lower case.
        lowered = text.lower() if "boolean" in types and text.lower() in ("true", "false") else text
        value = json.loads(lowered, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = text
    if not types or not set(types).isdisjoint(_TYPES[type(value)]):
        return value
    if "string" in types:
        return text
    raise Failure.usage(f"--arg {name}={text}: not {' or '.join(types)}.")


def _types(schema: Schema, root: Schema, depth: int = 0) -> list[str]:
    """The JSON Schema types a value may have, in order; empty when the schema does not say."""
    if depth > 8:  # a schema that refers to itself says nothing about the type
        return []
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return _types(target, root, depth + 1)
    named = schema.get("type", [])
    found = [named] if isinstance(named, str) else list(named)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found += _types(choice, root, depth + 1)
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    found += [_TYPES[type(value)][0] for value in values if not found]
    return list(dict.fromkeys(found))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
