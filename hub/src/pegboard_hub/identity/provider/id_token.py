"""The rules by which an id token is believed, as a table (OpenID Connect Core 1.0 §3.1.3.7, §12.2; RFC 8725 §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest

from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.fetch import Json

SKEW_S = 30
"""Seconds that the provider's clock may be off."""

FRESH_S = 600
"""Seconds since it was issued: it comes straight from the provider."""

LONGEST_SUBJECT = 255


@dataclass(frozen=True, slots=True)
class Expected:
    """What it must say.

    Attributes:
        nonce: of the attempt; None for one that a renewal brought, of which §12.2 asks for none.
        subject: whom a renewal was for; None at a sign-in.
        proved_since: when the person was asked to prove who they are; None where that was not asked for.
        now: seconds since the epoch.
    """

    issuer: str
    client_id: str
    now: float
    nonce: str | None = None
    subject: str | None = None
    proved_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """An id token as it was shown, and what it must say."""

    header: Json
    claims: Json
    expected: Expected

    @property
    def audiences(self) -> list[object]:
        found = self.claims.get("aud")
        return found if isinstance(found, list) else [found]

    def age(self, name: str) -> float:
        """Seconds since the time of a claim; endless where it is no number."""
        found = self.claims.get(name)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return float("inf")
        return self.expected.now - found


RULES: dict[str, Callable[[_Shown], bool]] = {
    "it is of another type": lambda shown: shown.header.get("typ", "JWT") in ("JWT", "jwt"),
    "it is another login's": lambda shown: shown.claims.get("iss") == shown.expected.issuer,
    "it is for another client": lambda shown: shown.expected.client_id in shown.audiences,
    "it was made for another client": lambda shown: _authorized_party(shown),
    "it has expired": lambda shown: shown.age("exp") < SKEW_S,
    "it is not fresh": lambda shown: -SKEW_S <= shown.age("iat") <= FRESH_S + SKEW_S,
    "it is not of this sign-in": lambda shown: _nonce(shown),
    "it names nobody": lambda shown: is_subject(shown.claims.get("sub")),
    "it is of somebody else": lambda shown: shown.expected.subject in (None, shown.claims.get("sub")),
    "it is of a sign-in before the one that was asked for": lambda shown: _proved(shown),
}
"""Each rule by the fault of what breaks it."""


def check(header: Json, claims: Json, expected: Expected) -> None:
    """Hold an id token, whose signature was verified, to every rule.

    Raises:
        Unbelievable: it breaks one; the first is named.
    """
    shown = _Shown(header, claims, expected)
    for fault, holds in RULES.items():
        if not holds(shown):
            raise Unbelievable(f"the id token is not believed: {fault}")


def proved_at(claims: Json) -> float | None:
    """When the person proved who they are, as far as the token tells (`auth_time`, §2)."""
    found = claims.get("auth_time")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def is_subject(found: object) -> bool:
    """Whether it can be a `sub`: at most 255 ASCII characters (§2), here printable ones without spaces."""
    return (
        isinstance(found, str)
        and 0 < len(found) <= LONGEST_SUBJECT
        and found.isascii()
        and found.isprintable()
        and " " not in found
    )


def _authorized_party(shown: _Shown) -> bool:
    if "azp" in shown.claims:
        return bool(shown.claims["azp"] == shown.expected.client_id)
    return len(shown.audiences) == 1


def _proved(shown: _Shown) -> bool:
    """§3.1.3.7 rule 13. Providers that leave `auth_time` out are believed to have done as `prompt=login` said."""
    if shown.expected.proved_since is None or "auth_time" not in shown.claims:
        return True
    found = proved_at(shown.claims)
    return found is not None and found >= shown.expected.proved_since - SKEW_S


def _nonce(shown: _Shown) -> bool:
    if shown.expected.nonce is None:
        return True
    found = shown.claims.get("nonce")
    return isinstance(found, str) and compare_digest(found.encode(), shown.expected.nonce.encode())
