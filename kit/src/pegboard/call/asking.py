"""Asking a caller's client: what it can be asked, what it brings back, and the questions in the protocol's form.

In MCP 2026-07-28 a server asks by its answer (`InputRequiredResult`), and the client repeats the call with what its
person said and the state that it was given. That state comes back sealed and bound to the call and its caller by the
SDK; it says what was asked, and opens nothing: whether somebody said yes is known to the hub alone. Before that
revision a server asks over the connection that the call came on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
)

QUESTION: Final = "approval"
"""Under which key of `inputRequests` and `inputResponses` we ask."""

_MARK: Final = "pegboard.approval:"
_CONFIRMED: Final = "confirm"

_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {_CONFIRMED: {"type": "boolean", "title": "Yes, do this"}},
    "required": [_CONFIRMED],
}

Said = Literal["", "yes", "no", "later"]
"""What a client says its person answered: nothing yet, yes, no, or that they put it off."""


@dataclass(frozen=True, slots=True)
class State:
    """What was asked, as it comes back with the repeated call.

    Attributes:
        ids: of the requests.
        question: digest of the words; an answer counts for the words that were shown.
        rounds: how often the client has been sent back to wait.
    """

    ids: tuple[str, ...]
    question: str = ""
    rounds: int = 0

    def write(self) -> str:
        """As text for the SDK to seal."""
        return _MARK + json.dumps([list(self.ids), self.question, self.rounds], separators=(",", ":"))

    @classmethod
    def read(cls, text: str | None) -> State | None:
        """What `write` wrote; None where the state is not ours."""
        if text is None or not text.startswith(_MARK):
            return None
        try:
            ids, question, rounds = json.loads(text.removeprefix(_MARK))
            return cls(tuple(ids), str(question), int(rounds))
        except (ValueError, TypeError):
            return None  # a tool's own, that begins alike


@dataclass(frozen=True, slots=True)
class Client:
    """The caller's client in one request, as far as it can be asked.

    Attributes:
        pages: it said that it shows its person a link to open (URL elicitation), and can be asked by an answer.
        forms: it said that it shows its person a form.
        state: what we gave it and it brings back; None in a first call.
        reply: its answer to our question, if it brings one.
        fill: asks for a form over the connection of the call, in the older era; None where the answer asks.
    """

    pages: bool = False
    forms: bool = False
    state: State | None = None
    reply: ElicitResult | None = None
    fill: Callable[[str, dict[str, Any]], Awaitable[ElicitResult]] | None = None

    @property
    def opened(self) -> Said:
        """What it says of the link: that its person opens it, does not want it, or not now."""
        return _SAID[self.reply.action] if self.reply is not None else ""

    def filled(self, question: str) -> Said:
        """What it says of a form with these words; without forms, whether its person wants the page."""
        if not self.forms:
            return "" if self.opened == "yes" else self.opened
        if self.reply is None or self.state is None or self.state.question != digest(question):
            return ""
        return _of_form(self.reply)

    async def filled_now(self, question: str) -> Said:
        """Ask for a form over the connection, and say what it says.

        Raises:
            Exception: whatever a client and its connection can do wrong.
        """
        assert self.fill is not None  # noqa: S101 - asked where there is one
        return _of_form(await self.fill(question, _FORM))


_SAID: Final[dict[str, Said]] = {"accept": "yes", "decline": "no", "cancel": "later"}


def digest(question: str) -> str:
    """By which the words of a question are told apart."""
    return hashlib.sha256(question.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def open_page(message: str, page: str, state: State) -> InputRequiredResult:
    """The answer that asks a client to show its person a link (MCP 2026-07-28, Elicitation: URL Mode)."""
    asked = ElicitRequest(params=ElicitRequestURLParams(message=message, url=page))
    return InputRequiredResult(input_requests={QUESTION: asked}, request_state=state.write())


def fill_form(message: str, state: State) -> InputRequiredResult:
    """The answer that asks a client for its person's yes in a form (MCP 2026-07-28, Elicitation: Form Mode)."""
    asked = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=_FORM))
    return InputRequiredResult(input_requests={QUESTION: asked}, request_state=state.write())


def come_again(state: State) -> InputRequiredResult:
    """The answer that sends a client back to wait, and asks its person nothing."""
    return InputRequiredResult(request_state=state.write())


def _of_form(reply: ElicitResult) -> Said:
    if reply.action != "accept":
        return _SAID[reply.action]
    return "yes" if (reply.content or {}).get(_CONFIRMED) is True else "no"
