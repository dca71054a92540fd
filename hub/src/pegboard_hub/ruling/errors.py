"""Why a set of rules does not become the one in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pegboard.core.errors import PegboardError

Reason = Literal["invalid", "moved", "widens", "unknown", "same"]


class RulesRefused(PegboardError):
    """Nothing was changed.

    Attributes:
        reason: in a word, for programs: `moved`: somebody changed the rules since; `widens`: it lets somebody do
            more, which a token is not enough for; `same`: it changes nothing.
        field: what is to blame.
        message: in words, a sentence.
        mend: what to do, a sentence.
        lines: each fault of a file, or each difference that is in the way.
    """

    def __init__(self, reason: Reason, field: str, message: str, mend: str, lines: Sequence[str] = ()) -> None:
        super().__init__(f"{message} {mend}")
        self.reason = reason
        self.field = field
        self.message = message
        self.mend = mend
        self.lines = tuple(lines)
