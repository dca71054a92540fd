"""What the author's own code says of a call that may have to wait: whether it must, and what people are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.shared.exceptions import MCPError

from pegboard.call.context import CALLER
from pegboard.call.waiting import Wanted
from pegboard.core.approval import Preview
from pegboard.gates import Confirmation, Question, shown

_Fitted = Mapping[str, Any]


async def holds(when: Question | None, wanted: Wanted, fitted: _Fitted) -> tuple[bool, Preview | None]:
    """Whether the author's condition holds, and what it shows."""
    if when is None:
        return True, None
    said = await _of_author(when, wanted, fitted)
    if isinstance(said, Preview):
        return True, said
    if isinstance(said, bool):
        return said, None
    raise _wrong(wanted, f"when returned {type(said).__name__}, and not a bool or a Preview")


async def preview_of(
    preview: Question | None, wanted: Wanted, arguments: dict[str, Any], said: Preview | None
) -> Preview | None:
    """What the author shows of the action with these arguments."""
    if preview is None:
        return said
    found = await _of_author(preview, wanted, wanted.invocation.fit(arguments))
    if found is None or isinstance(found, Preview):
        return found or said
    if isinstance(found, str):
        text = found.encode("utf-8", "backslashreplace").decode()
        return Preview(what=text if len(text) <= 500 else f"{text[:499]}…")
    raise _wrong(wanted, f"preview returned {type(found).__name__}, and not a Preview or a text")


async def form_of(wanted: Wanted, confirmation: Confirmation, said: Preview | None) -> tuple[Preview, str]:
    """What a confirmation shows, on the page and in a form."""
    preview = await preview_of(confirmation.preview, wanted, wanted.arguments, said)
    defaults = _as_sent(wanted.invocation.fit(wanted.arguments))
    question = confirmation.text({**defaults, **wanted.arguments})
    return preview or Preview(what=question[:500]), _words(wanted, question, preview)


async def _of_author(question: Question, wanted: Wanted, fitted: _Fitted) -> Any:
    """Ask the author's code, as if the tool ran.

    Raises:
        ToolError: it refuses or fails.
        MCPError: it answers with a protocol error.
    """
    held = CALLER.set(wanted.caller)
    try:
        return await question.ask(fitted, wanted.invocation.context)
    except (ToolError, MCPError):
        raise
    except Exception as error:
        raise UnexpectedToolError(f"Error executing tool {wanted.tool.name}") from error
    finally:
        CALLER.reset(held)


def _wrong(wanted: Wanted, what: str) -> UnexpectedToolError:
    error = UnexpectedToolError(f"Error executing tool {wanted.tool.name}")
    error.__cause__ = TypeError(what)
    return error


def _as_sent(fitted: _Fitted) -> dict[str, Any]:
    """Defaults of arguments that were not sent, as far as they are JSON."""
    plain = (str, int, float, bool, type(None))
    return {name: value if isinstance(value, plain) else str(value) for name, value in fitted.items()}


def _words(wanted: Wanted, question: str, preview: Preview | None) -> str:
    """What a form says: whose question it is, the question, and what the tool says will happen."""
    said = [f"{wanted.access.server} asks: {question}"]
    if preview is not None and preview.what != question:
        said.append(f"It says: {shown(preview.what)}")
    if preview is not None and preview.cost:
        said.append(f"Cost: {shown(preview.cost)}")
    return "\n".join(said)
