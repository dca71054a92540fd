"""Whether code declares what was pinned: the same rule wherever a process starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pegboard.core.release import Declaration

MOST_TOLD = 20
"""Differences that are named."""


def differs(pinned: Declaration, declares: Declaration) -> list[str]:
    """What of `declares` is not as it was pinned, a line each that names the tool; empty where nothing is.

    What it was built into is no part of what code declares.
    """
    before, now = pinned.pinned, declares.pinned
    if before == now:
        return []
    told = ["its instructions differ"] if before.instructions != now.instructions else []
    found = [
        *told,
        *_named("tool", {tool.name: tool for tool in before.tools}, {tool.name: tool for tool in now.tools}),
        *_named("policy", before.policies, now.policies),
        *_fields("pegboard.toml", before.manifest.model_dump(), now.manifest.model_dump()),
    ]
    if not found and [tool.name for tool in before.tools] != [tool.name for tool in now.tools]:
        found = ["its tools are declared in another order"]
    return found[:MOST_TOLD] or ["it declares something else, beside tools, policies and manifest"]


def _named(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in before:
        if name not in now:
            yield f"{kind} {name!a} is not declared any more"
        elif before[name] != now[name]:
            one, two = before[name], now[name]
            fields = _fields(f"{kind} {name!a}", one.model_dump(), two.model_dump()) if kind == "tool" else ()
            yield from fields or [f"{kind} {name!a} differs"]
    yield from (f"{kind} {name!a} is new" for name in now if name not in before)


def _fields(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{what} differs in {', '.join(sorted(different))}"] if different else []
