"""The manifest: what is declared within bounds, and by its author rather than by a template."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.declared import declaration_problems
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding

_LEFT_OVER = re.compile(r"\b(todo|tbd|fixme|xxx|lorem ipsum|change ?me|describe (me|this|it))\b", re.IGNORECASE)

_TOOL = re.compile(r"tools? '([^']+)'")


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with the manifest, and with the declaration as a whole."""
    manifest = subject.declaration.manifest
    for problem in declaration_problems(subject.declaration):
        if "invisible character" in problem or "marks on the letter" in problem:
            continue  # `poisoning` says it of every text
        named = _TOOL.match(problem)
        yield RULES["PB103"].at(subject.place_of(named[1]) if named else FILE_NAME, problem)
    texts = {"title": manifest.title or "", "description": manifest.description}
    for field, text in texts.items():
        if found := _LEFT_OVER.search(text):
            yield RULES["PB106"].at(FILE_NAME, f"{field} says {found[0]!r}")
    for tool in subject.declaration.tools:
        if found := _LEFT_OVER.search(tool.description):
            yield RULES["PB106"].at(subject.place_of(tool.name), f"tool {tool.name!r}: description says {found[0]!r}")
    asked = manifest.requests
    if not asked.business_groups and not asked.services:
        yield RULES["PB107"].at(FILE_NAME, "it asks for no business group and for no service")
