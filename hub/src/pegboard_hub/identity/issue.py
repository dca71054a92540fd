"""Issuing access tokens: short, bound to one resource, with the final claims (design: Tokens)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pegboard.core.names import ACTING_SURFACES, MCP_PREFIX, SERVICE, ServerName, api_audience, exchange_audience
from pegboard.core.scopes import SCOPE_API, SCOPE_SUBMIT, SCOPE_TOOLS_READ, SERVER_SCOPES
from pegboard.core.stops import ASK, CallerKind, Stops, told
from pegboard.core.token import MAX_LIFETIME_S, TOKEN_TYPE
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.identity.ring import Ring
from pegboard_hub.identity.secrets import new_id

SUBJECT_TYPE = "pegboard-subject+jwt"
"""`typ` of what a person's sign-in to a registered surface leads to. It is no access token: no server takes it."""

SERVICE_LIFETIME_S = 5 * 60
"""Seconds that a service's token lives, at most."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """For whom a token is: the person, the client they use, and the sign-in it comes from.

    Attributes:
        software: of the client, where it may have several ids.
        acts: whether the client acts for the person, as registered surfaces do.
    """

    person: PersonFacts
    client_id: str
    surface: str
    sid: str
    channel: str | None = None
    software: str = ""
    acts: bool = False


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
        noted: writes down the claims of each token before it is signed.
        stops: tells who is stopped: they get no token, and what they come with stays good for when they are resumed.
    """

    def __init__(
        self,
        signer: Ring,
        public_url: str,
        is_registered: Callable[[str], bool],
        lifetime_s: int = MAX_LIFETIME_S,
        clock: Callable[[], float] = time.time,
        issued: Callable[[str], None] = lambda _surface: None,
        noted: Callable[[Mapping[str, Any]], None] = lambda _claims: None,
        *,
        stops: Callable[[], Stops],
    ) -> None:
        self._stops = stops
        self.public_url = public_url
        self._signer = signer
        self._is_registered = is_registered
        self._lifetime_s = min(lifetime_s, MAX_LIFETIME_S)
        self._clock = clock
        self._issued = issued
        self._noted = noted

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

        Raises:
            OAuthRefused: the person, the client or the surface is stopped.
        """
        self.check_going(bearer)
        typ = self._type(bearer, resource)
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
        if bearer.acts:
            claims["act"] = {"sub": bearer.client_id}
        return Issued(self._signed(claims, typ), max(expires - now, 0), scope, token_id)

    def _type(self, bearer: Bearer, resource: str) -> str:
        """What kind of token it is: from surfaces that act for many, somebody acts, or it is for exchange alone.

        Raises:
            OAuthRefused: it is neither.
        """
        for_exchange = resource == exchange_audience(self.public_url)
        may_exchange = bearer.surface in ACTING_SURFACES and not bearer.acts
        if for_exchange and not may_exchange:
            raise OAuthRefused("invalid_target", f"{resource!r} is no server; it is for registered surfaces alone")
        if may_exchange and not for_exchange:
            words = f"a token from {bearer.surface} comes of token exchange alone (RFC 8693), by a registered surface"
            raise OAuthRefused("unauthorized_client", words)
        return SUBJECT_TYPE if for_exchange else TOKEN_TYPE

    def _signed(self, claims: Mapping[str, Any], typ: str) -> str:
        """Every token of the hub's is signed here: it is noted before anybody has it."""
        self._noted(claims)
        self._issued(claims["surface"])
        return self._signer.sign(claims, typ)

    def check_going(self, bearer: Bearer) -> None:
        """See to it that neither person, client nor surface is stopped.

        Raises:
            OAuthRefused: one is; it says why.
        """
        stops = self._stops()
        _refuse_stopped(
            {
                "surface": stops.surfaces.get(bearer.surface),
                "client": stops.clients.get(bearer.client_id) or stops.clients.get(bearer.software),
                "person": stops.people.get(bearer.person.sub),
            }
        )

    def check_service_going(self, spiffe_id: str) -> None:
        """See to it that neither the service nor its surface is stopped.

        Raises:
            OAuthRefused: one is; it says why.
        """
        stops = self._stops()
        _refuse_stopped(
            {
                "surface": stops.surfaces.get(SERVICE),
                "client": stops.clients.get(spiffe_id),
                "service": stops.services.get(spiffe_id),
            }
        )

    def issue_service(self, spiffe_id: str, resource: str, ends_at: float) -> Issued:
        """A service's token, which calls what only reads; for the API, one that submits releases and does no more.

        Args:
            spiffe_id: whose.
            resource: a registered server's URL, or the API's.
            ends_at: when its certificate ends, in seconds since the epoch: no token outlives it.

        Raises:
            OAuthRefused: the service or its surface is stopped.
        """
        self.check_service_going(spiffe_id)
        now = int(self._clock())
        expires = min(now + min(self._lifetime_s, SERVICE_LIFETIME_S), int(ends_at))
        token_id = new_id()
        scope = SCOPE_SUBMIT if resource == api_audience(self.public_url) else SCOPE_TOOLS_READ
        claims: dict[str, Any] = {
            "iss": self.public_url,
            "sub": spiffe_id,
            "sub_type": "service",
            "groups": [],
            "client_id": spiffe_id,
            "surface": SERVICE,
            "scope": scope,
            "aud": resource,
            "iat": now,
            "exp": expires,
            "jti": token_id,
        }
        return Issued(self._signed(claims, TOKEN_TYPE), max(expires - now, 0), scope, token_id)

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
        if resource == exchange_audience(self.public_url):
            return SERVER_SCOPES
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


def _refuse_stopped(found: Mapping[CallerKind, str | None]) -> None:
    """Refuse by the first stop that has a reason."""
    for kind, why in found.items():
        if why:
            raise OAuthRefused("access_denied", f"{told(kind, why)}. {ASK}")
