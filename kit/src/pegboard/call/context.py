"""What a tool's own code may ask about the call it serves."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from pegboard.core.caller import Caller

CALLER: ContextVar[Caller] = ContextVar("pegboard_caller")

FOR_NOBODY: ContextVar[bool] = ContextVar("pegboard_for_nobody", default=False)
"""Whether a smoke call of the server's own is running, which has no caller."""


def current_caller() -> Caller:
    """The verified caller of the tool that is running.

    Raises:
        LookupError: no tool is running in this context.
    """
    return CALLER.get()


def told_caller() -> dict[str, Any] | None:
    """What a backend is told of the caller whose call it runs, where its manifest asks for that: never the token."""
    caller = CALLER.get(None)
    if caller is None:
        return None
    return {"sub": caller.sub, "kind": caller.sub_type, "groups": list(caller.groups), "surface": caller.surface}
