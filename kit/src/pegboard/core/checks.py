"""Turning a failed model validation into lines a person can act on."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pegboard.core.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)


_DOTTED = re.compile(r"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){32}")
"""Tables inside one another: reading them takes the square of their number, and keeps the process from all else.
Each word is looked at from its beginning alone: else a long one would take the square of its length."""


def parse_toml(text: str) -> dict[str, Any]:
    """TOML that a stranger wrote, in a time that grows with its length.

    Raises:
        ValueError: it is not TOML, or nests more deeply than anybody needs.
    """
    if _DOTTED.search(text):
        raise ValueError("it nests too deeply")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def load_toml(model: type[M], text: str, where: str) -> M:
    """Read TOML text as `model`.

    Args:
        model: the shape the file must have; unknown keys must be forbidden by it.
        text: the file's content.
        where: the file's name, for messages.

    Raises:
        ConfigurationError: the text is not TOML or does not fit; every fault is named at once.
    """
    try:
        data = parse_toml(text)
    except ValueError as error:  # also of numbers that are too long
        raise ConfigurationError(where, [f"not valid TOML: {error}"]) from error
    return validate(model, data, where)


def validate(model: type[M], data: Any, where: str) -> M:
    """Fit `data` to `model`, naming every fault with its place and, for an unknown key, the nearest known one.

    Raises:
        ConfigurationError: the data does not fit.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_line(model, fault) for fault in error.errors(include_url=False, include_input=False)]
        raise ConfigurationError(where, problems) from error


def _line(model: type[BaseModel], fault: Any) -> str:
    place = [str(part) for part in fault["loc"]]
    name = ".".join(place)
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(place[-1], _keys_at(model, place[:-1]), n=1)
        return f"{name}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if fault["type"] == "missing":
        return f"{name}: missing"
    if fault["type"] == "tuple_type":
        return f'{name}: must be a list, for example ["one", "two"]'
    if fault["type"] == "string_pattern_mismatch":
        return f"{name}: has the wrong form; {_form_of(model, place)}"
    told = str(fault["msg"]).removeprefix("Value error, ")
    return f"{name}: {told}" if name else told


_NAME_FORM = "use 2 to 32 of a-z, 0-9 and single '-', starting with a letter"


def _form_of(model: type[BaseModel], place: list[str]) -> str:
    """What a text at `place` must look like: the field's own description, or the form of names."""
    field = model.model_fields.get(place[0]) if len(place) == 1 else None
    return f"it is {field.description}" if field and "for example" in (field.description or "") else _NAME_FORM


def _keys_at(model: type[BaseModel], place: list[str]) -> list[str]:
    """The keys `model` knows at a nested place; empty where the place is not a model of its own."""
    for part in place:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            # A key of a mapping (servers."prod/presto") stays at the mapping's value model.
            continue
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
