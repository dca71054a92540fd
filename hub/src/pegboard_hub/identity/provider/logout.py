"""Signing out with the provider: it tells us (OpenID Connect Back-Channel Logout 1.0), and we send people there."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlencode

from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.fetch import Json
from pegboard_hub.identity.provider.id_token import SKEW_S, is_subject
from pegboard_hub.identity.provider.metadata import Metadata

EVENT = "http://schemas.openid.net/event/backchannel-logout"
TYPES = ("logout+jwt", "application/logout+jwt", "JWT")
"""§2.4 recommends the first; many providers still say JWT. What tells it from an id token is the event."""

FRESH_S = 180
"""Seconds since it was issued; for so long each is remembered."""

MOST_REMEMBERED = 10_000
LONGEST_HINT = 4096


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whose sign-in the provider says is over: that of one session of its own, or everything of a person."""

    subject: str
    session: str
    token_id: str


class Remembered:
    """Logout tokens that were acted on, for as long as they are fresh."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def seen(self, token_id: str, now: float) -> bool:
        """Whether it was acted on already."""
        while self._until and (next(iter(self._until.values())) <= now or len(self._until) > MOST_REMEMBERED):
            self._until.popitem(last=False)
        return token_id in self._until

    def add(self, token_id: str, now: float) -> None:
        """It has been acted on."""
        self._until[token_id] = now + FRESH_S + 2 * SKEW_S


def signed_out(header: Json, claims: Json, issuer: str, client_id: str, now: float) -> SignedOut:
    """What a logout token says, whose signature was verified (§2.6).

    Raises:
        Unbelievable: it is none, or not for us.
    """
    audience = claims.get("aud")
    events, issued_at, token_id = claims.get("events"), claims.get("iat"), claims.get("jti")
    subject, session = claims.get("sub", ""), claims.get("sid", "")
    expires = claims.get("exp", now)
    holds = {
        "it is of another type": header.get("typ", "JWT") in TYPES,
        "it is another login's": claims.get("iss") == issuer,
        "it is for another client": client_id in (audience if isinstance(audience, list) else [audience]),
        "it tells of no sign-out": isinstance(events, dict) and isinstance(events.get(EVENT), dict),
        "it has a nonce, as id tokens have": "nonce" not in claims,
        "it is not fresh": -SKEW_S <= now - _time(issued_at) <= FRESH_S + SKEW_S,
        "it has expired": now <= _time(expires) + SKEW_S,
        "it has no id": isinstance(token_id, str) and 0 < len(token_id) <= 256,
        "it names nobody": is_subject(subject) or is_subject(session),
        "it names somebody in a wrong way": all(each == "" or is_subject(each) for each in (subject, session)),
    }
    if fault := next((fault for fault, held in holds.items() if not held), ""):
        raise Unbelievable(f"the logout token is not believed: {fault}")
    return SignedOut(subject, session, str(token_id))


def sign_out_url(metadata: Metadata, client_id: str, id_token: str, back_to: str, state: str) -> str | None:
    """Where a browser is sent to be signed out there too; None where the provider has no such place.

    The sign-in's id token says whose it is (RP-Initiated Logout 1.0 §2); one too long for an address is left out.
    The state comes back with the person.
    """
    if metadata.end_session_endpoint is None:
        return None
    query = {"client_id": client_id, "post_logout_redirect_uri": back_to, "state": state}
    if id_token and len(id_token) <= LONGEST_HINT:
        query["id_token_hint"] = id_token
    separator = "&" if "?" in metadata.end_session_endpoint else "?"
    return f"{metadata.end_session_endpoint}{separator}{urlencode(query)}"


def _time(found: object) -> float:
    """Seconds since the epoch; before every clock where it is no number."""
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else float("-inf")
