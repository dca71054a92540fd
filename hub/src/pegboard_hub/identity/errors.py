"""Errors of signing in, in the form of RFC 6749 §5.2, RFC 8707 §2 and RFC 8628 §3.5."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

OAuthCode = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
    "temporarily_unavailable",
    "authorization_pending",
    "slow_down",
    "access_denied",
    "expired_token",
]


class OAuthRefused(PegboardError):
    """A token request that is answered with an OAuth error; the description is for the person who made it."""

    def __init__(self, code: OAuthCode, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"{code}: {description}")
