"""The hub's signing keys: a ring each for tokens, bundles and releases. No other process can read their secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pegboard.core.bundle import MAX_AGE_S
from pegboard.core.caller import Caller
from pegboard.core.jose import Jwks, Verifier
from pegboard.core.token import MAX_LIFETIME_S, TokenVerifier
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.ring import Ring

RELEASES_S = 10 * 365 * 86_400
"""Seconds for which the signature of a release is good: one may serve for years, and an old one be gone back to."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The hub's keys, opened. Public halves only leave it as key sets."""

    home: Home
    tokens: Ring
    bundles: Ring
    releases: Ring

    @property
    def rings(self) -> tuple[Ring, Ring]:
        """Those whose keys everybody who runs must know before they sign: of what is verified at each call."""
        return self.tokens, self.bundles

    @property
    def token_jwks(self) -> Jwks:
        """Public halves of all keys that tokens are verified with now."""
        return self.tokens.jwks

    @property
    def bundle_jwks(self) -> Jwks:
        """Public halves of all keys that bundles are verified with now."""
        return self.bundles.jwks

    @property
    def release_jwks(self) -> Jwks:
        """Public halves of all keys that releases are verified with now."""
        return self.releases.jwks

    def verify_token(self, text: str, typ: str) -> dict[str, Any]:
        """What a token of that type says that these keys signed; whatever it is for, and whether or not it has ended.

        Raises:
            ValueError: it is none.
        """
        return Verifier(self.token_jwks).verify(text, typ)

    def publish(self) -> None:
        """Put the public halves where edge, servers and runtimes read them; again changes nothing.

        Raises:
            OSError: a file cannot be written.
        """
        for path, jwks in ((self.home.bundle_keys, self.bundle_jwks), (self.home.release_keys, self.release_jwks)):
            published = json.dumps(jwks)
            if not path.exists() or path.read_text(encoding="utf-8") != published:
                replace_file(path, published)


def open_keys(home: Home, token_lifetime_s: float = MAX_LIFETIME_S, clock: Callable[[], float] = time.time) -> Keys:
    """Read the keys, making them at the first start; publish the public halves.

    Args:
        home: of the instance.
        token_lifetime_s: the longest lifetime of a token that will be signed.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a ring cannot be read, is open to others, holds no key, or is of a newer version.
        OSError: the public halves cannot be written.
    """
    keys = Keys(
        home,
        Ring(home.token_ring, "tokens", token_lifetime_s, clock()),
        Ring(home.bundle_ring, "bundles", MAX_AGE_S, clock()),
        Ring(home.release_ring, "releases", RELEASES_S, clock()),
    )
    keys.publish()
    return keys


class RingVerifier:
    """Verifies tokens for one audience with the keys that a ring has at the time."""

    def __init__(self, ring: Ring, issuer: str, audience: str) -> None:
        self._ring = ring
        self._issuer = issuer
        self._audience = audience
        self._renew()

    def verify(self, token: str, now: float) -> Caller:
        """The caller a token stands for at `now`, in seconds since the epoch.

        Raises:
            TokenRefused: as `TokenVerifier.verify`.
        """
        if self._ring.jwks is not self._jwks:
            self._renew()
        return self._tokens.verify(token, now)

    def _renew(self) -> None:
        self._jwks = self._ring.jwks
        self._tokens = TokenVerifier(self._jwks, self._issuer, self._audience)
