"""Names that strangers give themselves, held against our own."""

from __future__ import annotations

import re
import unicodedata

_LIKE = {
    "p": "pрρþ",
    "e": "eеєε3",
    "g": "gɡԍq9",
    "b": "bьвßƅ86",
    "o": "oоοσ0",
    "a": "aаαɑ4@",
    "r": "rгr",
    "d": "dԁɗ",
}
"""Letters of our name, and what passes for each at a glance: Cyrillic, Greek, digits (the likely ones of UTS 39)."""

_OURS = re.compile(r"[^a-z0-9]*".join(f"[{re.escape(_LIKE[letter])}]" for letter in "pegboard"))


def poses_as_us(name: str) -> bool:
    """Whether a name reads like Pegboard's: in other letters, in wide or marked ones, or with something between."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    seen = "".join(each for each in plain if unicodedata.category(each) not in ("Mn", "Me", "Cf", "Cc"))
    return _OURS.search(unicodedata.normalize("NFKC", seen)) is not None
