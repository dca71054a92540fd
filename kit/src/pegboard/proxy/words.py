"""What a backend said, and what went wrong with it, in a line."""

from __future__ import annotations

from typing import Final

from pegboard.core.text import plain

LONGEST_SAID: Final = 500
"""Characters of a backend's own words within ours."""

_VOUCH: Final = "who may vouch for it says `ca` in [proxy], or else the machine's own store"
"""What to do about a certificate that is not taken."""


def said(text: str) -> str:
    """A backend's own words within a sentence of ours: on one line, nothing hidden, quoted and cut."""
    words = plain(text[: LONGEST_SAID * 2])
    return f"“{words if len(words) <= LONGEST_SAID else words[:LONGEST_SAID] + '…'}”"


def told(error: BaseException) -> str:
    """An error in a line, for the log: a backend's own words may be in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"{plain(str(error)[:LONGEST_SAID])}; {_VOUCH}"
    return plain(f"{error}"[:LONGEST_SAID]) or type(error).__name__
