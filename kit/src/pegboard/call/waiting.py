"""A call that may have to wait for people: how it goes on, and what its caller is answered while it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcp_types import CallToolResult, InputRequiredResult, TextContent

from pegboard.call.asking import Client
from pegboard.call.ports import Invocation, ToolResult
from pegboard.call.telling import instant, left_out_told, refusal_of
from pegboard.core.access import ServerAccess
from pegboard.core.approval import APPROVAL_KEY, Answer, State, Told
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool
from pegboard.core.refusal import META_KEY, Refusal


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is allowed, and may have to wait for people.

    Attributes:
        token: the caller's own.
    """

    caller: Caller
    token: str
    access: ServerAccess
    tool: GovernedTool
    arguments: dict[str, Any]
    invocation: Invocation
    client: Client
    call_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Go:
    """The call may run.

    Attributes:
        arguments: to run with.
        approval: ids of the requests that were claimed for it.
        left_out: what was asked for and is not run, each as the element and what became of its request.
    """

    arguments: dict[str, Any]
    approval: tuple[str, ...] = ()
    left_out: tuple[tuple[Any, Told], ...] = ()

    def told(self, result: ToolResult) -> ToolResult:
        """The result, which says what was left out."""
        if not self.left_out or isinstance(result, InputRequiredResult):
            return result
        told = [
            {"element": element, "id": each.id, "state": each.state.value, "reason": each.reason}
            for element, each in self.left_out
        ]
        meta = {**(result.meta or {}), APPROVAL_KEY: {"ids": list(self.approval), "left_out": told}}
        text = TextContent(type="text", text=left_out_told(self.left_out))
        return result.model_copy(update={"content": [*result.content, text], "meta": meta})


class Held(Exception):
    """The call does not run now.

    Attributes:
        refusal: why, as records and callers have it.
        result: what the caller is answered.
        approval: ids of the requests that it waits for, or that said no.
        detail: for the owner.
    """

    def __init__(
        self, refusal: Refusal, result: ToolResult, approval: tuple[str, ...] = (), detail: str = ""
    ) -> None:
        self.refusal = refusal
        self.result = result
        self.approval = approval
        self.detail = detail
        super().__init__(refusal.code)


def impossible(wanted: Wanted, reason: str) -> Held:
    """A call to which nobody could say yes, and why."""
    refusal = refusal_of("approval_impossible", wanted.tool.name, wanted.access, reason=reason)
    return Held(refusal, as_result(refusal), detail=reason)


def held(code: str, wanted: Wanted, answer: Answer, result: InputRequiredResult | None = None) -> Held:
    """A call that does not run as people's word stands; `result` asks its client for something meanwhile."""
    refusal = refusal_of(code, wanted.tool.name, wanted.access, answer, _reason(answer))
    states = ", ".join(f"{told.id} {told.state}" for told in answer.actions[:8])
    return Held(refusal, result or as_result(refusal, answer), ids_of(answer), states)


def as_result(refusal: Refusal, answer: Answer | None = None) -> CallToolResult:
    """A refusal as a result, with what a client needs to go on."""
    return CallToolResult(
        content=[TextContent(type="text", text=refusal.message)],
        structured_content={"approval": _structured(answer)} if answer else None,
        is_error=True,
        _meta={META_KEY: refusal.as_json()},
    )


def _structured(answer: Answer) -> dict[str, Any]:
    ids = ids_of(answer)
    return {
        "id": ids[0] if ids else "",
        "ids": list(ids),
        "state": _weightiest(answer).value,
        "page": answer.page,
        "asks": answer.asks,
        "yours": answer.yours,
        "reason": _reason(answer),
        "expires_at": instant(answer.expires_at_ms),
        "expires_at_ms": answer.expires_at_ms,
    }


_WEIGHT: Final = (State.REQUESTED, State.CLAIMED, State.APPROVED, State.REJECTED, State.WITHDRAWN, State.EXPIRED)
"""Of the actions of a batch, the state that says where the whole stands: the first of these that any is in."""

_CODES: Final[Mapping[State, str]] = {
    State.REQUESTED: "approval_pending",
    State.APPROVED: "approval_pending",
    State.CLAIMED: "approval_claimed",
    State.REJECTED: "approval_rejected",
    State.WITHDRAWN: "approval_withdrawn",
    State.EXPIRED: "approval_expired",
}


def _weightiest(answer: Answer) -> State:
    found = {told.state for told in answer.actions}
    return next((stage for stage in _WEIGHT if stage in found), answer.actions[0].state)


def code_of(answer: Answer) -> str:
    """The refusal's code that says how an answer stands."""
    return _CODES.get(_weightiest(answer), "approval_claimed")


def is_open(answer: Answer) -> bool:
    """Whether somebody may still say yes."""
    return code_of(answer) == "approval_pending"


def _reason(answer: Answer) -> str:
    return next((told.reason for told in answer.actions if told.reason), "")


def ids_of(answer: Answer) -> tuple[str, ...]:
    """Of the requests; none stands for an action that was taken back before there was one."""
    return tuple(told.id for told in answer.actions if told.id)


def claimed_in(answer: Answer) -> tuple[str, ...]:
    """What an answer that claims claims: nothing of it is another call's, or nothing would be claimed at all."""
    return tuple(told.id for told in answer.actions if told.state is State.CLAIMED)
