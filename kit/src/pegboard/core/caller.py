"""Who is calling, as verified from a token's claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pegboard.core.names import SURFACES


@dataclass(frozen=True, slots=True)
class Caller:
    """The facts a verified token states. Times are seconds since the epoch."""

    sub: str
    sub_type: Literal["person", "service"]
    groups: tuple[str, ...]
    surface: str
    client_id: str
    audience: str
    expires_at: int
    token_id: str
    email: str | None = None
    channel: str | None = None
    session: str | None = None
    scope: str = ""

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Caller:
        """Read final claims (design: Tokens).

        Raises:
            ValueError: a claim is missing or has the wrong type.
        """
        groups = claims.get("groups")
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise ValueError("groups is not a list of strings")
        if claims.get("sub_type") not in ("person", "service"):
            raise ValueError("sub_type is neither person nor service")
        if claims.get("surface") not in SURFACES:
            raise ValueError("surface is unknown")
        if not isinstance(claims.get("scope", ""), str) or not isinstance(claims.get("sid"), str | None):
            raise ValueError("scope or sid is not a string")
        return cls(
            sub=_text(claims, "sub"),
            sub_type=claims["sub_type"],
            groups=tuple(groups),
            surface=claims["surface"],
            client_id=_text(claims, "client_id"),
            audience=_text(claims, "aud"),
            expires_at=int(claims["exp"]),
            token_id=_text(claims, "jti"),
            email=claims.get("email"),
            channel=claims.get("channel"),
            session=claims.get("sid"),
            scope=claims.get("scope", ""),
        )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a non-empty string")
    return value
