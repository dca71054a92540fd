"""What a registered surface signs: who it is, and whose message it acts on. Each is good once, within a minute.

| | `typ` | `iss` | `sub` | more |
|---|---|---|---|---|
| client assertion (RFC 7523 §3) | `JWT`, `client-authentication+jwt` | its client id | the same | |
| author's statement | `pegboard-author+jwt` | its client id | the person | `channel`, of a bot |

Both say `aud`, the issuer's URL; `iat`, `exp` and `jti`. The types keep either from being taken for the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from pegboard.core.jose import Jwks, Verifier
from pegboard.core.token import CLOCK_SKEW_S

CLIENT_TYPES = ("JWT", "client-authentication+jwt")
AUTHOR_TYPE = "pegboard-author+jwt"

MOST_S = 60
"""Seconds from `iat` to `exp`, at most."""

LONGEST = 4096
"""Characters of one; a real one has some 400."""

LONGEST_ID = 255

Kind = Literal["client", "author"]


class AssertionRefused(Exception):
    """It is not believed; the words are for whoever builds the surface."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One that was verified. `until_ms` is when it has expired anyway, in milliseconds since the epoch."""

    kind: Kind
    sub: str
    channel: str | None
    jti: str
    until_ms: int

    @property
    def digest(self) -> str:
        """By what it is remembered once it was used."""
        return sha256(f"{self.kind} {self.jti}".encode()).hexdigest()


def read_assertion(text: str, kind: Kind, client_id: str, keys: Jwks, issuer: str, now: float) -> Assertion:
    """Verify one.

    Args:
        text: as it came.
        kind: what it must be.
        client_id: of the surface that must have signed it.
        keys: the surface's.
        issuer: of tokens here.
        now: seconds since the epoch.

    Raises:
        AssertionRefused: it is not one of that surface's, is for somebody else, or not of now.
    """
    claims = _verified(text, CLIENT_TYPES if kind == "client" else (AUTHOR_TYPE,), keys)
    if claims.get("iss") != client_id:
        raise AssertionRefused("iss is not the client id")
    # One, and as text: what names several could be carried on from one of them (draft-ietf-oauth-rfc7523bis §3).
    if claims.get("aud") not in (issuer, f"{issuer}/oauth/token"):
        raise AssertionRefused(f"aud is not {issuer}")
    sub, jti = _text(claims, "sub"), _text(claims, "jti")
    if kind == "client" and sub != client_id:
        raise AssertionRefused("sub is not the client id")
    channel = _text(claims, "channel") if kind == "author" and claims.get("channel") is not None else None
    return Assertion(kind, sub, channel, jti, _until_ms(claims, now))


def _verified(text: str, types: tuple[str, ...], keys: Jwks) -> dict[str, Any]:
    if len(text) <= LONGEST:
        verifier = Verifier(keys)
        for typ in types:
            try:
                return verifier.verify(text, typ)
            except ValueError:
                continue
    raise AssertionRefused(
        f"it is no JWT of at most {LONGEST} characters, of the type {' or '.join(types)}, signed in ES256 with a "
        "registered key that its header names by kid"
    )


def _until_ms(claims: Mapping[str, Any], now: float) -> int:
    issued, expires = claims.get("iat"), claims.get("exp")
    if type(issued) is not int or type(expires) is not int or not 0 < expires - issued <= MOST_S:
        raise AssertionRefused(f"exp is not 1 to {MOST_S} seconds after iat")
    if issued - CLOCK_SKEW_S > now:
        raise AssertionRefused("iat lies in the future")
    if expires + CLOCK_SKEW_S <= now:
        raise AssertionRefused("it has expired")
    not_before = claims.get("nbf", issued)
    if type(not_before) is not int or not_before - CLOCK_SKEW_S > now:
        raise AssertionRefused("nbf lies in the future")
    return (expires + CLOCK_SKEW_S + 1) * 1000


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or not value.isprintable():
        raise AssertionRefused(f"{name} is missing, or is not a short text")
    return value
