"""Where a page may lead on to: paths of our own origin, and the one address of a client that a page is about."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from fastapi.responses import RedirectResponse

LONGEST = 8 * 1024
"""Characters of a path to go on to; a client's authorization request has some 500."""

_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"
_OURS = re.compile(rf"(?P<path>/|(?:/(?:{_SEGMENT})+)+/?)(?P<query>\?(?:{_SEGMENT}|[/?])*)?", re.ASCII)
"""`path-absolute [ "?" query ]` of RFC 3986: nothing in it is read differently by browsers, which drop tabs and
newlines, take a backslash for a slash, and two slashes for the start of a host."""

_TRICKS = re.compile(r"%(?:2f|5c|2e|25|[01][0-9a-f]|7f)|(?:^|/)\.{1,2}(?:/|$)", re.IGNORECASE)
"""In a path: slashes, dots and percent signs in disguise, control characters, and segments that climb."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+")


def onward(asked: str | None) -> str:
    """The path on this origin to go on to: `asked` where it is one, the home page for everything else."""
    if asked is None or len(asked) > LONGEST:
        return "/"
    found = _OURS.fullmatch(asked)
    return asked if found and not _TRICKS.search(found["path"]) else "/"


def sign_in_path(then: str) -> str:
    """The address of the sign-in page that goes on to `then`."""
    return "/sign-in" if then == "/" else f"/sign-in?continue={quote(then, safe='/')}"


def see_other(path: str) -> RedirectResponse:
    """On to another page of ours after a form, so that going back does not send the form again."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def form_target(redirect_uri: str) -> str:
    """What `form-action` must allow for a form whose answer leads to `redirect_uri`.

    Raises:
        ValueError: it is no address that a policy could name.
    """
    parts = urlsplit(redirect_uri)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if not _SCHEME.fullmatch(scheme):
        raise ValueError(f"{redirect_uri[:200]!r} has no scheme")
    if scheme not in ("http", "https") or ":" in host:
        return f"{scheme}:"  # a policy's host cannot be an IPv6 address (CSP3 §2.3.1)
    if not _HOST.fullmatch(host):
        raise ValueError(f"{redirect_uri[:200]!r} has no host")
    return f"{scheme}://{host}:{parts.port}" if parts.port else f"{scheme}://{host}"
