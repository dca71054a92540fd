"""Changing a member of an object in JSON text while every other character stays as it is.

The text may have comments and trailing commas, as VS Code, Zed and others write them. Both are overwritten with
blanks of the same length, so what is left is JSON in which everything stands where it stood: the standard library's
parser reads it, names the place of a fault, and finds where each member begins and ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pegboard.cli.connect.errors import Unreadable

_TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\r\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMAS = re.compile(r'"(?:[^"\\\n]|\\.)*"|,(?=\s*[}\]])')
_BLANK = re.compile(r"\s*")
_VALUES = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object: its name, and where in the text it and its value stand."""

    name: str
    start: int
    value: int
    end: int


def read(text: str) -> dict[str, Any]:
    """The object that `text` is; one without any text is empty.

    Raises:
        Unreadable: it is not JSON even with comments and trailing commas, or not an object.
    """
    try:
        value = json.loads(_plain(text)) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise Unreadable(error.msg, error.lineno, error.colno) from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise Unreadable("it is not a JSON object", 1, 1)
    return value


def with_member(text: str, path: Sequence[str], name: str, value: Mapping[str, Any]) -> str:
    """`text` with the member `name` of the object at `path` set to `value`; objects that are missing are made.

    A member that is there keeps its place, and the members of it that `value` does not have.
    """
    if not text.strip():
        text = "{}" + _newline(text)
    for depth, key in enumerate(path):
        outer = _object_at(text, path[:depth])
        if _find(text, outer, key) is None:
            nested: Any = {name: value}
            for inner in reversed(path[depth + 1 :]):
                nested = {inner: nested}
            return _appended(text, outer, key, nested)
    where = _object_at(text, path)
    found = _find(text, where, name)
    if found is None:
        return _appended(text, where, name, value)
    for key, each in value.items():
        where = _object_at(text, [*path, name])
        old = _find(text, where, key)
        if old is None:
            text = _appended(text, where, key, each)
        elif json.loads(_plain(text)[old.value : old.end]) != each:
            text = text[: old.value] + json.dumps(each, ensure_ascii=False) + text[old.end :]
    return text


def without_member(text: str, path: Sequence[str], name: str) -> str:
    """`text` without the member `name` of the object at `path`; what comments say beside it stays."""
    plain, where = _plain(text), _object_at(text, path)
    members = list(_members(plain, where))
    place = max(index for index, member in enumerate(members) if member.name == name)
    gone = members[place]
    begin = len(text[: gone.start].rstrip())
    comma = _comma_after(text, gone.end)
    if comma is not None:
        rest = text[gone.end : comma] + text[comma + 1 :]
        return _tidied(text[:begin] + rest, where)
    before = _comma_after(text, members[place - 1].end) if place else None
    head = text[:begin] if before is None else text[:before] + text[before + 1 : begin]
    return _tidied(head + text[gone.end :], where)


@lru_cache(maxsize=2)
def _plain(text: str) -> str:
    """`text` as JSON: comments and trailing commas blanked, each character where it was."""
    text = _TRAILING_COMMAS.sub(lambda found: found[0] if found[0] != "," else " ", _uncommented(text))
    return " " + text[1:] if text.startswith("\ufeff") else text


@lru_cache(maxsize=2)
def _uncommented(text: str) -> str:
    return _TOKENS.sub(
        lambda found: found[0] if found[0].startswith('"') else re.sub(r"[^\r\n]", " ", found[0]), text
    )


def _object_at(text: str, path: Sequence[str]) -> int:
    """Where the object at `path` begins.

    Raises:
        Unreadable: what stands there is no object.
    """
    plain = _plain(text)
    at = _skip(plain, 0)
    for key in path:
        found = _find(text, at, key)
        at = found.value if found else at
        if plain[at] != "{":
            line, column = plain.count("\n", 0, at) + 1, at - plain.rfind("\n", 0, at)
            raise Unreadable(f"{key} is not an object", line, column)
    return at


def _find(text: str, where: int, name: str) -> Member | None:
    """The member of the object at `where` that counts: the last of that name, as parsers have it."""
    return next((each for each in reversed(list(_members(_plain(text), where))) if each.name == name), None)


def _members(plain: str, where: int) -> Iterator[Member]:
    at = _skip(plain, where + 1)
    while plain[at] != "}":
        start = at
        name, at = _VALUES.raw_decode(plain, at)
        value = _skip(plain, _skip(plain, at) + 1)
        _, end = _VALUES.raw_decode(plain, value)
        yield Member(name, start, value, end)
        at = _skip(plain, end)
        at = _skip(plain, at + 1) if plain[at] == "," else at


def _skip(plain: str, at: int) -> int:
    found = _BLANK.match(plain, at)
    return found.end() if found else at


def _comma_after(text: str, at: int) -> int | None:
    """Where the comma stands that follows the member ending at `at`, a trailing one too; None without one."""
    at = _skip(_uncommented(text), at)
    return at if _uncommented(text)[at : at + 1] == "," else None


def _appended(text: str, where: int, name: str, value: Any) -> str:
    """`text` with a member more at the end of the object at `where`, written as its neighbours are."""
    plain = _plain(text)
    members = list(_members(plain, where))
    close = _skip(plain, members[-1].end if members else where + 1)
    last = len(text[:close].rstrip())  # a comment after the last member stays with it
    trailing = bool(members) and _comma_after(text, members[-1].end) is not None
    head = text[:last] if trailing or not members else f"{text[: members[-1].end]},{text[members[-1].end : last]}"
    if members and "\n" not in text[where:close]:
        addition = f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        return head + addition + "," * trailing + text[last:]
    newline, unit, outer = _newline(text), _unit(text), _indent(text, where)
    inner = _indent(text, members[0].start) if members and _begins_line(text, members[0].start) else outer + unit
    written = json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", newline + inner)
    addition = f"{newline}{inner}{json.dumps(name)}: {written}" + "," * trailing
    tail = text[last:] if "\n" in text[last:close] else newline + outer + text[close:]
    return head + addition + tail


def _tidied(text: str, where: int) -> str:
    """`text`, with the object at `where` closed up if nothing is left in it."""
    rest = text[where + 1 :].lstrip()
    return text[: where + 1] + rest if rest.startswith("}") else text


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _unit(text: str) -> str:
    """One step of indentation, as the file's first indented line has it."""
    found = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return "  " if found is None else "\t" if found[1].startswith("\t") else found[1]


def _indent(text: str, at: int) -> str:
    """The indentation of the line that `at` is in."""
    line = text[text.rfind("\n", 0, at) + 1 : at + 1]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _begins_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()
