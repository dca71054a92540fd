"""Adding a table to TOML text and taking it out again while every other character stays as it is.

Tables of their own can stand anywhere in TOML, so ours go to the end and are found again by their headings. That the
result says what it should and nothing else is for `file.py` to check, with the standard library's parser.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from pegboard.cli.connect.errors import Unreadable

_HEADING = re.compile(r"^[ \t]*\[", re.MULTILINE)


def read(text: str) -> dict[str, Any]:
    """The document that `text` is.

    Raises:
        Unreadable: it is not TOML; until Python 3.14 the parser has the place of the fault in its words only.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"{error}") from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error


def with_table(text: str, entries: str, name: str, value: Mapping[str, str]) -> str:
    """`text` with the table `entries.name` at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text.strip() else newline if text.endswith("\n") else newline * 2
    # A JSON string is a TOML one too, but for DEL (TOML 1.0, strings); no address has that.
    lines = [f"[{entries}.{name}]", *(f"{key} = {json.dumps(each)}" for key, each in value.items())]
    return text + gap + "".join(line + newline for line in lines)


def without_table(text: str, entries: str, name: str) -> str:
    """`text` without the table `entries.name` and those inside it; comments that follow them stay."""
    key = rf'(?:{re.escape(name)}|"{re.escape(name)}"|\'{re.escape(name)}\')'
    ours = re.compile(rf"^[ \t]*\[[ \t]*{entries}[ \t]*\.[ \t]*{key}[ \t]*(?:\.[^\]\n]*)?\][^\n]*", re.MULTILINE)
    while found := ours.search(text):
        following = _HEADING.search(text, found.end())
        end = following.start() if following else len(text)
        lines = text[found.start() : end].splitlines(keepends=True)
        while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            lines.pop()
        start, stop = found.start(), found.start() + sum(map(len, lines))
        head, rest = re.sub(r"(\r?\n)\r?\n\Z", r"\1", text[:start]), text[stop:]
        text = head + rest if head else rest.lstrip("\r\n")
    return text
