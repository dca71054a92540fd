"""Step 7: run the tool, and say how it ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from pegboard.call.context import CALLER
from pegboard.call.measure import RunningCall
from pegboard.call.ports import ToolResult
from pegboard.core.caller import Caller
from pegboard.core.notice import NOTICE_KEY
from pegboard.core.refusal import META_KEY

logger = logging.getLogger(__name__)

Run = Callable[[], Awaitable[ToolResult]]


async def run_tool(run: Run, running: RunningCall, caller: Caller, tool: str, after_crash: str) -> ToolResult:
    """Run the tool for `caller` and write the outcome before the result is given back.

    A failure the author anticipated (`ToolError`) reaches the caller with its text, and so do arguments that do not
    fit the tool's schema; a crash with the tool's name and `after_crash`, while its trace goes to the log.

    Raises:
        MCPError: the tool answered with a protocol error; it is passed on, after being recorded.
        OSError: the outcome could not be made durable.
    """
    held = CALLER.set(caller)
    try:
        result = await run()
    except anyio.get_cancelled_exc_class():
        running.end("cancelled", error_type="cancelled")
        raise
    except MCPError as error:
        running.end("tool_error", error_type=f"MCPError {error.error.code}")
        raise
    except ToolError as error:
        return _failed(running, error, tool, after_crash)
    finally:
        CALLER.reset(held)
    if isinstance(result, InputRequiredResult):
        running.end("input_required")
        return result
    result = _without_platform_words(result)
    running.end("tool_error" if result.is_error else "ok", _bytes(result))
    return result


def _failed(running: RunningCall, error: ToolError, tool: str, after_crash: str) -> CallToolResult:
    cause = error.__cause__ or error
    text = str(error)
    crashed = isinstance(error, UnexpectedToolError)
    if crashed:
        logger.error("tool %s crashed in call %s", tool, running.ids.told, exc_info=cause)
        text = f"{tool} failed unexpectedly. {after_crash}"
    elif isinstance(cause, ValidationError):
        text = f"{tool} cannot take these arguments: {_faults(cause)}"
    result = CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
    running.end("crashed" if crashed else "tool_error", _bytes(result), type(cause).__name__)
    return result


def _faults(error: ValidationError) -> str:
    """Each argument that does not fit, and why, in a line a model can act on."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)


def _without_platform_words(result: CallToolResult) -> CallToolResult:
    """The result without what the platform alone says in `_meta`: an author's tool cannot say that it was refused,
    nor what all are to be told."""
    if not {META_KEY, NOTICE_KEY} & (result.meta or {}).keys():
        return result
    kept = {key: value for key, value in (result.meta or {}).items() if key not in (META_KEY, NOTICE_KEY)}
    return result.model_copy(update={"meta": kept or None})


def _bytes(result: CallToolResult) -> bytes:
    """The result as it will leave. One that is no JSON is the SDK's to refuse, and is recorded all the same."""
    try:
        return result.model_dump_json(by_alias=True, exclude_none=True).encode()
    except ValueError:
        return repr(result).encode("utf-8", "backslashreplace")
