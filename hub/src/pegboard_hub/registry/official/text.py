"""Authors' text for readers whom nobody knows: one line, nothing that hides or reorders, never cut."""

from __future__ import annotations

import unicodedata

LONGEST = 100
"""Characters of a description and of a title (`server.json` of 2025-12-11)."""


def plain(text: str) -> str:
    """`text` on one line, without control, format (bidirectional, zero-width), private and unassigned characters.

    Line and paragraph separators and line breaks become a space, as words would run together without.
    """
    if not text.isprintable():  # which most are, and then nothing is to be taken out
        text = "".join(_kept(character) for character in text)
    return " ".join(text.split())


def _kept(character: str) -> str:
    if character.isspace() or unicodedata.category(character) in ("Zl", "Zp"):
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


def first_that_fits(*texts: str | None) -> str:
    """The first of them that says something in no more than `LONGEST` characters; a cut one could say another."""
    cleaned = (plain(text) for text in texts if text)
    return next((text for text in cleaned if 0 < len(text) <= LONGEST), "")
