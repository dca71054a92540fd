"""The hub's signing keys: a ring for tokens, a ring for bundles. No other process can read their private halves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from pegboard.core.bundle import MAX_AGE_S
from pegboard.core.caller import Caller
from pegboard.core.jose import Jwks
from pegboard.core.token import MAX_LIFETIME_S, TokenVerifier
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.ring import Ring


@dataclass(frozen=True, slots=True)
class Keys:
    """The hub's keys, opened. Public halves only leave it as key sets."""

    home: Home
    tokens: Ring
    bundles: Ring

    @property
    def rings(self) -> tuple[Ring, Ring]:
        """Both rings."""
        return self.tokens, self.bundles

    @property
    def token_jwks(self) -> Jwks:
        """Public halves of all keys that tokens are verified with now."""
        return self.tokens.jwks

    @property
    def bundle_jwks(self) -> Jwks:
        """Public halves of all keys that bundles are verified with now."""
        return self.bundles.jwks

    def publish(self) -> None:
        """Put the public halves of the bundle keys where edge and servers read them; again changes nothing.

        Raises:
            OSError: the file cannot be written.
        """
        published = json.dumps(self.bundle_jwks)
        if not self.home.bundle_keys.exists() or self.home.bundle_keys.read_text(encoding="utf-8") != published:
            replace_file(self.home.bundle_keys, published)


def open_keys(home: Home, token_lifetime_s: float = MAX_LIFETIME_S, clock: Callable[[], float] = time.time) -> Keys:
    """Read the keys, making them at the first start; publish the bundles' public halves.

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
