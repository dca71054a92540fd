"""Hints (MCP's tool annotations), held to what a tool declares beside them and to what its name says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import ToolDeclaration

_DESTROYS = "clear delete destroy drop erase kill overwrite prune purge remove reset revoke terminate truncate wipe"
_CHANGES = """
append apply approve archive assign cancel close create deploy disable edit enable grant insert invite merge modify
move pay publish rename replace restart restore rollback send set start stop submit trigger uninstall update upload
upsert write
"""

DESTROYS: Final = frozenset(_DESTROYS.split())
CHANGES: Final = frozenset(_CHANGES.split())
"""Verbs that a tool's name may begin with. Words that are nouns as often (`book`, `commit`, `post`), and those of
tools that read (`run_query`, `add_numbers`), are none of them."""

_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def findings(subject: Subject) -> Iterator[Finding]:
    """Hints that contradict something."""
    for tool in subject.declaration.tools:
        place = subject.place_of(tool.name)
        named = f"tool {tool.name!r}"
        verb = first_word(tool.name)
        if tool.read_only and tool.destructive:
            yield RULES["PB220"].at(place, f"{named} says that it only reads, and that it destroys")
        if tool.read_only and tool.idempotent is False:
            yield RULES["PB220"].at(
                place, f"{named} says that it only reads, and that calling it again changes something more"
            )
        if tool.read_only and verb in DESTROYS | CHANGES:
            what = f"{named} says that it only reads, and its name begins with {verb!r}"
            yield RULES["PB221"].at(place, what, severity=None if verb in DESTROYS else Severity.WARNING)
        if tool.read_only and tool.confirmation:
            yield RULES["PB225"].at(place, f"{named} says that it only reads, and asks for a confirmation")
        if not tool.read_only and tool.destructive is False and verb in DESTROYS:
            yield RULES["PB222"].at(
                place, f"{named} says that it destroys nothing, and its name begins with {verb!r}"
            )
        yield from _silent(tool, place)


def _silent(tool: ToolDeclaration, place: str) -> Iterator[Finding]:
    if not tool.read_only and tool.destructive is None:
        what = f"tool {tool.name!r} is not read-only and does not say whether it destroys anything"
        yield RULES["PB223"].at(place, what)
    if tool.destructive and not tool.read_only and tool.approval is None and tool.confirmation is None:
        what = f"tool {tool.name!r} is destructive (destructive_hint) and asks nobody"
        yield RULES["PB224"].at(place, what, "Let it ask: @confirm(…), or @requires_approval(…).")


def first_word(name: str) -> str:
    """The first word of a tool's name, in lower case: of `delete_row`, `deleteRow` and `delete-row` alike."""
    found = _PARTS.search(name)
    return found[0].casefold() if found else ""
