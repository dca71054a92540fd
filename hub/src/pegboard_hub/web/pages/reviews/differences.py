"""What differs of a server, line by line, for whoever reviews it. An author's text in it is a stranger's: it is shown
so that nothing hides in it, and never taken for ours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

from pegboard_hub.identity.clients.names import shown
from pegboard_hub.registry.reviews.model import Difference

MOST_LINES = 400
"""Lines of one part that a page shows."""

MOST_COMPARED = 1000
"""Lines of one part that are compared."""

MOST_ALIKE = 20_000
"""Pairs of equal lines in one part. Comparing takes time with their square; where there are more, frequent lines are
no landmarks, and a short part is shown as a whole."""

SHORT = 200
"""Lines below which `SequenceMatcher` leaves no frequent line out."""

LONGEST_LINE = 1000
AROUND = 3
"""Unchanged lines that are shown around changed ones, but for lists."""

_STANDINGS = {(True, False): "new", (False, True): "gone", (False, False): "changed"}


class Line(NamedTuple):
    """One line: added, removed, the same in both, or a gap where lines are left out."""

    mark: Literal["added", "removed", "same", "gap"]
    text: str


class Part(NamedTuple):
    """One field of what differs; `more` lines of it are not shown. `listed` where its lines are single values."""

    label: str
    lines: tuple[Line, ...]
    more: int
    listed: bool


class Shown(NamedTuple):
    """One thing that differs."""

    title: str
    standing: str
    parts: tuple[Part, ...]


def differing(changes: Iterable[Difference]) -> tuple[Shown, ...]:
    """What differs, as a page shows it."""
    # What is empty and was not there before differs in nothing that one could read.
    return tuple(found for found in map(_shown, changes) if any(part.lines for part in found.parts))


def lines_of(value: Any) -> list[str]:
    """A value as lines that can be compared and read."""
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    if _is_list(value):
        return list(value)
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _shown(change: Difference) -> Shown:
    before, after = change.before, change.after
    # Of what is listed, none is as good as nothing.
    standing = _STANDINGS.get((before in (None, []), after in (None, [])), "changed")
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        return Shown(shown(change.what), standing, tuple(_fields(before or {}, after or {})))
    return Shown(shown(change.what), standing, (_part("", before, after),))


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Part]:
    for name in [*after, *(name for name in before if name not in after)]:
        was, now = before.get(name), after.get(name)
        if was != now and (was or now):
            yield _part(shown(name.replace("_", " ")), was, now)


def _part(label: str, before: Any, after: Any) -> Part:
    was, now = lines_of(before), lines_of(after)
    # A list is read whole: a group that is left out of it would look like one that is not there.
    listed = _is_list(before) or _is_list(after)
    around = MOST_COMPARED if listed else AROUND
    compared = _compared(was[:MOST_COMPARED], now[:MOST_COMPARED], around)
    lines = [Line(line.mark, shown(_short(line.text))) for line in compared]
    left_out = sum(max(0, len(each) - MOST_COMPARED) for each in (was, now))
    return Part(label, tuple(lines[:MOST_LINES]), max(0, len(lines) - MOST_LINES) + left_out, listed)


def _compared(was: list[str], now: list[str], around: int) -> Iterator[Line]:
    often, counts = Counter(was), Counter(now)
    alike = sum(count * counts[line] for line, count in often.items()) > MOST_ALIKE
    if alike and len(now) < SHORT:
        yield from (Line("removed", text) for text in was)
        yield from (Line("added", text) for text in now)
        return
    groups = SequenceMatcher(None, was, now, autojunk=alike).get_grouped_opcodes(around)
    for at, group in enumerate(groups):
        if at:
            yield Line("gap", "")
        for what, was_from, was_to, now_from, now_to in group:
            if what == "equal":
                yield from (Line("same", text) for text in now[now_from:now_to])
                continue
            yield from (Line("removed", text) for text in was[was_from:was_to])
            yield from (Line("added", text) for text in now[now_from:now_to])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}… ({len(text)} characters)"
