"""Why something is not done with a deployment."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

Reason = Literal["not_yours", "unknown", "invalid", "not_now"]


class DeploymentRefused(PegboardError):
    """It cannot be done, or not by this person; nothing was changed.

    Attributes:
        reason: in a word, for programs: `not_now`: not as the deployment stands.
        field: what is to blame.
        message: in words, a sentence.
        mend: what to do, a sentence.
    """

    def __init__(self, reason: Reason, field: str, message: str, mend: str) -> None:
        super().__init__(f"{message} {mend}")
        self.reason: Reason = reason
        self.field = field
        self.message = message
        self.mend = mend
