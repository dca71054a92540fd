"""Why nothing is submitted, built or handed on."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

Code = Literal[
    "unknown_submission",
    "not_yours",
    "not_for_services",
    "name_taken",
    "followed",
    "retired",
    "invalid_archive",
    "invalid_project",
    "invalid",
    "too_many",
    "not_kept",
    "too_late",
    "busy",
]

STATUSES: dict[Code, int] = {
    "unknown_submission": 404,
    "not_yours": 403,
    "not_for_services": 403,
    "name_taken": 409,
    "followed": 409,
    "retired": 409,
    "invalid_archive": 422,
    "invalid_project": 422,
    "invalid": 422,
    "too_many": 409,
    "not_kept": 409,
    "too_late": 409,
    "busy": 503,
}
"""What each is over HTTP."""


class PublishingRefused(PegboardError):
    """It cannot be done, or not by them; nothing was changed.

    Attributes:
        code: in a word, for programs.
        message: in words, a sentence.
        mend: what to do, a sentence.
    """

    def __init__(self, code: Code, message: str, mend: str) -> None:
        super().__init__(f"{message} {mend}")
        self.code: Code = code
        self.message = message
        self.mend = mend


class ClaimLost(PegboardError):
    """An order that is not, or no longer, this builder's: what it made is not taken."""
