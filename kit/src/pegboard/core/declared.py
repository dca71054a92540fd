"""What a declaration may say: held to the same rules where it is made (the kit) and where it is taken (the hub).

A declaration is an author's text that models read, people approve and pages show. So nothing in it may hide, pass for
something else, or be larger than its readers can bear. Each problem is one line that names the tool, the field and
the mend.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pegboard.core.manifest import Manifest
from pegboard.core.names import TOOL_PATTERN, ServerName
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard.core.schemas import schema_faults
from pegboard.core.text import hidden_in, mixed_in, skeleton

LONGEST_TITLE = 100
"""Characters of the title of a server or a tool."""

LONGEST_DESCRIPTION = 8_000
"""Characters of a tool's description. All of it goes into the context of the model that calls."""

LONGEST_TEXT = 500
"""Characters of any text of a manifest that has no tighter bound of its own."""

LONGEST_POLICY_NAME = 64
"""Characters of the name of a policy file."""

MOST_TOOLS = 256
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of a whole declaration as JSON."""

MOST_TOLD = 20
"""Problems that are named; whoever has more mends these first."""


def declaration_problems(declaration: Declaration) -> list[str]:
    """What is wrong with a declaration, a line each, at most `MOST_TOLD`; empty when nothing is.

    Never raises, whatever its texts and schemas hold.
    """
    return list(islice(_problems(declaration), MOST_TOLD)) or _size_problems(declaration)


def _problems(declaration: Declaration) -> Iterator[str]:
    tools = declaration.tools
    if len(tools) > MOST_TOOLS:
        yield f"the server declares {len(tools)} tools, and {MOST_TOOLS} are the most: split the server"
        return
    yield from _manifest_problems(declaration.manifest)
    if len(declaration.instructions) > LONGEST_DESCRIPTION:
        yield f"instructions: are longer than {LONGEST_DESCRIPTION} characters: say what a model needs for the tools"
    elif problem := hidden_in(declaration.instructions, lines=True):
        yield f"instructions: {problem}"
    yield from _policy_problems(declaration.policies)
    for tool in tools:
        yield from (f"tool {_named(tool)}, {problem}" for problem in _tool_problems(tool))
    yield from _alike(tools)


def _size_problems(declaration: Declaration) -> list[str]:
    """Only of a declaration without other problems: it can be written then, and its parts are of a bearable size."""
    if len(declaration.model_dump_json()) <= MOST_BYTES:
        return []
    return [f"the declaration is larger than {MOST_BYTES // 2**20} MiB: describe less, or split the server"]


def _manifest_problems(manifest: Manifest) -> Iterator[str]:
    for place, text in _texts(manifest.model_dump(), ""):
        if problem := hidden_in(text):
            yield f"{place}: {problem}"
        elif len(text) > LONGEST_TEXT:
            yield f"{place}: is longer than {LONGEST_TEXT} characters"
    yield from (f"title: {problem}" for problem in _title_problems(manifest.title))


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text of a manifest by its place; names of entries are texts too. It nests as deep as its model does."""
    match value:
        case str():
            yield place, value
        case list() | tuple():
            for each in value:
                yield from _texts(each, place)
        case dict():
            for key, each in value.items():
                inner = f"{place}.{ascii(key)[1:-1]}".lstrip(".")
                yield inner, key
                yield from _texts(each, inner)


def _policy_problems(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if problem := hidden_in(name):
            yield f"policy {name[:64]!a}: its name {problem}"
        elif len(name) > LONGEST_POLICY_NAME:
            yield f"policy {name[:64]!a}: its name is longer than {LONGEST_POLICY_NAME} characters"


def _tool_problems(tool: ToolDeclaration) -> Iterator[str]:
    if not re.fullmatch(TOOL_PATTERN, tool.name):
        yield f"name: use {TOOL_PATTERN}"
    for problem in (hidden_in(tool.title or ""), *_title_problems(tool.title)):
        if problem:
            yield f"title: {problem}"
    if len(tool.description) > LONGEST_DESCRIPTION:
        yield f"description: is longer than {LONGEST_DESCRIPTION} characters: say what a model needs to choose it"
    elif problem := hidden_in(tool.description, lines=True):
        yield f"description: {problem}"
    for place, text in (
        ("approval.why", tool.approval.why if tool.approval else ""),
        ("confirmation", tool.confirmation),
    ):
        if text and (problem := hidden_in(text)):
            yield f"{place}: {problem}"
        elif text and len(text) > LONGEST_TEXT:
            yield f"{place}: is longer than {LONGEST_TEXT} characters"
    yield from (f"input_schema{fault}" for fault in _told(tool.input_schema, of_object=True))
    if tool.output_schema is not None:
        yield from (f"output_schema{fault}" for fault in _told(tool.output_schema, of_object=False))


def _title_problems(title: str | None) -> Iterator[str]:
    if title is None:
        return
    if not title.strip():
        yield "is blank: leave it out, and the name is shown"
    if len(title) > LONGEST_TITLE:
        yield f"is longer than {LONGEST_TITLE} characters: the description has room for more"
    elif problem := mixed_in(title):
        yield problem


def _told(schema: object, *, of_object: bool) -> Iterator[str]:
    for fault in schema_faults(schema, of_object=of_object):
        where = ascii(fault.where)[1:-1]
        yield f"{where if len(where) <= 200 else where[:200] + '…'}: {fault.what}"


def _alike(tools: Iterable[ToolDeclaration]) -> Iterator[str]:
    """Two tools that are mistaken for each other: a person approves the one, and a model calls the other."""
    for field in ("name", "title"):
        seen: dict[str, list[str]] = defaultdict(list)
        for tool in tools:
            if text := getattr(tool, field):
                seen[skeleton(text)].append(tool.name)
        for names in seen.values():
            if len(names) > 1:
                listed = ", ".join(ascii(name) for name in names[:4])
                yield f"tools {listed}: their {field}s look the same; give each {_ANOTHER[field]}"


_ANOTHER = {
    "name": "a name that differs in more than case, separators, and signs that look alike",
    "title": "a title of its own",
}


def _named(tool: ToolDeclaration) -> str:
    """The tool's name for a line of text: what it holds is not known to be harmless."""
    return ascii(tool.name[:64])


def mistakable(name: ServerName, known: Iterable[ServerName]) -> list[str]:
    """Registered servers that `name` is mistaken for at a glance: `prest0`, `pre-sto` and `rnodel` for `presto` and
    `model`. A new server may not have such a name.

    A name that another namespace has already is no look-alike: it is the same server, tried before it is published.
    """
    return [str(other) for other in known if _mistaken(name, other)]


def lookalikes(name: ServerName, known: Iterable[ServerName]) -> list[str]:
    """Registered servers whose names a person may confuse with `name`, for its reviewers: those of `mistakable`, and
    those that differ by one letter left out, put in, changed or swapped with the next."""
    others = list(known)
    same = set(mistakable(name, others))
    return [str(other) for other in others if str(other) in same or _one_slip(name.name, other.name)]


SHORTEST_SLIP = 5
"""Names shorter than this differ by one letter all the time."""


def _mistaken(name: ServerName, other: ServerName) -> bool:
    if name == other or skeleton(name.name) != skeleton(other.name):
        return False
    return name.name != other.name or skeleton(name.namespace) == skeleton(other.namespace)


def _one_slip(one: str, two: str) -> bool:
    """Whether one typing slip makes `two` of `one` (Damerau-Levenshtein distance 1)."""
    if one == two or abs(len(one) - len(two)) > 1 or min(len(one), len(two)) < SHORTEST_SLIP:
        return False
    start = next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    rest_one, rest_two = one[start:], two[start:]
    swapped = rest_one[:2] == rest_two[1::-1] and len(rest_two) > 1 and rest_one[2:] == rest_two[2:]
    changed = rest_one[1:] == rest_two[1:]
    return swapped or changed or rest_one[1:] == rest_two or rest_one == rest_two[1:]
