"""What a code, a refresh token or an access token is exchanged for at the provider."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from pegboard_hub.identity.person import LoginEnded, LoginRefused, LoginUnavailable
from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.fetch import Answer, Fetcher, Json
from pegboard_hub.identity.provider.metadata import Metadata
from pegboard_hub.identity.settings import Provider

log = logging.getLogger(__name__)

REFUSED = "The company's login did not finish the sign-in. Sign in again."
NOT_SET_UP = "The company's login does not accept Pegboard. Tell the platform team: its log says why."

ABOUT_US = ("invalid_client", "invalid_scope", "server_error", "temporarily_unavailable", "unauthorized_client")
"""Errors of a renewal that say nothing of the person (RFC 6749 §5.2). Of all others, `invalid_grant` first, the
person is the reason: some providers say `invalid_request` of one who is locked, or `interaction_required`."""


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """What came back; each empty where it did not."""

    access: str
    id: str
    refresh: str


class Exchange:
    """Asks the token and userinfo endpoints, as the client that Pegboard is there."""

    def __init__(self, provider: Provider, secret: str | None, fetcher: Fetcher) -> None:
        self._provider = provider
        self._secret = secret
        self._fetcher = fetcher

    async def code(self, metadata: Metadata, code: str, redirect_uri: str, verifier: str) -> Tokens:
        """Exchange a code (RFC 6749 §4.1.3, RFC 7636 §4.5).

        Raises:
            LoginRefused: the provider does not take it.
            LoginUnavailable: the provider does not answer.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._post(metadata, form)
        if not answer.well:
            log.warning("the login refused a code", extra={"status": answer.status, "error": answer.error})
            raise LoginRefused(REFUSED if answer.error == "invalid_grant" else NOT_SET_UP)
        return _tokens(answer)

    async def refresh(self, metadata: Metadata, token: str) -> Tokens:
        """Exchange a refresh token (RFC 6749 §6).

        Raises:
            LoginEnded: the sign-in that it came of is over.
            LoginUnavailable: the provider does not answer, or does not take Pegboard: nothing is known of the person.
        """
        answer = await self._post(metadata, {"grant_type": "refresh_token", "refresh_token": token})
        if answer.well:
            return _tokens(answer)
        log.warning("the login refused to renew", extra={"status": answer.status, "error": answer.error})
        if not answer.error or answer.error in ABOUT_US:
            raise LoginUnavailable(NOT_SET_UP)
        raise LoginEnded("the login says that the sign-in is over")

    async def userinfo(self, metadata: Metadata, access: str) -> Json | None:
        """What the userinfo endpoint says (OpenID Connect Core 1.0 §5.3); None where it is not to be asked.

        Raises:
            LoginEnded: it takes the access token no more.
            LoginUnavailable: it does not answer.
            Unbelievable: it answers with something else.
        """
        if metadata.userinfo_endpoint is None or not self._provider.userinfo or not access:
            return None
        answer = await self._fetcher.get(metadata.userinfo_endpoint, access)
        if answer.status in (400, 401, 403):
            raise LoginEnded("the login says nothing more of this person")
        if not answer.well or not answer.document:
            raise Unbelievable(f"userinfo is no JSON object (status {answer.status})")
        return answer.document

    async def _post(self, metadata: Metadata, form: Mapping[str, str]) -> Answer:
        client_id, secret = self._provider.client_id, self._secret
        if secret is None:
            return await self._fetcher.post(metadata.token_endpoint, {**form, "client_id": client_id}, {})
        if self._way(metadata) == "post":
            more = {"client_id": client_id, "client_secret": secret}
            return await self._fetcher.post(metadata.token_endpoint, {**form, **more}, {})
        # RFC 6749 §2.3.1: each is form-encoded before the two are joined.
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        headers = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        return await self._fetcher.post(metadata.token_endpoint, form, headers)

    def _way(self, metadata: Metadata) -> str:
        if self._provider.authentication:
            return self._provider.authentication
        supported = metadata.token_endpoint_auth_methods_supported
        return "post" if "client_secret_basic" not in supported and "client_secret_post" in supported else "basic"


def _tokens(answer: Answer) -> Tokens:
    found = (answer.document.get(name) for name in ("access_token", "id_token", "refresh_token"))
    return Tokens(*(each if isinstance(each, str) else "" for each in found))
