"""A stand-in for an instance's authorization server: it signs everybody in, rotates strictly, and lies if told to."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

LIFETIME_S = 899

Answer = tuple[int, dict[str, Any]]


class AuthorizationServer:
    """Codes, refresh tokens and device codes, in memory.

    Attributes:
        url: the issuer.
        issue: makes an access token for (person, resource, sid).
        person: who signs in.
        lies: members of the metadata to be told otherwise; None leaves one out.
        lifetime_s: of access tokens.
        renewals: how often a refresh token was used.
        replayed: how often a used one came again.
        revoked: refresh tokens that were given back.
        device: what the next polls get, first to last; then the token.
        away: answer every token request with 503.
        meanwhile: called in the middle of a renewal, when the old refresh token is used up.
    """

    def __init__(self, url: str, issue: Callable[[str, str, str], str]) -> None:
        self.url = url
        self.issue = issue
        self.person = "ana"
        self.lies: dict[str, Any] = {}
        self.lifetime_s = LIFETIME_S
        self.renewals = 0
        self.replayed = 0
        self.revoked: list[str] = []
        self.device: list[str] = []
        self.away = False
        self.meanwhile: Callable[[], None] = lambda: None
        self._codes: dict[str, dict[str, str]] = {}
        self._live: dict[str, str] = {}
        self._used: set[str] = set()
        self._device_codes: set[str] = set()
        self._alone = threading.Lock()

    def metadata(self) -> dict[str, Any]:
        """RFC 8414 §3.2."""
        told = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize",
            "token_endpoint": f"{self.url}/oauth/token",
            "revocation_endpoint": f"{self.url}/oauth/revoke",
            "device_authorization_endpoint": f"{self.url}/oauth/device",
            **self.lies,
        }
        return {name: value for name, value in told.items() if value is not None}

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent on, with a code for whoever signs in here."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.url})}"

    def device_authorization(self) -> Answer:
        """RFC 8628 §3.2."""
        code = secrets.token_urlsafe(16)
        self._device_codes.add(code)
        page = self.lies.get("verification_uri", f"{self.url}/device")
        shown = {"device_code": code, "user_code": "BCDF-GHJK", "verification_uri": page}
        return 200, {**shown, "expires_in": 600, "interval": 1}

    def token(self, form: dict[str, str]) -> Answer:
        """The token endpoint."""
        with self._alone:
            if self.away:
                return 503, {"error": "temporarily_unavailable", "error_description": "the login does not answer"}
            if form.get("client_id") != "pegboard-cli":
                return _refused("invalid_client")
            match form["grant_type"]:
                case "authorization_code":
                    return self._exchange(form)
                case "refresh_token":
                    return self._renew(form)
                case _:
                    return self._poll(form)

    def revoke(self, form: dict[str, str]) -> Answer:
        """RFC 7009."""
        self.revoked.append(form["token"])
        self._live.pop(form["token"], None)
        return 200, {}

    def end_everything(self) -> None:
        """Forget every login, as when a session ends."""
        self._live.clear()

    def _exchange(self, form: dict[str, str]) -> Answer:
        asked = self._codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != challenge:
            return _refused("invalid_grant")
        return self._issue(self.person, form["resource"])

    def _renew(self, form: dict[str, str]) -> Answer:
        token = form["refresh_token"]
        if token in self._used:
            self.replayed += 1
            self._live.clear()
        if token not in self._live:
            return _refused("invalid_grant")
        if form["resource"].endswith("/nowhere"):
            return _refused("invalid_target")
        self.renewals += 1
        self._used.add(token)
        self.meanwhile()
        return self._issue(self._live.pop(token), form["resource"])

    def _poll(self, form: dict[str, str]) -> Answer:
        if form["device_code"] not in self._device_codes:
            return _refused("invalid_grant")
        if self.device:
            return _refused(self.device.pop(0))
        self._device_codes.discard(form["device_code"])
        return self._issue(self.person, form["resource"])

    def _issue(self, person: str, resource: str) -> Answer:
        renewal = secrets.token_urlsafe(16)
        self._live[renewal] = person
        value = self.issue(person, resource, "5e55" * 8)
        answer = {"access_token": value, "token_type": "Bearer", "expires_in": self.lifetime_s, "scope": "tools"}
        return 200, {**answer, "refresh_token": renewal}


def _refused(code: str) -> Answer:
    return 400, {"error": code, "error_description": f"{code}, as the test wants it"}
