"""Why a decision on a review, or a change of the registry, was not made: for forms, for pages, and for programs."""

from __future__ import annotations

from typing import NamedTuple

from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused, UnknownServer
from pegboard_hub.registry.reviews.errors import NotYours, ReviewConflict, UnknownReview
from pegboard_hub.web.knowing import no_server

Failure = NotYours | ReviewConflict | ChangeConflict | ChangeRefused
"""What the page with the form tells; what is not there, or not theirs, is a refusal."""

FAILURES = (NotYours, ReviewConflict, ChangeConflict, ChangeRefused, UnknownReview, UnknownServer)


class Problem(NamedTuple):
    """Why nothing was done, for the page with the form."""

    status: int
    words: str
    what_to_do: str


def problem_of(error: Exception) -> Problem:
    """What the page tells of a failure.

    Raises:
        Refused: it is nothing that a form can mend.
    """
    match error:
        case ChangeRefused():
            return Problem(422, f"Nothing was done: {_said(error)}.", error.mend)
        case ReviewConflict():
            return Problem(409, f"Nothing was done. {error.message}", "Look at it as it is now.")
        case ChangeConflict():
            return Problem(409, f"Nothing was done: {error}.", "Look at it as it is now, and send it again.")
        case _:
            raise refusal_of(error) from error


def _said(error: ChangeRefused) -> str:
    """A fault with what it is about: "the reason is empty"."""
    if error.field == "why" and error.fault.startswith("it "):
        return f"the reason {error.fault.removeprefix('it ')}"
    return error.fault if error.field in _SAYS_ITSELF else f"{error.field}: {error.fault}"


_SAYS_ITSELF = frozenset({"checklist", "access"})
"""Fields that no form shows by this name; a fault of theirs says what it is about."""


def refusal_of(error: Exception) -> Refused:
    """A failure for programs, and for pages that have no form for it."""
    match error:
        case NotYours():
            return refuse(403, "access_denied", error.message, error.mend, error.reason)
        case UnknownReview():
            return refuse(404, "not_found", "There is no such review.", "Look at the list of reviews.")
        case UnknownServer():
            return no_server()
        case _:
            problem = problem_of(error)
            return refuse(problem.status, "conflict", problem.words, problem.what_to_do)
