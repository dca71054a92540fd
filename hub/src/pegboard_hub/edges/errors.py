"""What can be wrong with a request about joined edges."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError


class EdgeRefused(PegboardError):
    """Nothing was done about an edge.

    Attributes:
        reason: which kind of fault.
        mend: what to do.
    """

    def __init__(self, reason: Literal["invalid", "there", "unknown"], message: str, mend: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.mend = mend


class EdgeUnknown(PegboardError):
    """No edge has that credential."""


class EdgeRemoved(PegboardError):
    """The edge of that credential was removed.

    Attributes:
        digest: of the credential, so that the edge can be told in a way that it believes.
    """

    def __init__(self, digest: str, message: str) -> None:
        super().__init__(message)
        self.digest = digest
