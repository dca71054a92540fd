"""A stranger's text so that an approver sees all of it: what hides is written out, what passes for something else is
marked, and what is long is folded with its size said. Nothing is left out, and nothing is taken for markup.

The text may be an agent's that somebody talked into it. It must not make a page say something else than what runs:
by characters that nobody sees or that turn the direction of reading, by letters that look like others, by blanks or
lines without end, by a length that pushes the point out of sight.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from markupsafe import Markup, escape
from pygments.lexer import Lexer
from pygments.lexers.data import JsonLexer
from pygments.lexers.sql import SqlLexer
from pygments.token import Token

from pegboard.core.text import BLANK, HIDING, MARKS, hides_as_selector, latin_twin

Kind = Literal["text", "sql", "diff", "json"]

OPEN_LINES = 25
OPEN_CHARACTERS = 1600
"""What of a text stands unfolded."""

MOST_COLOURED = 20_000
"""Characters whose syntax is coloured: what follows is shown just the same, in one colour."""

MOST_BLANKS = 12
"""Blanks in a row within a line; more are written as their number."""

MOST_INDENT = 40
"""Blanks at the beginning of a line; more are written as their number."""

MOST_EMPTY = 3
"""Empty lines in a row; more are written as their number."""

MOST_MARKS = 2
"""Marks in a row on one letter; more run over the lines above and below."""

ODD = "odd"
"""The class of what stands for something that would not be seen, or passes for something else."""

_LEXERS: dict[str, Lexer] = {"sql": SqlLexer(), "json": JsonLexer()}

_CLASSES: tuple[tuple[Any, str], ...] = (
    (Token.Comment, "com"),
    (Token.Keyword, "key"),
    (Token.Name.Tag, "nam"),
    (Token.Name.Builtin, "key"),
    (Token.Literal.String, "str"),
    (Token.Literal.Number, "num"),
)
"""Syntax by colour. None is fainter than the text: what is a comment to us may run elsewhere (`/*! … */`)."""


class Piece(NamedTuple):
    """Some characters of a line, and the class that they are shown with."""

    style: str
    text: str


class Line(NamedTuple):
    """One line; a very long one goes on in a further `Line` of the same number.

    Attributes:
        number: in the text, from 1.
        mark: of a diff: `ins`, `del`, `hunk`; empty otherwise.
    """

    number: int
    mark: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """What is read."""
        return "".join([piece.text for piece in self.pieces])


@dataclass(frozen=True, slots=True)
class Strange:
    """A text as a page shows it.

    Attributes:
        open: its beginning.
        folded: all that follows, which the page has and folds away.
        lines: how many it has.
        characters: how many it has.
        notes: what an approver must know of it, each a sentence.
    """

    kind: Kind
    open: tuple[Line, ...]
    folded: tuple[Line, ...]
    lines: int
    characters: int
    notes: tuple[str, ...]

    @property
    def folded_lines(self) -> int:
        """Lines of which something is folded."""
        return self.lines - self.folded[0].number + 1 if self.folded else 0

    @property
    def short(self) -> bool:
        """Whether it is a single line that needs no number and no size beside it."""
        return not self.folded and not self.notes and self.lines == 1 and 0 < self.characters <= 60


class _Seen:
    """What was met in one text, for its notes."""

    def __init__(self) -> None:
        self.hidden = 0
        self.alike: dict[str, str] = {}
        self.leftward = False
        self.blanks = False
        self.empties = False

    def notes(self) -> Iterator[str]:
        if self.hidden:
            what = "character in it is" if self.hidden == 1 else "characters in it are"
            yield f"{self.hidden:,} invisible {what} written by code point."
        if self.alike:
            shown = ", ".join(list(self.alike.values())[:5])
            yield f"Letters in it pass for others: {shown}."
        if self.leftward:
            yield "Some of it is written from right to left."
        if self.blanks:
            yield "Long runs of blanks in it are written as their number."
        if self.empties:
            yield "Runs of empty lines in it are written as their number."


def strange(
    text: str, kind: Kind = "text", open_lines: int = OPEN_LINES, open_characters: int = OPEN_CHARACTERS
) -> Strange:
    """A stranger's text for a page. Escaping for HTML is still the template's.

    Args:
        text: of any length and content, lone surrogates among it.
        kind: what it is shown as.
        open_lines, open_characters: what of it stands unfolded.
    """
    seen = _Seen()
    lines = tuple(_lines(text, kind, seen))
    opened, folded = _cut(lines, open_lines, open_characters)
    return Strange(kind, opened, folded, text.count("\n") + 1, len(text), tuple(seen.notes()))


def one_line(text: str) -> tuple[Piece, ...]:
    """A short text of a stranger within a line of ours: a line end is written out as well."""
    seen = _Seen()
    return tuple(_merged(_Reading(text, seen).pieces(text, "", 0)))


def markup(lines: Iterable[Line]) -> Markup:
    """Lines as items of an HTML list. A template takes ten times as long, and there may be a hundred thousand."""
    return Markup("\n".join(map(_item, lines)))  # noqa: S704 - every text in it is escaped, and all else is ours


def _item(line: Line) -> str:
    mark = f' class="{line.mark}"' if line.mark else ""
    return f'<li value="{line.number}"{mark}><bdi>{"".join(map(_span, line.pieces))}</bdi></li>'


def _span(piece: Piece) -> str:
    text = escape(piece.text)
    if piece.style == ODD:
        return f'<mark class="odd">{text}</mark>'
    return f'<span class="{piece.style}">{text}</span>' if piece.style else f"<span>{text}</span>"


def notes_of(text: str) -> tuple[str, ...]:
    """What an approver must know of a short text."""
    return strange(text).notes


def _lines(text: str, kind: Kind, seen: _Seen) -> Iterator[Line]:
    """The lines; runs of empty ones as one that says how many."""
    reading = _Reading(text, seen)
    number, empty, at = 1, 0, 0
    pieces: list[Piece] = []
    for style, value in (*_tokens(text, kind), ("", "\n")):
        for place, part in enumerate(value.split("\n")):
            if place:
                if pieces:
                    yield from _emptied(number, empty, seen)
                    yield Line(number, _mark(kind, pieces), tuple(_merged(pieces)))
                pieces, empty = [], 0 if pieces else empty + 1
                number, at = number + 1, at + 1
            pieces += reading.pieces(part, style, at)
            at += len(part)
    yield from _emptied(number, empty, seen)


def _emptied(number: int, count: int, seen: _Seen) -> Iterator[Line]:
    """The `count` empty lines before line `number`."""
    if count > MOST_EMPTY:
        seen.empties = True
        yield Line(number - count, "", (Piece(ODD, f"‹{count:,} empty lines›"),))
        return
    for each in range(number - count, number):
        yield Line(each, "", ())


def _mark(kind: Kind, pieces: list[Piece]) -> str:
    if kind != "diff":
        return ""
    text = pieces[0].text
    return "hunk" if text.startswith("@@") else {"+": "ins", "-": "del"}.get(text[:1], "")


def _tokens(text: str, kind: Kind) -> Iterator[tuple[str, str]]:
    """The text in pieces of one syntax each: together they are the text, character by character."""
    lexer = _LEXERS.get(kind)
    if lexer is None:
        yield "", text
        return
    begun = text[:MOST_COLOURED]
    # `get_tokens` would strip, end lines otherwise and expand tabs.
    found = [(_class(token), value) for _, token, value in lexer.get_tokens_unprocessed(begun)]
    yield from found if "".join(value for _, value in found) == begun else [("", begun)]
    if len(text) > MOST_COLOURED:
        yield "", text[MOST_COLOURED:]


def _class(token: Any) -> str:
    return next((name for kind, name in _CLASSES if token in kind), "")


_RUNS = re.compile(rf"^ {{{MOST_INDENT + 1},}}|(?<![ \n]) {{{MOST_BLANKS + 1},}}", re.M)
"""Blanks that are too many: at the beginning of a line, and within one."""


class _Reading:
    """A text, read part by part from its beginning."""

    def __init__(self, text: str, seen: _Seen) -> None:
        self._text = text
        self._seen = seen
        self._odd = _alike_in(text, seen)
        self._runs = {run.start(): run.end() for run in _RUNS.finditer(text)}
        self._read = 0
        self._marks = 0

    def pieces(self, part: str, style: str, at: int) -> Iterator[Piece]:
        """Some of a line; `at` is where it stands in the text."""
        if not self._runs and not self._odd and part.isascii() and part.isprintable():
            self._marks = 0
            if part:
                yield Piece(style, part)
            return
        for place, character in enumerate(part, at):
            if place >= self._read:
                yield self._piece(place, character, style)

    def _piece(self, place: int, character: str, style: str) -> Piece:
        if place in self._runs:
            self._read, self._seen.blanks = self._runs[place], True
            return Piece(ODD, f"‹{self._read - place:,} blanks›")
        category = unicodedata.category(character)
        self._marks = self._marks + 1 if category in MARKS else 0
        if character == "\t":
            return Piece("tab", "→   ")
        hides = _hides(character, category) or hides_as_selector(self._text, place)
        if hides or self._marks > MOST_MARKS or (self._marks and not place):
            self._seen.hidden += 1
            return Piece(ODD, f"‹U+{ord(character):04X}›")
        if place in self._odd:
            return Piece(ODD, f"{character}‹U+{ord(character):04X}›")
        self._seen.leftward = self._seen.leftward or unicodedata.bidirectional(character) in ("R", "AL")
        return Piece(style, character)


def _hides(character: str, category: str) -> bool:
    return category in HIDING or character in BLANK or (category == "Zs" and character != " ")


def _merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours of one style as one piece."""
    style, texts = "", list[str]()
    for piece in pieces:
        if texts and piece.style != style:
            yield Piece(style, "".join(texts))
            texts = []
        style = piece.style
        texts.append(piece.text)
    if texts:
        yield Piece(style, "".join(texts))


def _cut(lines: tuple[Line, ...], most: int, left: int) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The beginning, and the rest; within a line where that is too long by itself."""
    for at, line in enumerate(lines):
        length = len(line.text)
        if at >= most:
            return lines[:at], lines[at:]
        if length > left:
            head, tail = _split(line, left)
            return (*lines[:at], head), (tail, *lines[at + 1 :])
        left -= length
    return lines, ()


def _split(line: Line, left: int) -> tuple[Line, Line]:
    head, tail = list[Piece](), list[Piece]()
    for piece in line.pieces:
        # What stands for a character is never cut in two.
        cut = min(left, len(piece.text)) if piece.style != ODD or left >= len(piece.text) else 0
        if tail:
            cut = 0
        if cut:
            head.append(Piece(piece.style, piece.text[:cut]))
        if piece.text[cut:]:
            tail.append(Piece(piece.style, piece.text[cut:]))
        left -= cut
    return Line(line.number, line.mark, tuple(head)), Line(line.number, line.mark, tuple(tail))


_WORD = re.compile(r"\w+")
LONG_WORD = 4
"""Letters from which on a word of twins of Latin letters alone is marked in a text of its own alphabet, too: few
words of any language are such ones."""


def _alike_in(text: str, seen: _Seen) -> frozenset[int]:
    """Where letters stand that pass for others: in a word of two alphabets, in a word of twins of Latin letters alone
    where nothing else is written in their alphabet, and letters of another width or weight."""
    if text.isascii():
        return frozenset()
    found: set[int] = set()
    native = _native_scripts(text)
    for word in _WORD.finditer(text):
        if word[0].isascii():
            continue
        latin = any(character.isascii() and character.isalpha() for character in word[0])
        foreign = latin or (len(word[0]) >= LONG_WORD and all(map(latin_twin, word[0])))
        for place, character in enumerate(word[0], word.start()):
            twin = _twin(character, foreign or _script(character) not in native)
            if twin:
                found.add(place)
                if len(seen.alike) <= 5:
                    seen.alike.setdefault(character, f"{_name(character)} for {twin!r}")
            elif latin and not character.isascii() and _script(character) in _MIXABLE:
                found.add(place)
                if len(seen.alike) <= 5:
                    seen.alike.setdefault(character, f"{_name(character)} within a Latin word")
    return frozenset(found)


def _twin(character: str, foreign: bool) -> str:
    """The ASCII letter or digit that a character passes for; empty where it passes for none."""
    if character.isascii():
        return ""
    if foreign and (twin := latin_twin(character)):
        return twin
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain != character and plain.isascii() and plain.isalnum() else ""


_MIXABLE = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})
"""Alphabets whose letters look like Latin ones, and which no one mixes with them within a word."""


def _native_scripts(text: str) -> frozenset[str]:
    """Of these alphabets those in which the text has a letter that looks like no Latin one: it is written in them."""
    return frozenset(
        script for each in set(text) if not each.isascii() and (script := _script(each)) and not latin_twin(each)
    )


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def _name(character: str) -> str:
    return unicodedata.name(character, f"U+{ord(character):04X}").lower()
