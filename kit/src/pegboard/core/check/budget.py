"""What a server's tools cost in the context of the model that has them.

An estimate, and said to be one: each vendor counts by a vocabulary of its own, and some publish none. What is counted
is what a client hands to a model, each tool's name, description and input schema as JSON without blanks; clients wrap
it differently. The text is cut as the vocabularies cut it before they merge (words, numbers of three digits at most,
runs of signs), and each piece counts by its length. The two lengths were fitted to the
117 tools of GitHub's server, and held against 400 of AWS's (November 2026; the vocabularies o200k, cl100k, Llama 3's
and Claude 2's): the sum was 1 % below to 9 % above what those count, a single tool 23 % below to 20 % above.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pegboard.core.check.model import Subject, ToolTokens
from pegboard.core.check.rules import RULES
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import Declaration, ToolDeclaration

MOST_OF_TOOL = 1_500
"""Tokens of one tool, beyond which it is named."""

INSTRUCTIONS = "(instructions)"
"""What stands for a server's instructions in a list of tools: no tool can have that name."""

_PIECE = re.compile(r" ?[A-Za-z]+|\d{1,3}|[^\S\n]+|\n+|[^\x00-\x7f]+| ?[!-/:-@\[-`{-~]+")
_LETTERS = 10
"""Words of up to so many letters, and runs of up to so many signs (`":{"`), count as one token."""

_SIGNS = 5


def findings(subject: Subject) -> Iterator[Finding]:
    """A list that is long, and the tools that make it so."""
    listed = costs(subject.declaration)
    total = sum(each.tokens for each in listed)
    allowed = subject.allowed
    over = allowed.refuse_tokens is not None and total > allowed.refuse_tokens
    if over or total > allowed.most_tokens:
        most = allowed.refuse_tokens if over else allowed.most_tokens
        named = ", ".join(f"{each.tool} ({each.tokens:,})" for each in listed[:3])
        what = f"the {len(listed)} tools take about {total:,} tokens, {most:,} are the most; the costliest: {named}"
        yield RULES["PB208"].at(FILE_NAME, what, severity=Severity.ERROR if over else None)
    for each in listed:
        if each.tokens > MOST_OF_TOOL and each.tool != INSTRUCTIONS:
            what = f"tool {each.tool!r} takes about {each.tokens:,} tokens, {MOST_OF_TOOL:,} are many"
            yield RULES["PB209"].at(subject.place_of(each.tool), what)


def costs(declaration: Declaration) -> tuple[ToolTokens, ...]:
    """About how many tokens each tool takes, the costliest first, with the server's instructions among them."""
    listed = [ToolTokens(tool=tool.name, tokens=estimate(as_listed(tool))) for tool in declaration.tools]
    if declaration.instructions:
        listed.append(ToolTokens(tool=INSTRUCTIONS, tokens=estimate(declaration.instructions)))
    return tuple(sorted(listed, key=lambda each: (-each.tokens, each.tool)))


def as_listed(tool: ToolDeclaration) -> str:
    """A tool as a model reads it."""
    said = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False, default=str)


def estimate(text: str) -> int:
    """About how many tokens a text takes."""
    return sum(_of_piece(piece) for piece in _PIECE.findall(text))


def _of_piece(piece: str) -> int:
    if not piece.isascii():
        return max(1, round(len(piece.encode("utf-8", "surrogatepass")) / 3))
    word = piece.strip()
    if word.isalpha():
        return -(-len(word) // _LETTERS)
    return 1 if not word or word.isdigit() else -(-len(word) // _SIGNS)
