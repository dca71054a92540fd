"""What a TOML file may hold, read from the pydantic model that reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from docs.generate.markdown import code, table
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN

HEAD = ("key", "type", "default", "bounds", "meaning")

Schema = Mapping[str, Any]


def keys(model: type[BaseModel]) -> str:
    """A table of all keys of a file, those in its tables with their whole path.

    Raises:
        ValueError: a key has no description; the message names it.
    """
    schema = model.model_json_schema()
    return table(HEAD, _rows(schema, schema.get("$defs", {}), ""))


def _rows(schema: Schema, known: Schema, above: str) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        path = above + name
        if not field.get("description"):
            raise ValueError(f"{path} has no description: say what it means in its Field(description=…)")
        inner = _table_of(field, known)
        if inner is not None:
            below = f"{path}.{_key_of_each(name)}." if _of_each(field) else f"{path}."
            table_of, kind = (f"[[{path}]]", "tables") if "items" in field else (f"[{below.rstrip('.')}]", "table")
            yield (code(table_of), kind, "", "", field["description"])
            yield from _rows(inner, known, below)
            continue
        default = "required" if name in required else code(_toml(field.get("default")))
        yield (code(path), _type(field), default, _bounds(field), field["description"])


def _table_of(field: Schema, known: Schema) -> Schema | None:
    """The schema of the table that a key opens; None of a plain value."""
    [*one] = (each["$ref"] for each in _where_a_table_may_be(field) if "$ref" in each)
    return known[one[0].rpartition("/")[2]] if one else None


def _where_a_table_may_be(field: Schema) -> list[Schema]:
    return [field, *field.get("anyOf", []), _of_each(field), field.get("items", {})]


def _of_each(field: Schema) -> Schema:
    """What a table with keys of its reader's own holds under each of them; empty of anything else."""
    # One whose keys must look like something says so by a pattern.
    found = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
    return next((each for each in found if isinstance(each, Mapping)), {})


def _key_of_each(name: str) -> str:
    return '"NAMESPACE/NAME"' if name == "servers" else "NAME"


def _told(field: Schema) -> list[Schema]:
    """What a key's value may be, without that it may be left out."""
    return [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]


def _type(field: Schema) -> str:
    [found, *more] = _told(field)
    if more:
        return " or ".join(map(_type, (found, *more)))
    match found.get("type", "value"):
        case "array":
            return f"list of {_plural(found['items'])}"
        case "object":
            return f"table of {_plural(_of_each(found))}"
        case "string":
            return "name" if _is_name(found) else "text"
        case "boolean":
            return "true or false"
        case kind:
            return {"integer": "whole number", "number": "number", "value": "value"}[kind]


def _plural(items: Schema) -> str:
    return " or ".join(
        each if each.startswith(("list", "true")) else f"{each}s" for each in _type(items).split(" or ")
    )


def _bounds(field: Schema) -> str:
    [field, *more] = _told(field)
    if more:
        return ""
    found = field.get("items", field)
    if _is_name(found):
        return f"{NAME_LENGTH[0]} to {NAME_LENGTH[1]} of a-z, 0-9 and single -"
    if "enum" in found:
        return ", ".join(code(each) for each in found["enum"])
    told = [
        _between(found.get("minimum"), found.get("maximum"), ""),
        _between(found.get("minLength"), found.get("maxLength"), " characters"),
        code(found.get("pattern", "")),
    ]
    return "; ".join(each for each in told if each)


def _between(least: int | None, most: int | None, unit: str) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"at least {least:,}{unit}"
    return f"at most {most:,}{unit}" if least is None else f"{least:,} to {most:,}{unit}"


def _is_name(field: Schema) -> bool:
    return bool(field.get("pattern") == f"^{NAME_PATTERN}$")


def _toml(value: Any) -> str:
    return "" if value is None else json.dumps(value)
