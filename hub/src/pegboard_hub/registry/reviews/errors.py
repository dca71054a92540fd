"""Why something about a review is refused."""

from __future__ import annotations

from pegboard.core.errors import PegboardError


class UnknownReview(PegboardError):
    """There is no review of that id."""

    def __init__(self, review: str) -> None:
        super().__init__(f"there is no review {review[:40]}")


class NotYours(PegboardError):
    """Somebody wants to do what others are to do.

    Attributes:
        reason: in a word, for programs.
        message: in words.
        mend: whom to ask.
    """

    def __init__(self, reason: str, message: str, mend: str) -> None:
        super().__init__(f"{message} {mend}")
        self.reason = reason
        self.message = message
        self.mend = mend


class ReviewConflict(PegboardError):
    """A review is not as it was when somebody looked at it; nothing was decided.

    Attributes:
        message: what happened meanwhile.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
