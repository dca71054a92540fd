"""Issuing access tokens: short, bound to one resource, with the final claims (design: Tokens)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pegboard.core.caller import Caller
from pegboard.core.names import MCP_PREFIX, ServerName, api_audience
from pegboard.core.token import MAX_LIFETIME_S, TOKEN_TYPE
from pegboard_hub.identity.directory import DemoDirectory, Person
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.ring import Ring

DEMO_GRANT = "urn:pegboard:params:oauth:grant-type:demo-person"

SCOPE_TOOLS = "tools"
SCOPE_API = "api"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token response (RFC 6749 §5.1). `expires_in` is in seconds."""

    access_token: str
    expires_in: int
    scope: str

    def as_json(self) -> dict[str, Any]:
        """The response's body."""
        return {
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }


class DemoSignIn:
    """Tokens for the people of the demo directory.

    Args:
        directory: the people and clients.
        signer: the hub's token keys; the one that is current at the time signs.
        public_url: issuer of the tokens and base of their audience.
        is_registered: whether a server of that name can be called.
        lifetime_s: seconds a token lives; never more than `MAX_LIFETIME_S`.
        clock: seconds since the epoch.
        issued: told the surface of each token that was issued.
    """

    def __init__(
        self,
        directory: DemoDirectory,
        signer: Ring,
        public_url: str,
        is_registered: Callable[[str], bool],
        lifetime_s: int = MAX_LIFETIME_S,
        clock: Callable[[], float] = time.time,
        issued: Callable[[str], None] = lambda _surface: None,
    ) -> None:
        self.directory = directory
        self._signer = signer
        self._public_url = public_url
        self._is_registered = is_registered
        self._lifetime_s = min(lifetime_s, MAX_LIFETIME_S)
        self._clock = clock
        self._issued = issued

    def issue(
        self, person: str, surface: str, channel: str | None, resource: str, lifetime_s: int | None = None
    ) -> Issued:
        """A token for one person on one surface, bound to one resource (RFC 8707).

        Args:
            person: name in the directory.
            surface: where the calls will come from.
            channel: the bot's channel.
            resource: a registered server's URL, or the API's.
            lifetime_s: a shorter life than the usual, in seconds; never a longer one.

        Raises:
            OAuthRefused: person, surface, channel or resource is not one of the known ones, which are named.
        """
        caller = self.caller(person, surface, channel)
        scope = self._scope(resource)
        now = int(self._clock())
        lifetime = min(lifetime_s or self._lifetime_s, self._lifetime_s)
        claims: dict[str, Any] = {
            "iss": self._public_url,
            "sub": caller.sub,
            "sub_type": caller.sub_type,
            "email": caller.email,
            "groups": list(caller.groups),
            "client_id": caller.client_id,
            "surface": caller.surface,
            "scope": scope,
            "sid": uuid.uuid4().hex,
            "aud": resource,
            "iat": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
        }
        if caller.channel is not None:
            claims["channel"] = caller.channel
        self._issued(surface)
        return Issued(self._signer.sign(claims, TOKEN_TYPE), lifetime, scope)

    def caller(self, person: str, surface: str, channel: str | None = None) -> Caller:
        """The caller a person of the directory would be on a surface; bound to nothing yet.

        Raises:
            OAuthRefused: as `issue`.
        """
        found = self.directory.people.get(person)
        if found is None:
            known = ", ".join(self.directory.people)
            raise OAuthRefused("invalid_grant", f"unknown person {person!r}; the demo directory has {known}")
        client_id = self._client(surface, channel)
        return _caller(person, found, surface, client_id, channel)

    def _client(self, surface: str, channel: str | None) -> str:
        found = self.directory.client_of(surface)
        if found is None:
            known = ", ".join(self.directory.surfaces)
            raise OAuthRefused("invalid_request", f"unknown surface {surface!r}; known are {known}")
        client_id, client = found
        if channel is not None and channel not in client.channels:
            known = ", ".join(client.channels) or "none"
            raise OAuthRefused("invalid_request", f"{client_id} is not in channel {channel!r}; its channels: {known}")
        return client_id

    def _scope(self, resource: str) -> str:
        if resource == api_audience(self._public_url):
            return SCOPE_API
        path = resource.removeprefix(self._public_url)
        try:
            name = ServerName.parse(path.removeprefix(MCP_PREFIX))
        except ValueError:
            name = None
        if name is None or name.resource_url(self._public_url) != resource or not self._is_registered(str(name)):
            raise OAuthRefused(
                "invalid_target",
                f"{resource!r} is no registered server; use the resource_url of one that `pegboard servers` lists, "
                f"or {api_audience(self._public_url)}",
            )
        return SCOPE_TOOLS


def _caller(sub: str, person: Person, surface: str, client_id: str, channel: str | None) -> Caller:
    return Caller(
        sub=sub,
        sub_type="person",
        groups=person.groups,
        surface=surface,
        client_id=client_id,
        audience="",
        expires_at=0,
        token_id="",
        email=person.email,
        channel=channel,
    )
