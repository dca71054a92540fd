"""Text of a stranger: what hides in it, and what reads alike. Authors' titles and descriptions are such text.

HTML is no fault here: pages write it as it is (their templates escape it), and models read it as any other text.
What nobody can see is a fault: it says something else to a model than to the person who approved it.
"""

from __future__ import annotations

import unicodedata

HIDING = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories that show nothing, or change how what is beside them shows: controls, formats, bidirectional
overrides, unassigned and private characters, lone surrogates, separators of lines."""

BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\U0001d159")
"""Letters, marks and symbols that look like a space or like nothing (Unicode's `Default_Ignorable_Code_Point`)."""

MARKS = ("Mn", "Me")
MOST_MARKS = 4
"""Marks in a row on one letter: Vietnamese and Hebrew need up to four, more of them cover the lines around."""

_REFUSED = HIDING - {"Cn"}
"""Whether a character is assigned depends on the Python that asks, and author and hub may have different ones."""

_JOINERS = frozenset("\u200c\u200d")
"""They shape Persian and Indic words and join emoji; beside ASCII they only hide."""

_LAYOUT = frozenset("\n\t\r")
_NO_LAYOUT = str.maketrans("", "", "\n\t\r")


def sentence(text: str) -> str:
    """A fault as a sentence of its own, with a capital and a full stop; a name at its beginning stays as it is."""
    first = text.partition(" ")[0]
    begun = text if "/" in first else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "?", "!")) else f"{begun}."


def hidden_in(text: str, *, lines: bool = False) -> str:
    """What nobody would see in `text`, in words that follow a field's name; empty where all of it shows.

    Args:
        text: of a stranger; it may hold lone surrogates.
        lines: whether line ends and tabs belong into it.
    """
    if text.isascii() and (text.translate(_NO_LAYOUT) if lines else text).isprintable():
        return ""
    marks = 0
    for at, character in enumerate(text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in MARKS else 0
        if lines and character in _LAYOUT:
            continue
        if _hides(character, category, text, at):
            return f"has the invisible character U+{ord(character):04X} at position {at + 1}: leave it out"
        if marks > MOST_MARKS:
            return f"has more than {MOST_MARKS} marks on the letter before position {at + 1}: write it plainly"
    return ""


def _hides(character: str, category: str, text: str, at: int) -> bool:
    if character in _JOINERS:
        beside = text[at - 1 : at] + text[at + 1 : at + 2] if at else ""
        return len(beside) < 2 or any(each.isascii() or unicodedata.category(each) in _REFUSED for each in beside)
    if "\ufe00" <= character <= "\ufe0f" and at:  # how an emoji is drawn; a row of them spells bytes
        return unicodedata.category(text[at - 1]) in MARKS
    return category in _REFUSED or character in BLANK or _selects_variant(character) or _is_space(character, category)


def hides_as_selector(text: str, at: int) -> bool:
    """Whether what is at `at` selects a variant, and does not only draw the symbol before it as an emoji."""
    if not _selects_variant(text[at]):
        return False
    return text[at] != "\ufe0f" or at == 0 or unicodedata.category(text[at - 1]) != "So"


def _selects_variant(character: str) -> bool:
    """Variation selectors spell any text in bytes that show nothing."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def _is_space(character: str, category: str) -> bool:
    return category == "Zs" and character not in " \u00a0\u202f\u3000"


_LATIN_TWINS = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХԌԚԜаеѕіјорсухԁԛԝһѵӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧονϲϳıɑɡ",
        "ABESIJKMHOPCTYXGQWaesijopcyxdqwhvlABEZHIKMNOPTYXovcjiag",
        strict=True,
    )
)
"""Letters of other scripts that look like a Latin one (of Unicode's confusables, UTS #39, those of common fonts)."""

_SAME_LOOK = str.maketrans({"0": "o", "1": "l", "5": "s", "8": "b", "I": "l", "|": "l"})
_SEPARATORS = str.maketrans("", "", " -_.\u00a0")
_ONE_FOR_TWO = (("rn", "m"), ("vv", "w"))


def skeleton(text: str) -> str:
    """What `text` looks like at a glance: two texts with one skeleton are mistaken for each other."""
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text)
        text = "".join(_LATIN_TWINS.get(character, character) for character in plain)
    flat = text.translate(_SAME_LOOK).casefold().translate(_SEPARATORS)
    for two, one in _ONE_FOR_TWO:
        flat = flat.replace(two, one)
    return flat


def latin_twin(character: str) -> str:
    """The Latin letter that a letter of another script looks like; empty where it looks like none."""
    return _LATIN_TWINS.get(character, "")


def mixed_in(text: str) -> str:
    """A letter of another script that passes for a Latin one within a Latin word, in words; empty without one."""
    for word in text.split():
        if any("a" <= character <= "z" for character in word.lower()):
            for character in word:
                if character in _LATIN_TWINS:
                    name = unicodedata.name(character, f"U+{ord(character):04X}").lower()
                    return f"writes {word!r} with {name} in place of {_LATIN_TWINS[character]!r}: use one alphabet"
    return ""


def plain(text: str) -> str:
    """Text of a stranger for one line of ours: what hides in it, or would end the line, is written as its number."""
    if text.isascii() and text.isprintable():
        return text
    marks, shown = 0, []
    for at, character in enumerate(text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in MARKS else 0
        hides = _hides(character, category, text, at) or marks > MOST_MARKS
        shown.append(f"\\u{{{ord(character):X}}}" if hides else character)
    return "".join(shown)
