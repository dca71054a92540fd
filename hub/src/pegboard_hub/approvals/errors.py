"""Why nothing is asked, decided or taken back."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

Code = Literal[
    "unknown",
    "not_yours",
    "own_request",
    "stopped",
    "invalid",
    "expired",
    "already_decided",
    "changed",
    "too_many",
    "token_refused",
    "not_for_services",
    "same_action_twice",
    "call_id_used",
    "not_ended",
    "server_changed",
]


class ApprovalRefused(PegboardError):
    """It cannot be done, or not by this person; nothing was changed.

    Attributes:
        code: in a word, for programs. `unknown` is also what those are told who may not know of a request.
        field: what is to blame.
        message: in words, a sentence.
        mend: what to do, a sentence.
    """

    def __init__(self, code: Code, field: str, message: str, mend: str) -> None:
        super().__init__(f"{message} {mend}")
        self.code: Code = code
        self.field = field
        self.message = message
        self.mend = mend
