"""What a policy judged, or a person was shown, is what the tool gets.

Both see the arguments as they were sent; the SDK then fits them to the function's annotations, generously, as
models need it: `"7"` becomes 7, `"yes"` becomes true, a list may come as text, and what the tool does not take is
dropped. A policy that forbids 7 has then judged another call than the one that runs, and somebody who read
`dry_run: true` has said yes to another one. So what a policy reads must be sent as it is meant, and of a call that
waits for a person all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, RootModel, ValidationError


def hold_to_judged(tool: Tool, names: Iterable[str], arguments: Mapping[str, Any]) -> None:
    """Let a call through if the tool would get the named arguments as they were sent.

    Args:
        tool: the SDK's.
        names: arguments that the tool's policy reads.
        arguments: as they were sent.

    Raises:
        ToolError: it would get another value; the text says how to send it.
    """
    if (fitted := _fitted(tool, arguments)) is None:
        return
    faults = (_fault(tool, name, arguments.get(name), fitted.get(name), "a policy reads it") for name in names)
    _refuse(tool, faults)


def hold_to_shown(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Let a call through if the tool would get all of its arguments as they are shown.

    Args:
        tool: the SDK's.
        arguments: as they are shown to whoever says yes.

    Raises:
        ToolError: it takes no argument of that name, or would get another value; the text says how to send it.
    """
    if (fitted := _fitted(tool, arguments)) is None:
        return
    why = "a person says yes to exactly it"
    faults = (
        _fault(tool, name, sent, fitted[name], why)
        if name in fitted
        else f"{name}: Leave it out, because the tool takes no argument of this name"
        for name, sent in arguments.items()
    )
    _refuse(tool, faults)


def _fitted(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments as the tool would get them; None where they do not fit, as the call itself will say."""
    try:
        return tool.fn_metadata.validate_arguments(dict(arguments))
    except ValidationError:
        return None


def _refuse(tool: Tool, faults: Iterable[str]) -> None:
    if found := [fault for fault in faults if fault]:
        raise ToolError(f"{tool.name} cannot take these arguments: {'; '.join(found)}")


def _fault(tool: Tool, name: str, sent: Any, got: Any, why: str) -> str:
    if sent is None:
        known = got is None or got == _default(tool, name)
        return "" if known else f"{name}: Send it under this name, because {why}"
    if _same(sent, got):
        return ""
    if isinstance(sent, dict | list) or type(got) is type(sent):
        return f"{name}: Send it as the tool takes it, without what it changes or leaves out, because {why}"
    return f"{name}: Send it as {type(got).__name__}, not as {type(sent).__name__}, because {why}"


def _default(tool: Tool, name: str) -> Any:
    fields = tool.fn_metadata.arg_model.model_fields
    field = next((field for key, field in fields.items() if (field.alias or key) == name), None)
    return field.get_default(call_default_factory=True, validated_data={}) if field else None


def _same(sent: Any, got: Any) -> bool:
    """Whether JSON that was sent and the value that came of it mean the same."""
    match got:
        case None | bool():
            return sent is got
        case int() | float():
            return isinstance(sent, int | float) and not isinstance(sent, bool) and bool(sent == got)
        case str():
            return isinstance(sent, str) and sent == got
        case list() | tuple():
            return isinstance(sent, list) and len(sent) == len(got) and all(map(_same, sent, got))
        case set() | frozenset():
            return isinstance(sent, list) and all(any(_same(one, item) for one in sent) for item in got)
        case dict():
            return isinstance(sent, dict) and sent.keys() == got.keys() and all(_same(sent[k], got[k]) for k in got)
        case RootModel():
            return _same(sent, got.root)
    if (members := _members(got)) is not None:
        return isinstance(sent, dict) and all(_same(sent[k], members.get(k)) for k in sent)
    # A date, a path, a decimal, an enumeration: another spelling of the one text or number that was sent.
    return not isinstance(sent, list | dict | bool)


def _members(got: Any) -> Mapping[str, Any] | None:
    """What an object has, by the names under which it may be sent; None of what is no object."""
    if isinstance(got, BaseModel):
        named = {
            name: getattr(got, key)
            for key, field in type(got).model_fields.items()
            for name in (key, field.alias, field.validation_alias)
            if isinstance(name, str)
        }
        return named | (got.model_extra or {})
    if is_dataclass(got) and not isinstance(got, type):
        return {field.name: getattr(got, field.name) for field in fields(got)}
    return None
