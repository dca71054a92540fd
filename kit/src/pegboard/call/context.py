"""What a tool's own code may ask about the call it serves."""

from __future__ import annotations

from contextvars import ContextVar

from pegboard.core.caller import Caller

CALLER: ContextVar[Caller] = ContextVar("pegboard_caller")


def current_caller() -> Caller:
    """The verified caller of the tool that is running.

    Raises:
        LookupError: no tool is running in this context.
    """
    return CALLER.get()
