"""Where our pages lead on to: paths of our own origin."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi.responses import RedirectResponse

LONGEST = 8 * 1024
"""Characters of a path to go on to; a client's authorization request has some 500."""

_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"
_OURS = re.compile(rf"(?P<path>/|(?:/(?:{_SEGMENT})+)+/?)(?:\?[!$-;=?-\[\]-~]*)?", re.ASCII)
"""`path-absolute` of RFC 3986, and a query of what browsers send in one: nothing in it is read differently by
browsers, which drop tabs and newlines, take a backslash for a slash, and two slashes for the start of a host."""

_TRICKS = re.compile(r"%(?:2f|5c|2e|25|[01][0-9a-f]|7f)|(?:^|/)\.{1,2}(?:/|$)", re.IGNORECASE)
"""In a path: slashes, dots and percent signs in disguise, control characters, and segments that climb."""


def onward(asked: str | None) -> str:
    """The path on this origin to go on to: `asked` where it is one, the home page for everything else."""
    if asked is None or len(asked) > LONGEST:
        return "/"
    found = _OURS.fullmatch(asked)
    return asked if found and not _TRICKS.search(found["path"]) else "/"


def sign_in_path(then: str) -> str:
    """The address of the sign-in page that goes on to `then`."""
    return "/sign-in" if then == "/" else f"/sign-in?continue={quote(then, safe='/')}"


def sign_in_again_path(then: str) -> str:
    """The address of the sign-in page that has somebody prove anew who they are, and goes on to `then`."""
    return f"/sign-in?again=1&continue={quote(then, safe='/')}"


def see_other(path: str) -> RedirectResponse:
    """On to another page of ours after a form, so that going back does not send the form again."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})
