"""Issuing access tokens: short, bound to one resource, with the final claims (design: Tokens)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pegboard.core.names import MCP_PREFIX, ServerName, api_audience
from pegboard.core.scopes import SCOPE_API, SERVER_SCOPES
from pegboard.core.token import MAX_LIFETIME_S, TOKEN_TYPE
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.identity.ring import Ring
from pegboard_hub.identity.secrets import new_id


@dataclass(frozen=True, slots=True)
class Bearer:
    """For whom a token is: the person, the client they use, and the sign-in it comes from."""

    person: PersonFacts
    client_id: str
    surface: str
    sid: str
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token as the token endpoint answers it (RFC 6749 §5.1). `expires_in` is in seconds."""

    access_token: str
    expires_in: int
    scope: str
    token_id: str

    def as_json(self) -> dict[str, Any]:
        """The response's body."""
        return {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }


class TokenIssuer:
    """Signs access tokens.

    Args:
        signer: the hub's token keys; the one that is current at the time signs.
        public_url: issuer of the tokens and base of their audience.
        is_registered: whether a server of that name can be called.
        lifetime_s: seconds a token lives; never more than `MAX_LIFETIME_S`.
        clock: seconds since the epoch.
        issued: told the surface of each token that was issued.
    """

    def __init__(
        self,
        signer: Ring,
        public_url: str,
        is_registered: Callable[[str], bool],
        lifetime_s: int = MAX_LIFETIME_S,
        clock: Callable[[], float] = time.time,
        issued: Callable[[str], None] = lambda _surface: None,
    ) -> None:
        self.public_url = public_url
        self._signer = signer
        self._is_registered = is_registered
        self._lifetime_s = min(lifetime_s, MAX_LIFETIME_S)
        self._clock = clock
        self._issued = issued

    def issue(
        self,
        bearer: Bearer,
        resource: str,
        scope: str,
        lifetime_s: int | None = None,
        known_at: float | None = None,
        ends_at: float | None = None,
    ) -> Issued:
        """A token bound to one resource (RFC 8707).

        Args:
            bearer: for whom.
            resource: a registered server's URL, or the API's.
            scope: as `scope_for` gave it.
            lifetime_s: a shorter life than the usual, in seconds; never a longer one.
            known_at: when the login told the person's groups, in seconds since the epoch: the token ends a lifetime
                after that, so that a group that was lost since is lost then. By default now.
            ends_at: when the sign-in ends, in seconds since the epoch: no token outlives it.
        """
        now = int(self._clock())
        lifetime = min(lifetime_s or self._lifetime_s, self._lifetime_s)
        expires = min(now, int(known_at if known_at is not None else now)) + lifetime
        expires = min(expires, int(ends_at if ends_at is not None else expires))
        token_id = new_id()
        claims: dict[str, Any] = {
            "iss": self.public_url,
            "sub": bearer.person.sub,
            "sub_type": "person",
            "email": bearer.person.email,
            "groups": list(bearer.person.groups),
            "client_id": bearer.client_id,
            "surface": bearer.surface,
            "scope": scope,
            "sid": bearer.sid,
            "aud": resource,
            "iat": now,
            "exp": expires,
            "jti": token_id,
        }
        if bearer.channel is not None:
            claims["channel"] = bearer.channel
        self._issued(bearer.surface)
        return Issued(self._signer.sign(claims, TOKEN_TYPE), max(expires - now, 0), scope, token_id)

    def scope_for(self, resource: str, asked: str | None = None) -> str:
        """What a token for the resource may do, of what was asked; scopes that nobody here knows are left out.

        Raises:
            OAuthRefused: the resource is none of ours, or nothing of what was asked is known for it.
        """
        offered = self._offered(resource)
        if not asked:
            return offered[0]
        granted = [scope for scope in offered if scope in asked.split(" ")]
        if not granted:
            raise OAuthRefused("invalid_scope", f"for {resource} there is {' and '.join(offered)}")
        return " ".join(granted)

    def _offered(self, resource: str) -> tuple[str, ...]:
        """The scopes of a resource, the widest first."""
        if resource == api_audience(self.public_url):
            return (SCOPE_API,)
        path = resource.removeprefix(self.public_url)
        try:
            name = ServerName.parse(path.removeprefix(MCP_PREFIX))
        except ValueError:
            name = None
        if name is None or name.resource_url(self.public_url) != resource or not self._is_registered(str(name)):
            raise OAuthRefused(
                "invalid_target",
                f"{resource!r} is no registered server; use the resource_url of one that `pegboard servers` lists, "
                f"or {api_audience(self.public_url)}",
            )
        return SERVER_SCOPES
