"""A pinned tool as the SDK serves it: the pinned words and schemas, and a call that goes to the backend.

What a caller sends is held to the pinned schema here, strictly: policies judge, and people approve, what was sent,
and a backend that fits `"7"` to 7 would run another call. What the backend answers is cleaned: of `_meta`, where only
the platform's own words stand, and of what passes for Pegboard's own voice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import anyio
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, PrivateAttr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from referencing import Registry

from pegboard.core.pins import PinnedTool
from pegboard.core.text import plain

MOST_FAULTS: Final = 5
"""Arguments that do not fit which are named at once."""

SOONEST_PROGRESS_S: Final = 0.1
"""Between two reports of progress that are passed on; others are dropped."""

LONGEST_PROGRESS: Final = 200
"""Characters of a report."""

THEIR_ERROR: Final = "The server behind {tool} says that this failed. What follows are its words, not Pegboard's:"


class Called(Protocol):
    """Whatever runs a call."""

    async def __call__(
        self, name: str, arguments: dict[str, Any], progress: ProgressFnT | None, meta: dict[str, Any] | None
    ) -> CallToolResult:
        """Run it.

        Raises:
            ToolError: it failed.
        """
        ...


class SchemaArguments(FuncMetadata):
    """Arguments held to a JSON Schema, and given on as they were sent."""

    _name: str = PrivateAttr()
    _schema: Validator = PrivateAttr()

    @classmethod
    def of(cls, pinned: PinnedTool) -> SchemaArguments:
        """Those of a pinned tool."""
        found = cls(arg_model=ArgModelBase, output_schema=pinned.output_schema)
        found._name = pinned.name
        found._schema = Draft202012Validator(closed(pinned.input_schema), registry=Registry())
        return found

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """The arguments themselves.

        Raises:
            ValidationError: they do not fit.
        """
        faults = [
            InitErrorDetails(
                type=PydanticCustomError("json_schema", "{what}", {"what": _words(error)}),
                loc=tuple(error.absolute_path) or ("arguments",),
                input=None,
            )
            for error, _ in zip(self._schema.iter_errors(arguments_to_validate), range(MOST_FAULTS), strict=False)
        ]
        if faults:
            raise ValidationError.from_exception_data(self._name, faults)
        return arguments_to_validate


class ProxiedTool(Tool):
    """A tool whose call goes to a backend."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> CallToolResult:
        """Run it.

        Raises:
            ToolError: the arguments do not fit, or the backend failed.
        """
        del convert_result  # it is a result
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            raise ToolError(str(error)) from error
        result: CallToolResult = await self.fn(arguments, context)
        return result


def proxied_tool(pinned: PinnedTool, annotations: ToolAnnotations, run: Called, caller: Callable[[], Any]) -> Tool:
    """The SDK's tool of a pinned one.

    Args:
        pinned: what it was when its owner looked.
        annotations: its hints, as its owner states them.
        run: takes a call to the backend.
        caller: what the backend is told of the caller, for `_meta`; None where it is told nothing.
    """

    async def forward(arguments: dict[str, Any], context: Context[Any, Any]) -> CallToolResult:
        told = caller()
        meta = {CALLER_KEY: told} if told is not None else None
        return cleaned(await run(pinned.name, arguments, _progress(context), meta), pinned)

    return ProxiedTool(
        fn=forward,
        name=pinned.name,
        title=pinned.title,
        description=pinned.description,
        parameters=pinned.input_schema,
        fn_metadata=SchemaArguments.of(pinned),
        is_async=True,
        context_kwarg=None,
        annotations=annotations,
    )


CALLER_KEY: Final = "pegboard.dev/caller"
"""Key under `_meta` by which a backend is told who calls, where its manifest asks for that."""


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that takes no argument it does not name, unless it says that it does.

    A backend may know an argument under a second name. What no policy can read, and no person is shown by its name,
    does not pass.
    """
    named = "properties" in schema or "patternProperties" in schema
    combines = {"allOf", "anyOf", "oneOf", "$ref", "if"} & schema.keys()
    if "additionalProperties" in schema or "unevaluatedProperties" in schema or not (named or combines):
        return dict(schema)
    return {**schema, "unevaluatedProperties" if combines else "additionalProperties": False}


def one_type(schema: Any) -> bool:
    """Whether a schema surely lets through values of one type alone, beside null."""
    if not isinstance(schema, Mapping):
        return False
    named = schema.get("type")
    if isinstance(named, str):
        return named != "number"  # 7 and 7.0 are two values to whoever compares
    if isinstance(named, list):
        return len(set(named) - {"null"}) <= 1 and "number" not in named
    options = schema.get("anyOf") or schema.get("oneOf") or ()
    types = {each.get("type") if isinstance(each, Mapping) else None for each in options} - {"null"}
    return len(types) == 1 and all(isinstance(each, str) and each != "number" for each in types)


def cleaned(result: CallToolResult, pinned: PinnedTool) -> CallToolResult:
    """A backend's result as it may leave: without `_meta`, and its errors as what they are.

    Raises:
        ToolError: it has not the form that was pinned.
    """
    content = [block.model_copy(update={"meta": None}) for block in result.content]
    if result.is_error:
        # Pegboard's refusals are errors with a text, too: whose words these are must be plain.
        whose = TextContent(type="text", text=THEIR_ERROR.format(tool=pinned.name))
        return CallToolResult(content=[whose, *content], is_error=True)
    if pinned.output_schema is not None:
        _hold_to_output(result.structured_content, pinned)
    return CallToolResult(content=content, structured_content=result.structured_content, is_error=False)


def _hold_to_output(found: Any, pinned: PinnedTool) -> None:
    validator = Draft202012Validator(pinned.output_schema or {}, registry=Registry())
    fault = next(validator.iter_errors(found), None)
    if fault is not None:
        raise ToolError(
            f"The server behind {pinned.name} answered with what its own schema does not allow. The call has run."
        )


def _words(error: Any) -> str:
    """What is wrong with an argument, without repeating all of it."""
    text = plain(str(error.message))
    return text if len(text) <= 200 else f"{text[:200]}…"


def _progress(context: Context[Any, Any]) -> ProgressFnT | None:
    """Passes reports on, as many as a client can use; None where nobody asked for any."""
    try:
        asked = (context.request_context.meta or {}).get("progress_token")
    except (ValueError, LookupError, AttributeError):
        return None
    if asked is None:
        return None
    last = -SOONEST_PROGRESS_S

    async def report(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        now = anyio.current_time()
        if now - last < SOONEST_PROGRESS_S and progress != total:
            return
        last = now
        words = plain(message[:LONGEST_PROGRESS]) if message else None
        await context.report_progress(progress, total, words)

    return report
