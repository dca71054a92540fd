"""What a policy judged is what the tool gets.

A policy sees the arguments as they were sent; the SDK then fits them to the function's annotations, generously, as
models need it: `"7"` becomes 7, `"yes"` becomes true, a list may come as text. A policy that forbids 7 has then
judged another call than the one that runs. So an argument that a policy reads must be sent as it is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, ValidationError


def hold_to_judged(tool: Tool, names: Iterable[str], arguments: Mapping[str, Any]) -> None:
    """Let a call through if the tool would get the named arguments as they were sent.

    Args:
        tool: the SDK's.
        names: arguments that the tool's policy reads.
        arguments: as they were sent.

    Raises:
        ToolError: it would get another value; the text says how to send it.
    """
    try:
        fitted = tool.fn_metadata.validate_arguments(dict(arguments))
    except ValidationError:
        return  # the call will say so itself, with every fault
    faults = [fault for name in names if (fault := _fault(tool, name, arguments.get(name), fitted.get(name)))]
    if faults:
        raise ToolError(f"{tool.name} cannot take these arguments: {'; '.join(faults)}")


def _fault(tool: Tool, name: str, sent: Any, got: Any) -> str:
    if sent is None:
        known = got is None or got == _default(tool, name)
        return "" if known else f"{name}: Send it under this name, because a policy reads it"
    if _same(sent, got):
        return ""
    return f"{name}: Send it as {type(got).__name__}, not as {type(sent).__name__}, because a policy reads it"


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
        case BaseModel():
            return isinstance(sent, dict) and all(_same(sent[k], getattr(got, k, None)) for k in sent)
    # A date, a path, a decimal, an enumeration: another spelling of the one text or number that was sent.
    return not isinstance(sent, list | dict | bool)
