"""Tools: access, a description that says when to use them, typed arguments and answers, minutes saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding, Severity
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


_THEIRS: Final[dict[str, tuple[Severity, str]]] = {
    "PB202": (
        Severity.ERROR,
        "Ask its author for one, or hide the tool: serve = false in its table of [proxy.tools].",
    ),
    "PB203": (Severity.NOTE, "Ask its author to say more: a proxy shows their words alone."),
    "PB204": (Severity.WARNING, "No policy can read it. Ask its author for a type, or hide the tool: serve = false."),
    "PB205": (Severity.NOTE, "Its answers pass as they are."),
    "PB206": (Severity.NOTE, "Ask its author for one: a proxy shows their words alone."),
    "PB212": (Severity.NOTE, "Ask its author for a sentence: a proxy shows their words alone."),
}
"""What weighs less, or is mended otherwise, in the words of a server that somebody else wrote."""


def findings(subject: Subject) -> Iterator[Finding]:
    """What is missing from each tool."""
    for tool in subject.declaration.tools:
        yield from _access(tool, subject)
        for code, what in (*_description(tool), *_arguments(tool), *_answer(tool)):
            severity, fix = _THEIRS[code] if subject.proxied else (None, None)
            yield RULES[code].at(subject.place_of(tool.name), what, fix, severity)
        yield from _minutes(tool, subject)


def _access(tool: ToolDeclaration, subject: Subject) -> Iterator[Finding]:
    """The kit starts no such server; a declaration may have been made by something else."""
    if tool.policy not in subject.declaration.policies:
        place = FILE_NAME if subject.proxied else subject.place_of(tool.name)
        yield RULES["PB201"].at(place, f"tool {tool.name!r}: there is no policy {tool.policy[:64]!r}")


def _description(tool: ToolDeclaration) -> Iterator[tuple[str, str]]:
    said = {word.casefold() for word in _WORD.findall(tool.description)}
    if not said:
        yield "PB202", f"tool {tool.name!r} has no description"
        return
    known = {word.casefold() for word in _WORD.findall(f"{tool.name.replace('_', ' ')} {tool.title or ''}")}
    if len(said - known) < FEWEST_WORDS:
        words = tool.description[:80]
        yield "PB203", f"tool {tool.name!r}: its description says hardly more than its name: {words!r}"
    elif not _WHEN.search(tool.description):
        yield "PB212", f"tool {tool.name!r}: its description does not say when to use it"


def _arguments(tool: ToolDeclaration) -> Iterator[tuple[str, str]]:
    properties = tool.input_schema.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if not _is_typed(schema):
            yield "PB204", f"tool {tool.name!r}: argument {name[:64]!r} has no type"
        elif not schema.get("description"):
            yield "PB206", f"tool {tool.name!r}: argument {name[:64]!r} has no description"


def _is_typed(schema: Any) -> bool:
    return isinstance(schema, dict) and not _TYPED.isdisjoint(schema)


def _answer(tool: ToolDeclaration) -> Iterator[tuple[str, str]]:
    if tool.output_schema is None:
        yield "PB205", f"tool {tool.name!r}: its answer has no type"


def _minutes(tool: ToolDeclaration, subject: Subject) -> Iterator[Finding]:
    """Nothing and "none" are the same in a declaration; the code, or the manifest, tells them apart."""
    what = f"tool {tool.name!r} does not say how many minutes a call saves"
    if (proxy := subject.declaration.manifest.proxy) is not None:
        if proxy.told(tool.name).minutes_saved is None:
            fix = f"Write minutes_saved in [proxy.tools.{tool.name}]; 0 is an answer, too."
            yield RULES["PB207"].at(FILE_NAME, what, fix)
        return
    code = subject.code.tools.get(tool.name)
    if not tool.minutes_saved and code is not None and "saves" not in code.decorators:
        yield RULES["PB207"].at(subject.place_of(tool.name), what)
