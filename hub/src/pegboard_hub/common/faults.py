"""What is wrong with a field that somebody sent, in our words instead of the validating library's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pegboard.core.text import sentence

MOST_TOLD = 20
"""Fields that one refusal names: a body can be wrong in thousands."""

_WORDS = {
    "extra_forbidden": "nothing here has that name",
    "missing": "it is needed",
    "literal_error": "choose one of {expected}",
    "enum": "choose one of {expected}",
    "string_type": "write text",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "bool_type": "say true or false",
    "bool_parsing": "say true or false",
    "list_type": "write a list",
    "tuple_type": "write a list",
    "dict_type": "write a table",
    "model_type": "write a table",
    "model_attributes_type": "write a table",
    "string_too_short": "it is shorter than {min_length} characters",
    "string_too_long": "it is longer than {max_length} characters",
    "string_pattern_mismatch": "write it in the form {pattern}",
    "too_long": "it has more than {max_length} entries",
    "greater_than_equal": "it is less than {ge}",
    "less_than_equal": "it is more than {le}",
}
"""By the library's type of fault; what it tells of it beside stands in braces."""

_PLACES = frozenset({"query", "path", "header", "body"})
"""Where a request has a field, as the library begins its place."""


def words(fault: Mapping[str, Any]) -> str:
    """What is wrong, to be read after a field's name and a colon; without a full stop."""
    known = _WORDS.get(fault["type"])
    if known is None:
        return str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    return known.format_map(fault.get("ctx", {}))


def every(faults: Sequence[Mapping[str, Any]], place: str = "") -> str:
    """What is wrong with each field, a sentence each, of the fields that are within `place`; each field once."""
    found: dict[str, str] = {}
    for fault in faults:
        name = ".".join(str(part)[:64] for part in fault["loc"])
        found.setdefault((place + name).rstrip(".") or "body", words(fault))
    told = [f"{name}: {sentence(said)}" for name, said in list(found.items())[:MOST_TOLD]]
    more = len(found) - len(told)
    return " ".join([*told, *([f"And {more} more."] if more else [])])


def field(place: Iterable[object]) -> str:
    """A field by its name, as whoever sent it knows it: without where in the request it was."""
    first, *rest = [str(part)[:64] for part in place] or [""]
    if first == "query":  # a parameter said twice is one to who sent it, whichever of the two is wrong
        rest = [part for part in rest if not part.isdecimal()]
    return ".".join(rest if first in _PLACES and rest else [first, *rest])
