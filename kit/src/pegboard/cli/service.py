"""Asking as a service: a CI job's certificate gets the token, and no secret is kept anywhere."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

import httpx2

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import API_S, CONNECT_S, Token, document, not_pegboard, reaching, trusts_proxies
from pegboard.cli.text import line

SVID_VARIABLE = "PEGBOARD_SVID"
"""Where a job has its X.509 SVID: a folder, as `pegboard svid` and SPIRE's spiffe-helper write it."""

CERTIFICATE, KEY, AUTHORITIES = "svid.pem", "svid_key.pem", "bundle.pem"
METADATA = "/.well-known/oauth-authorization-server"
EARLY_S = 30.0
"""Seconds before its end at which a token is replaced."""


class Service:
    """A program with an X.509 SVID, and the tokens that it gets by it.

    Args:
        folder: with the certificate, its key, and the authorities that the edge's certificate is of.
        url: the instance's public address.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._token: Token | None = None
        self._until = 0.0

    def token(self, resource: str) -> Token:
        """A token for one resource (RFC 8705 §2, RFC 6749 §4.4), the last one while it lives.

        Raises:
            Failure: no certificate, no port for services, refused, or unreachable.
        """
        if self._token is None or self._token.resource != resource or time.monotonic() >= self._until:
            answer = self._asked(resource)
            self._token = Token(str(answer["access_token"]), resource, answer)
            lives = answer.get("expires_in")
            self._until = time.monotonic() + (lives if isinstance(lives, int) else 0) - EARLY_S
        return self._token

    def drop(self) -> None:
        """Forget the token: it was refused."""
        self._token = None

    def _asked(self, resource: str) -> dict[str, Any]:
        endpoint = self._endpoint()
        form = {"grant_type": "client_credentials", "resource": resource}
        mend = "Is it still good, and of a trust domain that counts there? SPIRE, or pegboard svid, renews it."
        try:
            with self._client(endpoint, self._context()) as client:
                response = client.post(endpoint, data=form)
        except httpx2.TransportError as error:
            message = f"No token: {endpoint} does not take this job's certificate, or does not answer: {line(error)}."
            raise Failure.here(ExitStatus.UNREACHABLE, "no_service_token", message, mend) from error
        answer = document(response)
        if response.is_success and answer is not None and isinstance(answer.get("access_token"), str):
            return answer
        code = (answer or {}).get("error")
        if not isinstance(code, str):
            raise not_pegboard(endpoint)
        said = line((answer or {}).get("error_description") or code)
        failure = Failure.here(ExitStatus.DENIED, code, f"No token for this job: {said}.")
        failure.error["layer"] = "hub"
        raise failure

    def _endpoint(self) -> str:
        """Where services ask for tokens, as the instance tells it."""
        with reaching(self._url), self._client(self._url) as client:
            told = document(client.get(f"{self._url}{METADATA}"))
        aliases = (told or {}).get("mtls_endpoint_aliases")
        endpoint = aliases.get("token_endpoint") if isinstance(aliases, dict) else None
        if not isinstance(endpoint, str) or not endpoint.startswith("https://"):
            message = f"{self._url} has no port for services, so {SVID_VARIABLE} gets no token there."
            raise Failure.usage(message, "Its operator opens one: pegboard up --mtls-port 8443")
        return endpoint

    def _client(self, url: str, context: ssl.SSLContext | bool = True) -> httpx2.Client:
        timeout = httpx2.Timeout(API_S, connect=CONNECT_S)
        return httpx2.Client(timeout=timeout, trust_env=trusts_proxies(url), verify=context)

    def _context(self) -> ssl.SSLContext:
        """The certificate as it is on disk now: whatever renews it puts another in its place."""
        try:
            context = ssl.create_default_context(cafile=str(self._folder / AUTHORITIES))
            context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY)
        except (OSError, ssl.SSLError) as error:
            message = f"{SVID_VARIABLE}={line(self._folder)} holds no certificate with its key: {line(error)}."
            mend = f"There must be {CERTIFICATE}, {KEY} and {AUTHORITIES}, as pegboard svid --out writes them."
            raise Failure.usage(message, mend) from error
        return context
