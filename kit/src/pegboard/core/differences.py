"""What differs between two declarations, as people read it: tools, policies and manifest, a change at a time.

A description is compared word by word, a policy line by line, a schema place by place, a list by its entries. Each
change says whether it opens something: what a reviewer looks at first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pegboard.core.manifest import Manifest
from pegboard.core.release import Declaration, ToolDeclaration

Kind = Literal["added", "removed", "changed"]

MOST_PAIRS: Final = 60_000
"""Pairs of equal words (or lines) of two texts that are compared one by one. Of texts with more, which are long or
made to be slow, the one is shown as gone and the other as new."""


class Part(BaseModel):
    """A piece of a changed text: words or lines that stayed, went, or came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Literal["same", "gone", "new"]
    text: str


class Change(BaseModel):
    """One change.

    Attributes:
        subject: what it is of: `tool run_query`, `policy granted`, `manifest`.
        field: of the subject, for example `description` or `input_schema/properties/sql/maxLength`; empty for a tool
            or a policy that came or went as a whole.
        before, after: as text; empty where there was, or is, nothing.
        parts: of a text that changed, in their order; empty for what is compared as a whole.
        unit: what the parts are.
        opens: it lets somebody do, reach or see more, or asks people less, or changes what models are told.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    field: str = ""
    kind: Kind
    before: str = ""
    after: str = ""
    parts: tuple[Part, ...] = ()
    unit: Literal["", "word", "line"] = ""
    opens: bool = False

    def lines(self) -> list[str]:
        """The change as lines of plain text, for a terminal: what went begins with `-`, what came with `+`."""
        return list(_lines(self))


def differences(before: Declaration | None, after: Declaration) -> tuple[Change, ...]:
    """What differs in `after` from `before`, both as they were read from JSON; everything where there was nothing."""
    told = _compared("instructions", "", before.instructions if before else "", after.instructions, "word")
    found = [
        *(change.model_copy(update={"opens": True}) for change in told),
        *_tools(before, after),
        *_policies(before, after),
        *_manifest(before, after),
    ]
    return tuple(found)


def _tools(before: Declaration | None, after: Declaration) -> Iterator[Change]:
    old = {tool.name: tool for tool in before.tools} if before else {}
    new = {tool.name: tool for tool in after.tools}
    for name in [*new, *(name for name in old if name not in new)]:
        subject = f"tool {name}"
        if name not in old:
            yield Change(subject=subject, kind="added", after=_summary(new[name]), opens=True)
        elif name not in new:
            yield Change(subject=subject, kind="removed", before=_summary(old[name]))
        else:
            yield from _tool(subject, old[name], new[name])


def _summary(tool: ToolDeclaration) -> str:
    """A whole tool in a few lines: what a reviewer asks first."""
    arguments = tool.input_schema.get("properties")
    named = ", ".join(arguments) if isinstance(arguments, dict) and arguments else "none"
    asks = (
        "; asks: " + (tool.confirmation or f"approval by {tool.approval.by}") if _asks(tool) and tool.approval else ""
    )
    return f"{tool.description.strip()}\npolicy {tool.policy}; {_hints(tool)}; arguments: {named}{asks}"


def _asks(tool: ToolDeclaration) -> bool:
    return tool.approval is not None or tool.confirmation is not None


def _hints(tool: ToolDeclaration) -> str:
    if tool.read_only:
        return "reads"
    return "destroys" if tool.destructive else "writes" if tool.destructive is False else "writes, may destroy"


class _Aspect(NamedTuple):
    """A field of a tool: how it is compared, and when a change of it opens something."""

    compare: Callable[[str, str, Any, Any], Iterator[Change]]
    opens: Callable[[Any, Any], bool]


def _whole(subject: str, field: str, before: Any, after: Any) -> Iterator[Change]:
    if before != after:
        yield Change(
            subject=subject, field=field, kind=_kind(before, after), before=_text(before), after=_text(after)
        )


def _words(subject: str, field: str, before: Any, after: Any) -> Iterator[Change]:
    yield from _compared(subject, field, before or "", after or "", "word")


def _place_by_place(subject: str, field: str, before: Any, after: Any) -> Iterator[Change]:
    old, new = dict(_leaves(before, field)), dict(_leaves(after, field))
    for place in [*new, *(place for place in old if place not in new)]:
        one, two = old.get(place), new.get(place)
        if one == two:
            continue
        if isinstance(one, str) and isinstance(two, str) and (" " in one or " " in two):
            yield from _compared(subject, place, one, two, "word")
        else:
            yield from _whole(subject, place, one, two)


_NOBODY: Final[Callable[[Any, Any], bool]] = lambda _before, _after: False  # noqa: E731 - a row of a table
_ALWAYS: Final[Callable[[Any, Any], bool]] = lambda _before, _after: True  # noqa: E731 - a row of a table

_TOOL: Final[dict[str, _Aspect]] = {
    "title": _Aspect(_words, _ALWAYS),
    "description": _Aspect(_words, _ALWAYS),
    "policy": _Aspect(_whole, _ALWAYS),
    "read_only": _Aspect(_whole, lambda _, after: bool(after)),
    "destructive": _Aspect(_whole, lambda before, after: before is not False and after is False),
    "idempotent": _Aspect(_whole, _NOBODY),
    "open_world": _Aspect(_whole, _NOBODY),
    "approval": _Aspect(_place_by_place, _ALWAYS),
    "confirmation": _Aspect(_words, lambda _, after: not after),
    "minutes_saved": _Aspect(_whole, _NOBODY),
    "input_schema": _Aspect(_place_by_place, _ALWAYS),
    "output_schema": _Aspect(_place_by_place, _NOBODY),
}
"""Every field of a tool but its name."""


def _tool(subject: str, before: ToolDeclaration, after: ToolDeclaration) -> Iterator[Change]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    for field, aspect in _TOOL.items():
        if old.get(field) != new.get(field):
            opens = aspect.opens(old.get(field), new.get(field))
            for change in aspect.compare(subject, field, old.get(field), new.get(field)):
                yield change.model_copy(update={"opens": opens})


def _policies(before: Declaration | None, after: Declaration) -> Iterator[Change]:
    old, new = dict(before.policies) if before else {}, dict(after.policies)
    for name in [*new, *(name for name in old if name not in new)]:
        for change in _compared(f"policy {name}", "", old.get(name, ""), new.get(name, ""), "line"):
            yield change.model_copy(update={"opens": name in new})


_OPENS_MORE: Final = ("egress", "secrets", "requests", "smoke", "proxy")
"""Parts of a manifest of which a new entry opens something."""


def _manifest(before: Declaration | None, after: Declaration) -> Iterator[Change]:
    old = before.manifest.model_dump(mode="json") if before else {}
    new = after.manifest.model_dump(mode="json") if before else _said(after.manifest)
    for field, value in new.items():
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            yield from _entries(field, old.get(field) or [], value)
        elif isinstance(value, dict):
            yield from _table(field, old.get(field) or {}, value)
        elif before is None or old.get(field) != value:
            opens = field in ("sensitivity", "uses_models") and before is not None
            for change in _whole("manifest", field, old.get(field), value):
                yield change.model_copy(update={"opens": opens})


def _said(manifest: Manifest) -> dict[str, Any]:
    """What a first manifest says, without what nobody wrote; how sensitive its data are is always said."""
    said = manifest.model_dump(mode="json", exclude_defaults=True)
    return {**said, "sensitivity": manifest.sensitivity}


def _entries(field: str, before: list[Any], after: list[Any]) -> Iterator[Change]:
    opens = field.partition(".")[0] in _OPENS_MORE
    for each in after:
        if each not in before:
            yield Change(subject="manifest", field=field, kind="added", after=_text(each), opens=opens)
    for each in before:
        if each not in after:
            yield Change(subject="manifest", field=field, kind="removed", before=_text(each))


def _table(field: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    opens = field in _OPENS_MORE
    for key in [*after, *(key for key in before if key not in after)]:
        one, two = before.get(key), after.get(key)
        if isinstance(two, list):
            yield from _entries(f"{field}.{key}", one or [], two)
        elif one != two:
            for change in _whole("manifest", f"{field}.{key}", one, two):
                yield change.model_copy(update={"opens": opens and two is not None})


def _kind(before: Any, after: Any) -> Kind:
    if before in (None, "", [], {}):
        return "added"
    return "removed" if after in (None, "", [], {}) else "changed"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Each value of a document that holds no others, by its place. Without recursion: a stranger made it."""
    waiting: list[tuple[str, Any]] = [(place, value)]
    while waiting:
        where, each = waiting.pop()
        if isinstance(each, dict) and each:
            waiting += [(f"{where}/{key}", inner) for key, inner in reversed(each.items())]
        elif isinstance(each, list) and any(isinstance(inner, dict | list) for inner in each):
            waiting += [(f"{where}/{number}", inner) for number, inner in reversed(list(enumerate(each)))]
        elif each is not None:
            yield where, each


_WORD: Final = re.compile(r"\w+\s*|[^\s\w]\s*|\s+")


def _compared(subject: str, field: str, before: str, after: str, unit: Literal["word", "line"]) -> Iterator[Change]:
    if before == after:
        return
    yield Change(
        subject=subject,
        field=field,
        kind=_kind(before, after),
        before=before,
        after=after,
        parts=compared(before, after, unit),
        unit=unit,
    )


def compared(before: str, after: str, unit: Literal["word", "line"]) -> tuple[Part, ...]:
    """Two texts as the pieces that stayed, went and came; joined, those give either text again."""
    one, two = (_WORD.findall(text) if unit == "word" else text.splitlines(keepends=True) for text in (before, after))
    often = Counter(one)
    if sum(often[each] for each in two) > MOST_PAIRS:
        return tuple(Part(op=op, text=text) for op, text in _replaced(before, after))
    parts: list[Part] = []
    for tag, a, b, c, d in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if tag == "equal":
            parts.append(Part(op="same", text="".join(one[a:b])))
        else:
            pieces = _replaced("".join(one[a:b]), "".join(two[c:d]))
            parts += [Part(op=op, text=text) for op, text in pieces]
    return tuple(parts)


def _replaced(before: str, after: str) -> list[tuple[Literal["gone", "new"], str]]:
    return [*([("gone", before)] if before else ()), *([("new", after)] if after else ())]


def _lines(change: Change) -> Iterator[str]:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    name = f"{change.subject}, {change.field}" if change.field else change.subject
    yield f"{signs[change.kind]} {name}"
    if change.unit == "line":
        for part in change.parts:
            sign = {"same": " ", "gone": "-", "new": "+"}[part.op]
            yield from (f"    {sign} {line}" for line in part.text.splitlines())
    elif change.unit == "word" and change.kind == "changed":
        shown = "".join(_marked(part) for part in change.parts)
        yield from (f"    {line}" for line in shown.splitlines())
    elif change.kind == "changed":
        yield f"    {change.before} → {change.after}"
    else:
        yield from (f"    {line}" for line in (change.after or change.before).splitlines())


def _marked(part: Part) -> str:
    if part.op == "same":
        return part.text
    return f"[-{part.text}-]" if part.op == "gone" else f"{{+{part.text}+}}"
