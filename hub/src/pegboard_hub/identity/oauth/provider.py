"""What the SDK's handlers ask about clients, codes and refresh tokens (`mcp.server.auth.provider`)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl, PrivateAttr

from pegboard.core.jose import Verifier
from pegboard.core.names import api_audience, exchange_audience
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.identity.clients.model import CLIENT_ID_LENGTH, Client, Standing
from pegboard_hub.identity.clients.redirects import matches
from pegboard_hub.identity.connections.service import Answer
from pegboard_hub.identity.connections.store import Code, Refresh
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.issue import Bearer
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.storage.errors import StorageUnavailable

CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
"""What S256 gives (RFC 7636 §4.2)."""

FAULTS: tuple[tuple[Callable[[Mapping[str, str]], bool], str], ...] = (
    (
        lambda form: not CHALLENGE.fullmatch(form.get("code_challenge", "")),
        "code_challenge is not one of S256: 43 characters (RFC 7636 §4.2)",
    ),
    (
        lambda form: "code_challenge_method" not in form,
        "code_challenge_method is missing, which means plain (RFC 7636 §4.3); send S256",
    ),
    (
        lambda form: "request" in form or "request_uri" in form,
        "request objects (RFC 9101) are not read here; send every parameter by itself",
    ),
    (
        lambda form: form.get("response_mode", "query") != "query",
        "response_mode must be query, or left out: answers come in no other way",
    ),
)
"""What the SDK lets pass in an authorization request, and a client would believe that it counts."""

NOT_FOR_EVERYBODY = "is for Pegboard's own command and for clients that an operator approved; name a server instead"
"""Of the API, which tells of every server and call that the person may know of."""

NOT_KEPT = "the database takes no writes now, so nothing was issued; try again in a moment"

SIGN_IN = "/sign-in"
CONSENT = "/consent"
ACTING = "/acting"
"""Where a person lets a registered surface act for them."""
AUTHORIZE = "/oauth/authorize"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says beside what the SDK hands on.

    Attributes:
        query: of an authorization request, as it came; it is asked again after signing in and after consent.
        form: the same, read: the SDK's own copy of a redirect may be spelled otherwise.
        session: who is signed in in the browser that sends it.
        resource: of a token request.
        basic: whether the client authenticates by a header.
        registration: of a registration, the whole document.
    """

    query: str = ""
    form: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None
    resource: str = ""
    basic: bool = False
    registration: Mapping[str, Any] = field(default_factory=dict)


class KnownClient(OAuthClientInformationFull):
    """A client as the SDK's handlers see it; whether a redirect is its own, our rules decide."""

    _client: Client = PrivateAttr()
    _given: str | None = PrivateAttr(default=None)
    _public_url: str = PrivateAttr()

    @classmethod
    def of(cls, client: Client, asked: Asked, public_url: str) -> KnownClient:
        """The client, for one request."""
        method = "none" if client.secret is None else "client_secret_post"
        found = cls(
            client_id=client.client_id,
            client_name=client.name,
            client_secret=client.secret,
            token_endpoint_auth_method="client_secret_basic" if client.secret and asked.basic else method,
        )
        found._client, found._given, found._public_url = client, asked.form.get("redirect_uri"), public_url
        return found

    @property
    def client(self) -> Client:
        """Everything that is known of it."""
        return self._client

    def redirect(self) -> str:
        """Where this request's answer goes.

        Raises:
            InvalidRedirectUriError: that is not registered, which of several is not said, or it leads to Pegboard.
        """
        registered = self._client.redirect_uris
        if self._given is None and len(registered) != 1:
            raise InvalidRedirectUriError("redirect_uri must be said: the client is registered with several, or none")
        redirect = registered[0] if self._given is None else self._given
        if not any(matches(each, redirect) for each in registered):
            raise InvalidRedirectUriError("redirect_uri is not one that this client is registered with")
        # On one machine, any port of it is a client's; ours is not, and no page of ours shall be handed a code.
        if f"{redirect.partition('?')[0]}/".startswith(f"{self._public_url}/"):
            raise InvalidRedirectUriError("redirect_uri leads to Pegboard itself, not to a client")
        return redirect

    def validate_redirect_uri(self, redirect_uri: AnyUrl | None) -> AnyUrl:  # noqa: ARG002 - its base's signature
        """As `redirect`: the text as it came counts, not the SDK's reading of it."""
        return AnyUrl(self.redirect())

    def validate_scope(self, requested_scope: str | None) -> list[str] | None:
        """What was asked for; what is granted depends on the resource."""
        return requested_scope.split(" ") if requested_scope else None


class KnownCode(AuthorizationCode):
    """A code, with our record of it."""

    _code: Code = PrivateAttr()


class KnownRefresh(RefreshToken):
    """A refresh token, with our record of it."""

    _refresh: Refresh = PrivateAttr()


class Provider(OAuthAuthorizationServerProvider[KnownCode, KnownRefresh, AccessToken]):
    """The answers, for one request."""

    def __init__(self, server: AuthorizationServer, asked: Asked) -> None:
        self._server = server
        self._asked = asked

    async def get_client(self, client_id: str) -> KnownClient | None:
        """The client; a blocked one is as if there were none."""
        if len(client_id) > CLIENT_ID_LENGTH or not (client_id.isascii() and client_id.isprintable()):
            return None
        client = await self._server.clients.get(client_id)
        if client is None or client.standing is Standing.BLOCKED:
            return None
        return KnownClient.of(client, self._asked, self._server.public_url)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        """Register; every client that registers itself is a public one (RFC 7591 §3.2.1 lets us say so).

        Raises:
            RegistrationRefused: which the SDK's handler lets through.
        """
        client = await self._server.clients.register(self._asked.registration)
        client_info.client_id = client.client_id
        client_info.client_secret = client_info.client_secret_expires_at = None
        client_info.token_endpoint_auth_method = "none"  # noqa: S105 - the name of a method

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        """Where the browser goes next: to sign in, to say yes, or back to the client with a code."""
        assert isinstance(client, KnownClient)  # noqa: S101 - what `get_client` gave
        for fault, words in FAULTS:
            if fault(self._asked.form):
                raise AuthorizeError("invalid_request", words)
        if not params.resource and not client.client.any_resource and not client.client.acts:
            words = "resource is missing: say which server the token is for (RFC 8707), by its URL"
            raise AuthorizeError("invalid_target", words)
        session = self._asked.session
        if session is None:
            return self._page(SIGN_IN, {"continue": f"{AUTHORIZE}?{self._asked.query}"})
        self._check_going(session, client.client)
        resource, scope = self._scope(client.client, params)
        if client.client.acts and not await self._consented(session, client.client, scope):
            return self._page(ACTING, {"client": client.client.client_id, "request": self._asked.query})
        if client.client.asks and not await self._consented(session, client.client, scope):
            return f"{self._server.public_url}{CONSENT}?{self._asked.query}"
        try:
            return await self._code(session, client, params, resource, scope)
        except StorageUnavailable as error:
            raise AuthorizeError("temporarily_unavailable", NOT_KEPT) from error

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> KnownCode | None:
        """The code. It is used up by being looked at: whoever presents it has one try."""
        assert isinstance(client, KnownClient)  # noqa: S101 - what `get_client` gave
        taken = await self._server.connections.take_code(client.client, authorization_code)
        if taken is None:
            return None
        code = KnownCode(
            code=authorization_code,
            scopes=taken.connection.scope.split(" "),
            expires_at=taken.expires_at_ms / 1000,
            client_id=taken.connection.client_id,
            code_challenge=taken.code_challenge,
            redirect_uri=AnyUrl(taken.redirect_uri),
            redirect_uri_provided_explicitly=taken.redirect_uri_given,
            resource=taken.connection.resource,
            subject=taken.connection.sub,
        )
        code._code = taken
        return code

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: KnownCode
    ) -> OAuthToken:
        """The first tokens of the connection that the code was made for."""
        assert isinstance(client, KnownClient)  # noqa: S101 - what `get_client` gave
        connection = authorization_code._code.connection
        return await self._answer(
            await self._server.connections.first(client.client, connection, self._asked.resource)
        )

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> KnownRefresh | None:
        """The refresh token, if it is good and was never used."""
        assert isinstance(client, KnownClient)  # noqa: S101 - what `get_client` gave
        found = await self._server.connections.find_refresh(client.client, refresh_token)
        if found is None:
            return None
        known = KnownRefresh(
            token=refresh_token,
            client_id=found.connection.client_id,
            scopes=found.connection.scope.split(" "),
            expires_at=found.expires_at_ms // 1000,
        )
        known._refresh = found
        return known

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: KnownRefresh, scopes: list[str]
    ) -> OAuthToken:
        """The next tokens."""
        assert isinstance(client, KnownClient)  # noqa: S101 - what `get_client` gave
        refresh, scope = refresh_token._refresh, " ".join(scopes)
        answer = await self._server.connections.next(client.client, refresh, self._asked.resource, scope)
        return await self._answer(answer)

    async def load_access_token(self, token: str) -> AccessToken | None:
        """An access token of ours that has not expired."""
        try:
            claims = Verifier(self._server.keys.token_jwks).verify(token, TOKEN_TYPE)
        except ValueError:
            return None
        if claims["exp"] <= time.time():
            return None
        return AccessToken(token=claims["jti"], client_id=claims["client_id"], scopes=claims["scope"].split(" "))

    async def revoke_token(self, token: AccessToken | KnownRefresh) -> None:
        """End what a token belongs to; an access token is named by its `jti`."""
        if isinstance(token, KnownRefresh):
            await self._server.connections.end(token._refresh.connection.connection, "revoked")
        else:
            await self._server.connections.revoke_token(token.token)

    async def _answer(self, answer: Answer) -> OAuthToken:
        return OAuthToken(
            access_token=answer.issued.access_token,
            expires_in=answer.issued.expires_in,
            scope=answer.issued.scope,
            refresh_token=answer.refresh_token,
        )

    def _scope(self, client: Client, params: AuthorizationParams) -> tuple[str, str]:
        """Resource and scope of the connection; of a client for any resource the scope is each token's own."""
        if client.any_resource:
            return "", ""
        exchange = exchange_audience(self._server.public_url)
        resource = params.resource or (exchange if client.acts else "")
        if (resource == exchange) != client.acts:
            words = f"{resource!r} is no server; for a registered surface it is {exchange} alone, and for nobody else"
            raise AuthorizeError("invalid_target", words)
        if resource == api_audience(self._server.public_url) and client.asks:
            raise AuthorizeError("invalid_target", f"{resource} {NOT_FOR_EVERYBODY}")
        try:
            return resource, self._server.issuer.scope_for(resource, " ".join(params.scopes or ()))
        except OAuthRefused as refused:
            if refused.code == "invalid_scope":
                raise AuthorizeError("invalid_scope", refused.description) from refused
            raise AuthorizeError("invalid_target", refused.description) from refused

    def _check_going(self, session: Session, client: Client) -> None:
        """Send nobody on who would get no token: who is stopped is told so, and why."""
        bearer = Bearer(session.facts, client.client_id, client.surface, session.sid, software=client.software)
        try:
            self._server.issuer.check_going(bearer)
        except OAuthRefused as refused:
            raise AuthorizeError("access_denied", refused.description) from refused

    async def _consented(self, session: Session, client: Client, scope: str) -> bool:
        return await self._server.clients.consented(session.facts.sub, client.software, scope)

    async def _code(
        self, session: Session, client: KnownClient, params: AuthorizationParams, resource: str, scope: str
    ) -> str:
        redirect = client.redirect()
        code = await self._server.connections.open_with_code(
            session,
            client.client,
            resource,
            scope,
            redirect_uri=redirect,
            redirect_uri_given=params.redirect_uri_provided_explicitly,
            code_challenge=params.code_challenge,
        )
        # RFC 9207: the client can tell whose answer this is.
        return construct_redirect_uri(redirect, code=code, state=params.state, iss=self._server.public_url)

    def _page(self, path: str, query: dict[str, str]) -> str:
        return f"{self._server.public_url}{path}?{urlencode(query)}"
