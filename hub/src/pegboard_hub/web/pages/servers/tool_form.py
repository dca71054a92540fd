"""A form made of a tool's input schema, and the arguments that a form says. Schemas are untrusted; forms are too.

What a form cannot say nicely is written as JSON. The server holds arguments to the schema anyway: here only what a
person can mend is told, by the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pegboard_hub.web.pages.servers.schemas import kind_of, one_kind
from pegboard_hub.web.questions import strict_json

Kind = Literal["text", "lines", "number", "integer", "boolean", "choice", "json"]

MOST_FIELDS = 40
"""Arguments that get a field of their own; of more than that there is one field for all."""

MOST_TEXT = 500
SHORT = 120
"""Characters up to which a text gets one line."""

WHOLE = ""
"""Name of the field for all arguments together; no argument is called this in a form of single fields."""


class Field(NamedTuple):
    """One field.

    Attributes:
        key: in the form; nobody's text.
        name: of the argument; `WHOLE` for all of them together.
        about: what its author says of it.
        hint: what may be written, in words.
        choices: as JSON, of kind `choice`.
        value: what stands in it.
        problem: what is wrong with that; empty where nothing is.
    """

    key: str
    name: str
    kind: Kind
    required: bool
    about: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    value: str = ""
    problem: str = ""

    @property
    def label(self) -> str:
        """What the field is called."""
        return self.name or "All arguments, as JSON"


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The form's fields, with what is taken where nothing is said."""
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    simple = 0 < len(named) <= MOST_FIELDS and all(named)
    if not simple and (named or schema.get("additionalProperties")):
        return (Field("a0", WHOLE, "json", required=False, hint='{"name": value}'),)
    wanted = schema.get("required")
    required = {name for name in wanted if isinstance(name, str)} if isinstance(wanted, list) else set()
    return tuple(
        _field(f"a{place}", schema, name, described, required=name in required)
        for place, (name, described) in enumerate(named.items())
    )


def read_form(
    fields: tuple[Field, ...], schema: Mapping[str, Any], form: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[Field, ...]]:
    """The arguments that a form says, and the fields as they were filled in, with what is wrong with them."""
    arguments: dict[str, Any] = {}
    filled = []
    for field in fields:
        text = form.get(field.key, "")
        problem = ""
        try:
            for name, value in _said(field, schema, text):
                arguments[name] = value
        except ValueError as error:
            problem = f"{field.label}: {error}"
        filled.append(field._replace(value=text, problem=problem))
    return arguments, tuple(filled)


def _said(field: Field, schema: Mapping[str, Any], text: str) -> Iterator[tuple[str, Any]]:
    """The argument that a field gives, or all of them; none where it is left empty.

    Raises:
        ValueError: it cannot be; the message says why.
    """
    blank = not text.strip() if field.kind != "text" else not text
    if blank:
        if field.required:
            raise ValueError("it is required.")
        return
    if field.name == WHOLE:
        value = _json(text)
        if not isinstance(value, dict):
            raise ValueError('write one JSON object, like {"name": value}.')
        yield from value.items()
        return
    described, _ = one_kind(schema, schema["properties"][field.name])
    value = _READ[field.kind](field, text)
    _check(value, described)
    yield field.name, value


def _field(key: str, schema: Mapping[str, Any], name: str, described: Any, *, required: bool) -> Field:
    found, _ = one_kind(schema, described)
    about, default = found.get("description"), found.get("default")
    kind, choices = _kind(found)
    value = ""
    if default is not None:
        value = default if isinstance(default, str) and kind in ("text", "lines") else json.dumps(default)
    return Field(
        key,
        name,
        kind,
        required,
        about=about[:MOST_TEXT] if isinstance(about, str) else "",
        hint="" if kind == "choice" else kind_of(found)[:MOST_TEXT],
        choices=choices,
        value=value[:MOST_TEXT],
    )


def _kind(described: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...]]:
    choices = described.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= 200:
        return "choice", tuple(json.dumps(choice, ensure_ascii=False) for choice in choices)
    kind = described.get("type")
    if kind == "string":
        most = described.get("maxLength")
        short = (isinstance(most, int) and most <= SHORT) or "format" in described
        return ("text" if short else "lines"), ()
    if kind in ("number", "integer", "boolean"):
        return kind, ()
    return "json", ()


def _text(_field: Field, text: str) -> str:
    return text.replace("\r\n", "\n")


def _number(field: Field, text: str) -> int | float:
    wanted = "write a whole number, such as 200." if field.kind == "integer" else "write a number, such as 2.5."
    try:
        value = strict_json(text.strip())
    except ValueError:
        raise ValueError(wanted) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(wanted)
    if field.kind == "integer" and not (isinstance(value, int) or value.is_integer()):
        raise ValueError(wanted)
    return int(value) if field.kind == "integer" else value


def _boolean(_field: Field, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("say true or false.")
    return text == "true"


def _choice(field: Field, text: str) -> Any:
    if text not in field.choices:
        raise ValueError("choose one of those that there are.")
    return json.loads(text)


def _any(_field: Field, text: str) -> Any:
    return _json(text)


_READ: dict[Kind, Any] = {
    "text": _text,
    "lines": _text,
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
    "choice": _choice,
    "json": _any,
}


def _json(text: str) -> Any:
    try:
        return strict_json(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}.") from error


def _check(value: Any, described: Mapping[str, Any]) -> None:
    """What a person can mend at once; the rest is the server's to say.

    Raises:
        ValueError: the value is out of bounds.
    """
    kind = described.get("type")
    if kind == "array" and not isinstance(value, list):
        raise ValueError("write a JSON list, like [1, 2].")
    if kind == "object" and not isinstance(value, dict):
        raise ValueError('write a JSON object, like {"name": value}.')
    for key, fits, words in _BOUNDS:
        bound = described.get(key)
        if _is_number(bound) and not fits(value, bound):
            raise ValueError(words.format(bound))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda value, bound: not _is_number(value) or value >= bound, "it is less than {}."),
    ("maximum", lambda value, bound: not _is_number(value) or value <= bound, "it is more than {}."),
    (
        "minLength",
        lambda value, bound: not isinstance(value, str) or len(value) >= bound,
        "it is shorter than {} characters.",
    ),
    (
        "maxLength",
        lambda value, bound: not isinstance(value, str) or len(value) <= bound,
        "it is longer than {} characters.",
    ),
)
