"""Showing what will run, whole and as it is: nothing hides, nothing passes for a line of Pegboard's own.

`text.clean` takes away what does not show, which suits a tool's answer. Somebody who is asked for a yes must see that
it is there: here such a character is named in its place, and every line of a stranger's stands behind a bar.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from pegboard.core.text import BLANK, HIDING, MARKS, MOST_MARKS, mixed_in

BAR, GOES_ON = "| ", "> "
"""Before a line of the text, and before the rest of one that is wider than the terminal."""

MOST_SPACES = 24
MOST_EMPTY = 3
"""Spaces, and lines, in a row that say nothing: more of them push what follows out of sight, and are counted."""

NARROWEST = 20

_SPACES = re.compile(rf"(?: |\\[ntr]){{{MOST_SPACES + 1},}}")
"""Spaces; in JSON also line ends and tabs, as they are written there."""

_LAYOUT = str.maketrans("\n\t", "  ")
_VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "number"),
    (float, "number"),
    (str, "text"),
    (list, "list"),
    (dict, "object"),
)


def visible(text: str) -> str:
    """`text` with a name in place of each character that shows nothing or moves what is beside it, on one line."""
    named: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in MARKS else 0
        named.append(_name(character) if _hides(character, category) or marks > MOST_MARKS else character)
    return "".join(named)


def block(text: str, indent: str = "") -> Iterator[str]:
    """The lines of a text of several, each behind a bar and none wider than the terminal."""
    width = _width() - len(indent) - len(BAR)
    lines = text.replace("\r\n", "\n").split("\n")
    for empty, group in groupby(lines, key=lambda line: not line.strip(" \t")):
        if empty:
            count = len(list(group))
            yield from [f"{indent}{BAR}({count:,} empty lines)"] if count > MOST_EMPTY else [f"{indent}|"] * count
            continue
        for line in group:
            shown = _SPACES.sub(_counted, visible(line.expandtabs(4)))
            first, *rest = _pieces(shown, width)
            yield f"{indent}{BAR}{first}"
            yield from (f"{indent}{GOES_ON}{piece}" for piece in rest)


def fact(label: str, value: str, width: int) -> Iterator[str]:
    """A label of so many columns and its value. What does not fit goes on beneath it, never at a line's beginning."""
    first, *rest = _pieces(visible(value), max(_width() - width, NARROWEST))
    yield f"{label:<{width}}{first}"
    yield from (f"{GOES_ON:>{width}}{piece}" for piece in rest)


def arguments(given: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Every argument in full: its name, what it is, and its value."""
    for name, value in given.items():
        yield f"{indent}{visible(name)} ({_kind(value)})"
        yield from block(value if isinstance(value, str) else _json(value), indent + "  ")
    for note in notes(given):
        yield f"{indent}Look closely: {note}"


def notes(given: Mapping[str, Any]) -> Iterator[str]:
    """What a reader could miss, in words: characters that do not show, and letters that pass for others."""
    texts = list(_texts(given))
    plain = [text.translate(_LAYOUT) for text in texts]
    if any(visible(text) != text for text in plain):
        yield "some characters do not show, or move others; they are named as <U+…>."
    alike = [found for text in texts if (found := mixed_in(text))]
    yield from (f"it {visible(each.partition(':')[0])}." for each in alike[:3])


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, each in value.items():
                yield str(key)
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)


def _counted(spaces: re.Match[str]) -> str:
    count = len(spaces[0].replace("\\", ""))
    return f"({count:,} spaces)"


def _hides(character: str, category: str) -> bool:
    if character == " ":
        return False
    return category in HIDING or category == "Zs" or character in BLANK or bool(_VARIANTS.match(character))


def _name(character: str) -> str:
    return f"<U+{ord(character):04X}>"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    kind = next((word for type_, word in _TYPES if isinstance(value, type_)), "value")
    match value:
        case str():
            lines = value.count("\n") + 1
            return f"{kind}, {len(value):,} characters" + (f" in {lines:,} lines" if lines > 1 else "")
        case list() | dict():
            return f"{kind} of {len(value):,}"
        case _:
            return kind


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _pieces(text: str, width: int) -> list[str]:
    """A line cut to the terminal's width, behind a blank where its second half has one; nothing is left out."""
    if len(text) * 2 <= width:
        return [text]
    pieces, at, used = [], 0, 0
    for place, character in enumerate(text):
        columns = _columns(character)
        if used + columns > width:
            blank = text.rfind(" ", at, place) + 1
            cut = blank if blank - at > width // 2 else place
            pieces.append(text[at:cut])
            at, used = cut, _columns(text[cut:place])
        used += columns
    return [*pieces, text[at:]]


def _columns(text: str) -> int:
    """How wide it is; a wide letter counts as two columns (UAX #11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _width() -> int:
    """Columns of the terminal; what goes to a file or a pipe is not cut."""
    return max(NARROWEST, shutil.get_terminal_size().columns - 1) if sys.stdout.isatty() else sys.maxsize
