"""Access tokens: verifying them, the same way at the hub's API and in every server.

The edge does the same in Envoy's own code. Claims and lifetimes: design, Tokens. Rules: RFC 9068 (at+jwt),
RFC 8707 (audience = one resource), RFC 8725 §3 (one algorithm, explicit type).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from pegboard.core.caller import Caller
from pegboard.core.errors import TokenRefused
from pegboard.core.jose import Jwks, Verifier, kid_of

TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type, not a secret
CLOCK_SKEW_S = 5
"""One skew at both layers."""

MAX_LIFETIME_S = 15 * 60

REASONS = {
    "token_missing": "no bearer token came with the request",
    "token_invalid": "the token is not one of ours, or was changed",
    "token_expired": "the token has expired",
    "token_not_yet_valid": "the token's issue time lies in the future",
    "token_wrong_issuer": "the token was issued by somebody else",
    "token_wrong_audience": "the token is bound to another server",
    "token_bad_claims": "the token lacks claims that Pegboard needs",
    "token_revoked": "the sign-in it came from has ended, or the token or its client was revoked",
}


class TokenVerifier:
    """Verifies bearer tokens for one audience and remembers the verified ones by their hash.

    A hit in the memory still checks expiry; a change of keys makes a new verifier, so nothing outlives its key.
    """

    def __init__(self, keys: Jwks, issuer: str, audience: str, cache_size: int = 4096) -> None:
        self._verifier = Verifier(keys)
        self._issuer = issuer
        self._audience = audience
        self._cache: OrderedDict[bytes, Caller] = OrderedDict()
        self._cache_size = cache_size

    def believes(self, caller: Caller) -> bool:
        """Whether the key that the caller's token verified with is still one of these."""
        return caller.signed_by in self._verifier.kids

    def verify(self, token: str, now: float) -> Caller:
        """The caller a token stands for at time `now` (seconds since the epoch).

        Raises:
            TokenRefused: with a reason from `REASONS`.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        caller = self._cache.get(digest)
        if caller is None:
            caller = self._verify_new(token, now)
            self._cache[digest] = caller
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        if caller.expires_at + CLOCK_SKEW_S <= now:
            self._cache.pop(digest, None)
            raise TokenRefused("token_expired")
        return caller

    def _verify_new(self, token: str, now: float) -> Caller:
        try:
            claims = self._verifier.verify(token, TOKEN_TYPE, unique=True)
        except ValueError as error:
            raise TokenRefused("token_invalid") from error
        if claims.get("iss") != self._issuer:
            raise TokenRefused("token_wrong_issuer")
        if claims.get("aud") != self._audience:
            raise TokenRefused("token_wrong_audience")
        _check_times(claims, now)
        try:
            return Caller.from_claims(claims, kid_of(token))
        except (KeyError, TypeError, ValueError) as error:
            raise TokenRefused("token_bad_claims") from error


def _check_times(claims: dict[str, Any], now: float) -> None:
    issued, expires = claims.get("iat"), claims.get("exp")
    if type(issued) is not int or type(expires) is not int or expires - issued > MAX_LIFETIME_S:
        raise TokenRefused("token_bad_claims")
    if issued - CLOCK_SKEW_S > now:
        raise TokenRefused("token_not_yet_valid")
    if expires + CLOCK_SKEW_S <= now:
        raise TokenRefused("token_expired")
