"""Why a surface is not registered, changed or removed."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

Reason = Literal["unknown", "taken", "invalid", "changed"]


class SurfaceRefused(PegboardError):
    """Nothing was changed. It names the field that is to blame, and the mend."""

    def __init__(self, reason: Reason, field: str, message: str, mend: str) -> None:
        self.reason: Reason = reason
        self.field = field
        self.message = message
        self.mend = mend
        super().__init__(f"{field}: {message} {mend}")
