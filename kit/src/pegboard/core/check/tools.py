"""Tools: access, a description that says when to use them, typed arguments and answers, minutes saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.publishing import Finding
from pegboard.core.release import ToolDeclaration

FEWEST_WORDS = 4
"""Words of a description that say more than the tool's name and title do."""

_WORD = re.compile(r"[^\W_]+")
_WHEN = re.compile(
    r"\b(?:use[ds]?|using|when(?:ever)?|where|if|before|after|instead|rather|first|once|unless|only|prefer|need(?:s|ed)?|"
    r"call (?:it|this))\b",
    re.IGNORECASE,
)
_TYPED = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "not"})


def findings(subject: Subject) -> Iterator[Finding]:
    """What is missing from each tool."""
    for tool in subject.declaration.tools:
        place = subject.place_of(tool.name)
        yield from _access(tool, subject, place)
        yield from _description(tool, place)
        yield from _arguments(tool, place)
        if tool.output_schema is None:
            yield RULES["PB205"].at(place, f"tool {tool.name!r}: its answer has no type")
        yield from _minutes(tool, subject, place)


def _access(tool: ToolDeclaration, subject: Subject, place: str) -> Iterator[Finding]:
    """The kit starts no such server; a declaration may have been made by something else."""
    if tool.policy not in subject.declaration.policies:
        yield RULES["PB201"].at(place, f"tool {tool.name!r}: there is no policy {tool.policy[:64]!r}")


def _description(tool: ToolDeclaration, place: str) -> Iterator[Finding]:
    said = {word.casefold() for word in _WORD.findall(tool.description)}
    if not said:
        yield RULES["PB202"].at(place, f"tool {tool.name!r} has no description")
        return
    known = {word.casefold() for word in _WORD.findall(f"{tool.name.replace('_', ' ')} {tool.title or ''}")}
    if len(said - known) < FEWEST_WORDS:
        yield RULES["PB203"].at(
            place, f"tool {tool.name!r}: its description says hardly more than its name: {tool.description[:80]!r}"
        )
    elif not _WHEN.search(tool.description):
        yield RULES["PB212"].at(place, f"tool {tool.name!r}: its description does not say when to use it")


def _arguments(tool: ToolDeclaration, place: str) -> Iterator[Finding]:
    properties = tool.input_schema.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if not _is_typed(schema):
            yield RULES["PB204"].at(place, f"tool {tool.name!r}: argument {name[:64]!r} has no type")
        elif not schema.get("description"):
            yield RULES["PB206"].at(place, f"tool {tool.name!r}: argument {name[:64]!r} has no description")


def _is_typed(schema: Any) -> bool:
    return isinstance(schema, dict) and not _TYPED.isdisjoint(schema)


def _minutes(tool: ToolDeclaration, subject: Subject, place: str) -> Iterator[Finding]:
    """Nothing and "none" are the same in a declaration; the code tells them apart, where it is there."""
    code = subject.code.tools.get(tool.name)
    if not tool.minutes_saved and code is not None and "saves" not in code.decorators:
        yield RULES["PB207"].at(place, f"tool {tool.name!r} does not say how many minutes a call saves")
