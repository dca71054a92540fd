"""Why something is not stopped, or not resumed."""

from __future__ import annotations

from pegboard.core.errors import PegboardError


class StopRefused(PegboardError):
    """It cannot be done, or not by this person; nothing was changed.

    Attributes:
        reason: in a word, for programs: `not_yours`, `unknown`, `invalid` or `not_stopped`.
        field: what is to blame.
        message: in words, a sentence.
        mend: what to do, a sentence.
    """

    def __init__(self, reason: str, field: str, message: str, mend: str) -> None:
        super().__init__(f"{message} {mend}")
        self.reason = reason
        self.field = field
        self.message = message
        self.mend = mend
