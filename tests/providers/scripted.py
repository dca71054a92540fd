"""An OpenID Connect provider that says what a test has it say, the truth by default.

Where a test is about a login that works, it uses a real one (`canaille.py`, `node.py`); this one is for what no real
one can be made to do.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import new as hmac
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import httpx2
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

Json = dict[str, Any]
Change = Callable[[Json], Json]

CLIENT = "pegboard"
SECRET = "the client's secret: 100% +/"
EVENT = "http://schemas.openid.net/event/backchannel-logout"


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def changed(**values: Any) -> Change:
    """A change that sets some values, and takes out those that are None."""
    return lambda document: {name: value for name, value in {**document, **values}.items() if value is not None}


@dataclass
class Scripted:
    """The provider.

    Attributes:
        issuer: what it calls itself.
        people: claims by `sub`.
        lies: what is changed of a part before it is told: metadata, keys, answer, tokens, header, claims, userinfo.
        down: whether it answers with an error to everything.
        asked: paths that were asked for, in order.
        refreshes: whether it gives refresh tokens.
    """

    issuer: str = "https://login.acme.example"
    people: dict[str, Json] = field(default_factory=dict)
    lies: dict[str, Change] = field(default_factory=dict)
    down: bool = False
    asked: list[str] = field(default_factory=list)
    refreshes: bool = True
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, auto_kid=True))
    now: Callable[[], float] = time.time
    _codes: dict[str, Json] = field(default_factory=dict)
    _access: dict[str, str] = field(default_factory=dict)
    _refresh: dict[str, str] = field(default_factory=dict)

    def hire(self, sub: str, *groups: str, **claims: Any) -> None:
        """Let somebody work there, in these groups."""
        known = {"name": sub.title(), "email": f"{sub}@acme.example", "email_verified": True, "groups": list(groups)}
        self.people[sub] = {"sub": sub, **known, **claims}

    def rotate(self, key: Any = None) -> None:
        """Sign with a new key from now on, and forget the old one."""
        self.key = key or ECKey.generate_key("P-256", auto_kid=True)

    def authorize(self, url: str, sub: str) -> dict[str, str]:
        """What comes back with the browser when somebody signs in there."""
        asked = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        code = uuid.uuid4().hex
        self._codes[code] = {**asked, "sub": sub}
        return self._told("answer", {"code": code, "state": asked["state"], "iss": self.issuer})

    def logout_token(self, claims: Change | None = None, header: Change | None = None, **named: str) -> str:
        """A logout token for a `sub` or a `sid`, with its claims or header changed."""
        now = int(self.now())
        told = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 120, "jti": uuid.uuid4().hex}
        told |= {"events": {EVENT: {}}, **named}
        kept = self.lies
        self.lies = {"claims": claims or changed(), "header": header or changed()}
        try:
            return self.sign(told, "logout+jwt")
        finally:
            self.lies = kept

    def sign(self, claims: Json, typ: str = "JWT") -> str:
        """A token, as far as the lies leave it one; under `alg: none` or HS256 too, which no good library would."""
        kind = {"RSA": "RS256", "EC": "ES256"}[self.key.key_type]
        header = self._told("header", {"alg": kind, "typ": typ, "kid": self.key.kid})
        claims = self._told("claims", claims)
        if header["alg"] == kind:
            signer = ECKey.import_key(header.pop("signed by")) if "signed by" in header else self.key
            return jws.serialize_compact(header, json.dumps(claims).encode(), signer, algorithms=[kind])
        signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
        secret = self.key.as_pem(private=False) if header["alg"] == "HS256" else b""
        tag = encode(hmac(secret, signed.encode(), sha256).digest()) if secret else ""
        return f"{signed}.{tag}"

    def answer(self, method: str, url: str, headers: httpx2.Headers, body: str) -> tuple[int, Json]:
        """Status and body for one request."""
        path = urlsplit(url).path
        self.asked.append(path)
        if self.down:
            return 503, {}
        if path == "/.well-known/openid-configuration":
            return 200, self._told("metadata", self._metadata())
        if path == "/keys":
            return 200, self._told("keys", {"keys": [{**self.key.as_dict(private=False), "use": "sig"}]})
        if path == "/token" and method == "POST":
            return self._token(headers, dict(parse_qsl(body)))
        if path == "/userinfo":
            return self._userinfo(headers.get("authorization", "").removeprefix("Bearer "))
        return 404, {}

    @property
    def transport(self) -> httpx2.MockTransport:
        """In place of the network."""

        def handle(request: httpx2.Request) -> httpx2.Response:
            status, document = self.answer(
                request.method, str(request.url), request.headers, request.content.decode()
            )
            return httpx2.Response(status, json=document)

        return httpx2.MockTransport(handle)

    @contextmanager
    def serving(self) -> Iterator[Scripted]:
        """On a port of this machine, which is then its issuer."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = httpx2.Headers(list(self.headers.items()))
                status, document = provider.answer(self.command, self.path, headers, self.rfile.read(length).decode())
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the name is the base class's

            def log_message(self, *_: Any) -> None:
                """Nothing is said."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.issuer = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _told(self, part: str, document: Json) -> Json:
        return self.lies.get(part, changed())(document)

    def _metadata(self) -> Json:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "authorization_response_iss_parameter_supported": True,
        }

    def _token(self, headers: httpx2.Headers, form: dict[str, str]) -> tuple[int, Json]:
        given = b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        if [unquote_plus(part) for part in given.split(":")] != [CLIENT, SECRET]:
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "refresh_token":
            sub = self._refresh.pop(form["refresh_token"], "")
            return self._tokens(sub, None) if sub in self.people else (400, {"error": "invalid_grant"})
        asked = self._codes.pop(form["code"], None)
        if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if asked["code_challenge"] != encode(sha256(form["code_verifier"].encode()).digest()):
            return 400, {"error": "invalid_grant"}
        return self._tokens(asked["sub"], asked["nonce"])

    def _tokens(self, sub: str, nonce: str | None) -> tuple[int, Json]:
        now = int(self.now())
        claims = {**self.people[sub], "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300}
        claims |= {"nonce": nonce} if nonce else {}
        access, refresh = uuid.uuid4().hex, uuid.uuid4().hex
        self._access[access] = sub
        told = {"access_token": access, "token_type": "Bearer", "id_token": self.sign({**claims, "sid": f"at-{sub}"})}
        if self.refreshes:
            self._refresh[refresh] = sub
            told["refresh_token"] = refresh
        return 200, self._told("tokens", told)

    def _userinfo(self, access: str) -> tuple[int, Json]:
        sub = self._access.get(access, "")
        if sub not in self.people:
            return 401, {"error": "invalid_token"}
        return 200, self._told("userinfo", dict(self.people[sub]))
