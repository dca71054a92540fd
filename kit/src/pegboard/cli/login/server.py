"""The instance as an authorization server: what it offers (RFC 8414), and asking it (RFC 6749, 7009, 8628)."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import LOOPBACK, claims_of, document, failure_of, not_pegboard, reaching, trusts_proxies
from pegboard.cli.login.store import Access, Login
from pegboard.cli.text import line
from pegboard.core.names import api_audience

CLIENT_ID = "pegboard-cli"
"""This command, as every instance knows it: its redirect is to this machine, and one sign-in is for every server."""

METADATA = "/.well-known/oauth-authorization-server"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

PATIENCE_S = 15.0
"""Nothing is asked here that takes time; while a login is renewed, others wait for it."""

SHORTEST_LIFE_S = 60
"""A token response that names no lifetime or a silly one: good for this call, and hardly for the next."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The endpoints of an instance. `device` and `revocation` are empty where there is none."""

    issuer: str
    authorization: str
    token: str
    device: str
    revocation: str


class OAuthError(Exception):
    """An error of an endpoint, in the words of RFC 6749 §5.2."""

    def __init__(self, code: str, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(code)


class AuthorizationServer:
    """One instance, asked as the client `pegboard-cli`.

    Args:
        url: the instance's public URL.
        http: what it is asked with.
    """

    def __init__(self, url: str, http: httpx2.Client) -> None:
        self.url = url
        self._http = http

    def discover(self) -> Metadata:
        """What it offers.

        Raises:
            Failure: it answers nothing, calls itself otherwise, sends elsewhere, or is not encrypted on its way.
        """
        _check_way(self.url)
        with reaching(self.url):
            response = self._http.get(METADATA)
        found = document(response)
        if response.status_code == 404:
            raise Failure.here(
                ExitStatus.UNREACHABLE,
                "no_sign_in",
                f"{self.url} offers no signing in.",
                "Is it a Pegboard of this version? Check --url.",
            )
        if not response.is_success or found is None or not isinstance(found.get("issuer"), str):
            raise failure_of(response.status_code, found, self.url)
        if found["issuer"] != self.url:  # RFC 8414 §3.3
            raise Failure.here(
                ExitStatus.UNREACHABLE,
                "wrong_issuer",
                f"What answers at {self.url} calls itself {line(found['issuer'])}.",
                f"If that is the one you mean, name it so: --url {line(found['issuer'])}",
            )
        return Metadata(
            self.url,
            self._endpoint(found, "authorization_endpoint"),
            self._endpoint(found, "token_endpoint"),
            self._endpoint(found, "device_authorization_endpoint", needed=False),
            self._endpoint(found, "revocation_endpoint", needed=False),
        )

    def post(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
        """What an endpoint answers.

        Raises:
            OAuthError: it refused, in OAuth's words.
            Failure: unreachable, or not an answer of an authorization server's.
        """
        with reaching(self.url):
            response = self._http.post(endpoint, data={"client_id": CLIENT_ID, **form})
        answer = document(response)
        if response.is_success and answer is not None:
            return answer
        code, said = (answer or {}).get("error"), (answer or {}).get("error_description")
        if response.status_code in (400, 401) and isinstance(code, str):
            raise OAuthError(line(code), line(said) if isinstance(said, str) else "")
        if isinstance(code, str):
            message = line(said) if isinstance(said, str) and said else f"{self.url} answered {line(code)}."
            raise Failure.here(ExitStatus.UNREACHABLE, line(code), message)
        raise failure_of(response.status_code, answer, self.url)

    def revoke(self, endpoint: str, token: str) -> None:
        """Give a refresh token back, so that nobody can use it (RFC 7009).

        Raises:
            Failure: it was not taken back.
        """
        if not endpoint:
            raise Failure.here(ExitStatus.FAILED, "not_revocable", f"{self.url} takes nothing back.")
        with reaching(self.url):
            form = {"token": token, "token_type_hint": "refresh_token", "client_id": CLIENT_ID}
            response = self._http.post(endpoint, data=form)
        if not response.is_success:
            raise failure_of(response.status_code, document(response), self.url)

    def login(self, metadata: Metadata, asked_at: float, answer: Mapping[str, Any]) -> Login:
        """The login that a token response (RFC 6749 §5.1) stands for.

        Args:
            metadata: of the server.
            asked_at: seconds since the epoch.
            answer: to a request for a token of the API.

        Raises:
            Failure: it is no such response.
        """
        access, renewal = access_of(answer, asked_at), answer.get("refresh_token")
        claims = claims_of(access.value) if access else {}
        if access is None or not isinstance(renewal, str) or not renewal or not isinstance(claims.get("sub"), str):
            raise not_pegboard(self.url)
        return Login(
            url=self.url,
            client_id=CLIENT_ID,
            refresh_token=renewal,
            sub=claims["sub"],
            email=str(claims.get("email") or ""),
            sid=str(claims.get("sid", "")),
            since=int(asked_at),
            token_endpoint=metadata.token,
            revocation_endpoint=metadata.revocation,
            access={api_audience(self.url): access},
        )

    def _endpoint(self, found: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
        """An endpoint's URL. Only the instance itself gets codes and tokens, whatever its metadata says."""
        value = found.get(name)
        if value is None and not needed:
            return ""
        if not isinstance(value, str) or not value.startswith(f"{self.url}/"):
            raise Failure.here(
                ExitStatus.UNREACHABLE,
                "wrong_endpoint",
                f"{self.url} names a {name} that is not its own.",
                "Tell the platform team; nothing was sent there.",
            )
        return value


def connection(url: str) -> httpx2.Client:
    """A connection to an instance; it follows no redirects, which could lead a token elsewhere.

    The page on which a code is typed shows what asked for it, so it says what it is.
    """
    return httpx2.Client(
        base_url=url,
        timeout=httpx2.Timeout(PATIENCE_S),
        trust_env=trusts_proxies(url),
        headers={"User-Agent": f"pegboard/{version('pegboard')} ({platform.system()})"},
    )


def access_of(answer: Mapping[str, Any], asked_at: float) -> Access | None:
    """The access token of a token response; None when there is none that can be used as a bearer token."""
    value, kind, lifetime = (answer.get(name) for name in ("access_token", "token_type", "expires_in"))
    if not isinstance(value, str) or not value or str(kind).lower() != "bearer":
        return None
    seconds = lifetime if isinstance(lifetime, int) and not isinstance(lifetime, bool) else SHORTEST_LIFE_S
    scope = answer.get("scope")
    return Access(value, asked_at + seconds, scope if isinstance(scope, str) else "")


def now() -> float:
    """Seconds since the epoch; of a name of its own, so that tests can set it."""
    return time.time()


def _check_way(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.hostname or "") not in LOOPBACK:
        raise Failure.here(
            ExitStatus.USAGE,
            "not_encrypted",
            f"{url} is not encrypted, and everybody on the way could take your login.",
            "Use the instance's https:// URL.",
        )
