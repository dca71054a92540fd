"""Whose browser a request comes from, and whether a form that it sends was meant.

A page of another site can make a browser send us a form, with the session's cookie where it can. So a form counts
only when the browser says that it came from our own origin *and* it has a token that nobody but this browser was
given, for this very form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Protocol
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, Request
from fastapi.responses import Response

from pegboard_hub.common.requests import Refused, read_body, refuse
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.onward import onward, sign_in_path

TOKEN_FIELD = "form_token"  # noqa: S105 - the field's name
FORM_LIMIT = 64 * 1024
"""Bytes of a form; the longest of ours carries a client's authorization request."""

MOST_FIELDS = 500
"""Of a form; the most has a review of a server for which much is asked."""

FORM_COOKIE_S = 24 * 60 * 60
"""Seconds that the sign-in page may stay open before its form is sent."""

_FORM = "application/x-www-form-urlencoded"
_AGAIN = "Open the page again, and send the form from there."

Form = dict[str, str]
"""A form's fields; none of ours comes twice."""


class FindsSessions(Protocol):
    """What is wanted of the sessions."""

    async def find(self, secret: str | None) -> Session | None:
        """The live session that a cookie's value belongs to."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever looks at our pages in one browser.

    Attributes:
        session: None while nobody is signed in there.
        secret: what this browser alone has; the tokens of its forms come of it.
        fresh: whether the browser has yet to be given the secret.
        doubled: whether the browser sent two cookies for its session, so that neither counts.
    """

    session: Session | None
    secret: str
    fresh: bool = False
    doubled: bool = False

    def form_token(self, action: str) -> str:
        """The token of a form that is sent to the path `action`."""
        digest = hmac.digest(self.secret.encode(), b"pegboard form\0" + action.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @property
    def state(self) -> str:
        """What this browser comes back with from where it is sent; it is good for no form, which have paths."""
        return self.form_token("")


NOBODY = Visitor(None, "")
"""Of whom nothing is known. A form on their page would not count."""


class SignInNeeded(Exception):
    """A page that nobody sees without being signed in; it is answered with the way to the sign-in page.

    Attributes:
        location: of the sign-in page, which leads back.
    """

    def __init__(self, request: Request) -> None:
        here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        # What a form asked for is not done by following a link to where it was sent.
        here = here if request.method == "GET" else "/"
        self.location = sign_in_path(onward(here))
        super().__init__(self.location)


class Browsers:
    """Tells browsers apart by their cookies, and gives them theirs."""

    def __init__(self, sessions: FindsSessions, cookie: Cookie, public_url: str) -> None:
        self._sessions = sessions
        self._origin = _origin(public_url)
        self._session_cookie = cookie
        self._form_cookie = replace(cookie, name=f"{cookie.name}_form")

    async def visit(self, request: Request) -> None:
        """Note the visitor. A dependency of every router with pages."""
        found = request.state.visitor = await self._visitor(request)
        request.state.signed_in_sub = found.session.facts.sub if found.session else None  # for the log's line

    async def form(self, request: Request, limit: int = FORM_LIMIT) -> Form:
        """The form that was sent, of `limit` bytes at most.

        Raises:
            Refused: it did not come from one of our pages in this browser, or cannot be read.
        """
        if not _same_origin(request, self._origin):
            raise _not_meant("cross_site", "it came from a page that is not Pegboard’s")
        form = await _fields(request, limit)
        wanted = visitor(request).form_token(request.url.path)
        if not hmac.compare_digest(form.pop(TOKEN_FIELD, "").encode(), wanted.encode()):
            raise _not_meant("form_token", "it does not belong to the sign-in of this browser, or is too old")
        return form

    def keep(self, visitor: Visitor, response: Response) -> None:
        """Give the browser the secret of its forms, where it has none yet.

        For every page with a form that is shown to people who are not signed in.
        """
        if visitor.fresh:
            self._form_cookie.set(response, visitor.secret, FORM_COOKIE_S)

    def sign_in(self, response: Response, secret: str, lifetime_s: int) -> None:
        """Make the browser one that a person is signed in with. What its forms had before is worth nothing now."""
        self._session_cookie.set(response, secret, lifetime_s)
        self._form_cookie.clear(response)

    def sign_out(self, response: Response) -> None:
        """Take the session's cookie away."""
        self._session_cookie.clear(response)

    async def _visitor(self, request: Request) -> Visitor:
        secret = self._session_cookie.read(request)
        session = await self._sessions.find(secret) if secret else None
        if secret and session:
            return Visitor(session, secret)
        kept, doubled = self._form_cookie.read(request), self._session_cookie.is_doubled(request)
        return replace(Visitor(None, kept) if kept else stranger(), doubled=doubled)


def stranger() -> Visitor:
    """One whose browser has yet to be given the secret of its forms."""
    return Visitor(None, secrets.token_urlsafe(32), fresh=True)


def is_back(request: Request) -> bool:
    """Whether the browser was sent away with a state, and comes back with it: nobody else's link says so."""
    state = request.query_params.get("state", "")
    return hmac.compare_digest(state.encode(), visitor(request).state.encode())


def visitor(request: Request) -> Visitor:
    """Who looks at the page. Without `Browsers.visit` on the router this fails: no page is open by omission."""
    found: Visitor = request.state.visitor
    return found


def signed_in(request: Request) -> Session:
    """The session of the browser that asks.

    Raises:
        SignInNeeded: there is none.
        Refused: there are two, which signing in would not mend.
    """
    found = visitor(request)
    if found.doubled:
        message = "This browser sent two cookies for one sign-in, so neither counts: another page has planted one."
        raise refuse(400, "cookie_doubled", message, "Delete this site’s cookies in the browser, and sign in again.")
    if found.session is None:
        raise SignInNeeded(request)
    return found.session


async def _signed_in(request: Request) -> Session:
    return signed_in(request)


HereSession = Annotated[Session, Depends(_signed_in)]
"""The session of the browser that asks, as a route's parameter; without one the person is led to sign in."""


def _origin(url: str) -> str:
    """A URL's origin as browsers write it: without a port that goes without saying (HTML §7.1.1)."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def _same_origin(request: Request, origin: str) -> bool:
    """Whether the browser says that the request comes from a page of ours (Fetch §3.1 and Fetch Metadata §2.3).

    Every browser of today sends at least one of the two headers with a form; what sends neither is none.
    """
    origins, sites = request.headers.getlist("origin"), request.headers.getlist("sec-fetch-site")
    if len(origins) > 1 or len(sites) > 1 or not (origins or sites):
        return False
    return origins in ([], [origin]) and sites in ([], ["same-origin"])


async def _fields(request: Request, limit: int) -> Form:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise refuse(415, "invalid_request", f"A form is sent as {_FORM}.", _AGAIN)
    body = await read_body(request, limit)
    try:
        text = body.decode()
        found = parse_qs(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError as error:
        raise refuse(400, "invalid_request", "The form cannot be read.", _AGAIN) from error
    if twice := [name for name, values in found.items() if len(values) > 1]:
        raise refuse(400, "invalid_request", f"The form says {twice[0][:64]} twice.", _AGAIN)
    return {name: values[0] for name, values in found.items()}


def _not_meant(reason: str, why: str) -> Refused:
    return refuse(403, "form_refused", f"Nothing was done with this form: {why}.", _AGAIN, reason)
