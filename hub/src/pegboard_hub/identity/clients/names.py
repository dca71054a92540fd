"""Names that clients give themselves: cleaned before they are kept, and shown so that nothing hides in them."""

from __future__ import annotations

import unicodedata

from pegboard.core.text import BLANK, HIDING, MARKS, hides_as_selector

LONGEST_NAME = 100
"""Characters of a name that are kept; a longer one fills a page with words of its own."""

UNNAMED = "A client without a name"

MOST_MARKS = 2
"""Marks on one letter that are shown; more of them run over the lines above and below."""


def cleaned(name: object) -> str:
    """A name as it is kept: one line, no controls, at most `LONGEST_NAME` characters; `UNNAMED` for none."""
    text = name if isinstance(name, str) else ""
    # Lone surrogates can come out of JSON's escapes; no database takes them.
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    return " ".join(text.split())[:LONGEST_NAME].rstrip() or UNNAMED


def shown(text: str) -> str:
    """Text of a stranger for a page or a terminal: what is invisible or turns the direction of reading is written as
    its code point, as `‹U+202E›`. Escaping for HTML is still the template's."""
    return "".join(_visible(character, text, at) for at, character in enumerate(text))


def _visible(character: str, text: str, at: int) -> str:
    category = unicodedata.category(character)
    blank = character in BLANK or (category == "Zs" and character != " ") or hides_as_selector(text, at)
    if category in HIDING or blank or (category in MARKS and _is_piled(text, at)):
        return f"‹U+{ord(character):04X}›"
    return character


def _is_piled(text: str, at: int) -> bool:
    """Whether the mark at `at` comes after as many marks as one letter may have, or after no letter."""
    marks = 0
    # No further back than it matters: a text may be marks alone, and long.
    while marks < MOST_MARKS and marks < at and unicodedata.category(text[at - marks - 1]) in MARKS:
        marks += 1
    return marks >= MOST_MARKS or at - marks == 0
