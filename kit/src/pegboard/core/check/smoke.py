"""Smoke calls: of tools that may be called by nobody, with arguments that fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.manifest import FILE_NAME, SmokeCall
from pegboard.core.publishing import Finding
from pegboard.core.release import ToolDeclaration

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def findings(subject: Subject) -> Iterator[Finding]:
    """Smoke calls that a new replica could not answer."""
    calls = subject.declaration.manifest.smoke
    if not calls:
        if any(_callable(tool) for tool in subject.declaration.tools):
            yield RULES["PB804"].at(FILE_NAME, "the manifest has no smoke call")
        return
    tools = {tool.name: tool for tool in subject.declaration.tools}
    for number, call in enumerate(calls, 1):
        named = f"smoke call {number}"
        if (tool := tools.get(call.tool)) is None:
            yield RULES["PB801"].at(FILE_NAME, f"{named}: there is no tool {call.tool[:64]!r}")
        elif not _callable(tool):
            yield RULES["PB802"].at(FILE_NAME, f"{named}: {tool.name!r} is not read-only, or asks somebody")
        else:
            yield from (
                RULES["PB803"].at(FILE_NAME, f"{named}, of {tool.name!r}: {problem}")
                for problem in _misfits(call, tool)
            )


def _callable(tool: ToolDeclaration) -> bool:
    asks = tool.confirmation is not None or (tool.approval is not None and tool.approval.always)
    return tool.read_only and not asks


def _misfits(call: SmokeCall, tool: ToolDeclaration) -> Iterator[str]:
    """What does not fit the schema, as far as its first level says; the call itself tells the rest."""
    properties = tool.input_schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    required = tool.input_schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in call.arguments:
            yield f"argument {str(name)[:64]!r} is missing"
    for name, value in call.arguments.items():
        if name not in known:
            yield f"there is no argument {name[:64]!r}"
        elif not _fits(value, known[name]):
            yield f"argument {name[:64]!r} is none of what its schema takes"


def _fits(value: Any, schema: Any) -> bool:
    if not isinstance(schema, dict):
        return True
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return False
    types = schema.get("type")
    wanted = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    kinds = tuple(kind for each in wanted for kind in _TYPES.get(str(each), ()))
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        return False
    either = schema.get("anyOf")
    return not isinstance(either, list) or any(_fits(value, each) for each in either)
