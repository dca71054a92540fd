"""Who is calling, as verified from a token's claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pegboard.core.names import ACTING_SURFACES, SURFACES
from pegboard.core.spiffe import is_spiffe_id


@dataclass(frozen=True, slots=True)
class Caller:
    """The facts a verified token states. Times are seconds since the epoch.

    Attributes:
        act: who acts for the person, where somebody does: a registered surface, by its client id (RFC 8693 §4.1).
        signed_by: the id of the key that the token verified with; empty where no token was verified.
    """

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
    act: str | None = None
    signed_by: str = field(default="", compare=False)

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any], signed_by: str = "") -> Caller:
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
        if claims["sub_type"] == "service":
            _check_service(claims)
        act = _actor(claims)
        if not isinstance(claims.get("scope", ""), str):
            raise ValueError("scope is not a string")
        for name in ("sid", "channel", "email"):
            if not isinstance(claims.get(name), str | None):
                raise ValueError(f"{name} is not a string")
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
            act=act,
            signed_by=signed_by,
        )


def _check_service(claims: Mapping[str, Any]) -> None:
    """A service is a SPIFFE ID and nothing else: in no group, and in nobody's session."""
    if not is_spiffe_id(_text(claims, "sub")):
        raise ValueError("sub of a service is no SPIFFE ID")
    if claims["groups"] or claims.get("sid") is not None or claims.get("channel") is not None:
        raise ValueError("a service has groups, a session or a channel")


def _actor(claims: Mapping[str, Any]) -> str | None:
    """Who acts: somebody always does from a surface that works for many, and nobody from another.

    Raises:
        ValueError: it is otherwise.
    """
    act = claims.get("act")
    if (act is not None) != (claims["surface"] in ACTING_SURFACES):
        raise ValueError("act is missing, or stands where nobody acts for a person")
    if act is None:
        return None
    if not isinstance(act, dict) or act != {"sub": claims.get("client_id")}:
        raise ValueError("act names another than the client, or a chain of them")
    return _text(act, "sub")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a non-empty string")
    return value
