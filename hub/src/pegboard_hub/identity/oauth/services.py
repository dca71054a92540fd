"""Tokens for services (RFC 6749 §4.4, client credentials). The credential is the certificate that the edge verified.

At the port for services the edge takes only certificates of the operator's trust domains, and writes whose it was
into headers that it removes everywhere else (`common.requests.SPIFFE_HEADER`). Nothing that a request says of itself
names the service (RFC 8705 §2, mutual TLS as client authentication).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pegboard.core.caller import Caller
from pegboard.core.names import SERVICE, api_audience
from pegboard.core.scopes import SCOPE_SUBMIT, SCOPE_TOOLS_READ
from pegboard.core.spiffe import is_spiffe_id, trust_domain_of
from pegboard_hub.common.requests import SPIFFE_ENDS_HEADER, SPIFFE_HEADER, SPIFFE_ISSUER_HEADER, word_of_edge
from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.oauth.answers import NO_STORE
from pegboard_hub.identity.oauth.forms import Form
from pegboard_hub.identity.oauth.token import SERVICE_GRANT, Grant

log = logging.getLogger(__name__)

MayCall = Callable[[Caller], Awaitable[str]]
"""Why a service gets no token for what it would be bound to; empty where it does."""


def service_grant(
    issuer: TokenIssuer,
    settings: ServiceSettings,
    may_call: MayCall,
    refused: Callable[[str], None] = lambda _error: None,
    clock: Callable[[], float] = time.time,
    leaked: Callable[[], frozenset[str]] = frozenset,
) -> Grant:
    """The grant of the token endpoint.

    Args:
        issuer: of tokens.
        settings: whose services count.
        may_call: the rules of access.
        refused: told the error of each request that is refused.
        clock: seconds since the epoch.
        leaked: names of keys that were given up, authorities' among them.
    """

    async def exchange(request: Request, form: Form) -> Response:
        try:
            spiffe_id, ends_at = _verified(request, form, settings, clock())
            _check_authority(request, leaked())
            issuer.check_service_going(spiffe_id)
            resource = await _asked(form, spiffe_id, may_call, issuer.public_url)
        except OAuthRefused as error:
            refused(error.code)
            log.info("service refused", extra={"error": error.code, "why": error.description})
            raise
        issued = issuer.issue_service(spiffe_id, resource, ends_at)
        log.info("token issued", extra={"sub": spiffe_id, "resource": resource, "grant_type": SERVICE_GRANT})
        return JSONResponse(issued.as_json(), headers=NO_STORE)

    return exchange


def _verified(request: Request, form: Form, settings: ServiceSettings, now: float) -> tuple[str, float]:
    """Whose certificate it is, and when it ends.

    Raises:
        OAuthRefused: there was none, it names nobody or several, or the request says something else.
    """
    spiffe_id, ends = word_of_edge(request, SPIFFE_HEADER), word_of_edge(request, SPIFFE_ENDS_HEADER)
    if not spiffe_id or not (ends.isascii() and ends.isdigit()):
        words = f"{SERVICE_GRANT} is for services: ask on port {settings.port}, with an X.509 SVID"
        raise OAuthRefused("invalid_client", words)
    if not is_spiffe_id(spiffe_id):
        raise OAuthRefused("invalid_client", "the certificate has not one SPIFFE ID with a path (X509-SVID §2)")
    if trust_domain_of(spiffe_id) not in settings.trust_domains:
        raise OAuthRefused("invalid_client", f"{trust_domain_of(spiffe_id)} is no trust domain that counts here")
    if float(ends) <= now:
        raise OAuthRefused("invalid_client", "the certificate of this connection has expired; open another")
    if "authorization" in request.headers or {"client_secret", "client_assertion"} & form.keys():
        raise OAuthRefused("invalid_request", "the certificate is the credential; send no other")
    if form.get("client_id", spiffe_id) != spiffe_id:
        raise OAuthRefused("invalid_client", f"client_id is not the certificate's SPIFFE ID, {spiffe_id}")
    return spiffe_id, float(ends)


def _check_authority(request: Request, leaked: frozenset[str]) -> None:
    """See to it that the certificate is of no authority that was given up: its connection may be older than that.

    Raises:
        OAuthRefused: it is, or the edge does not say whose it is.
    """
    authority = word_of_edge(request, SPIFFE_ISSUER_HEADER).removeprefix("CN=")
    if leaked and (not authority or authority in leaked):
        words = "the certificate of this connection is of an authority that was given up; get another certificate"
        raise OAuthRefused("invalid_client", words)


async def _asked(form: Form, spiffe_id: str, may_call: MayCall, public_url: str) -> str:
    """The server, or the API, that the token is asked for.

    Raises:
        OAuthRefused: it is none that this service may call, or more is asked than services get.
    """
    resource = form.needed("resource")
    offered = SCOPE_SUBMIT if resource == api_audience(public_url) else SCOPE_TOOLS_READ
    scope = form.get("scope", offered)
    if scope != offered:
        raise OAuthRefused("invalid_scope", f"for services there is {offered} alone")
    caller = Caller(
        sub=spiffe_id,
        sub_type="service",
        groups=(),
        surface=SERVICE,
        client_id=spiffe_id,
        audience=resource,
        expires_at=0,
        token_id="",
        scope=scope,
    )
    if why := await may_call(caller):
        raise OAuthRefused("invalid_target", why)
    return resource
