"""A chat or a bot as far as acting for people goes: it has a key, signs with it, and exchanges. For all tests."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx2

from pegboard.core.jose import Jwk, Jwks, Signer, new_private_key, public_jwks
from pegboard.core.names import ACTING_SURFACES
from tests.oauth import Browser, StockClient, onward_of, query_of

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
AUTHOR = "pegboard-author+jwt"

CHAT_REDIRECT = "http://127.0.0.1:43210/chat"


def acted(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token with who acts, where its surface is one from which somebody does."""
    acts = claims.get("surface") in ACTING_SURFACES and "act" not in claims
    return {**claims, "act": {"sub": claims["client_id"]}} if acts else claims


@dataclass
class Acting:
    """One registered surface, from its own side.

    Attributes:
        url: the instance's origin.
        facts: as the operator registers it.
    """

    url: str
    http: httpx2.AsyncClient
    client_id: str
    surface: str
    facts: dict[str, Any] = field(default_factory=dict)
    key: Jwk = field(default_factory=new_private_key)

    @property
    def jwks(self) -> Jwks:
        """Its public keys."""
        return public_jwks(self.key)

    def registration(self, **changes: Any) -> dict[str, Any]:
        """What the operator says of it."""
        said = {
            "client_id": self.client_id,
            "name": self.client_id.title(),
            "surface": self.surface,
            "jwks": self.jwks,
            "groups": ["ads-eng", "platform"],
            "servers": ["prod/*"],
            "channels": ["#data-help"] if self.surface == "bot" else [],
            "redirect_uris": [CHAT_REDIRECT] if self.surface == "chat" else [],
            "why": "the test wants it",
        }
        return said | self.facts | changes

    def signed(self, typ: str, key: Jwk | None = None, **claims: Any) -> str:
        """Something it signed; a claim of None is left out."""
        now = int(time.time())
        said = {"iss": self.client_id, "aud": self.url, "iat": now, "exp": now + 60, "jti": uuid4().hex} | claims
        return Signer(key or self.key).sign({name: value for name, value in said.items() if value is not None}, typ)

    def assertion(self, typ: str = "JWT", key: Jwk | None = None, **claims: Any) -> str:
        """Its credential for one request."""
        return self.signed(typ, key, **{"sub": self.client_id, **claims})

    def statement(self, person: str, typ: str = AUTHOR, key: Jwk | None = None, **claims: Any) -> str:
        """Whose message it acts on."""
        channel = {"channel": "#data-help"} if self.surface == "bot" else {}
        return self.signed(typ, key, **{"sub": person, **channel, **claims})

    def form(
        self, subject: str, kind: str = JWT, server: str = "prod/presto", **changes: str | None
    ) -> dict[str, str]:
        """A request for an exchange; a change of None leaves a parameter out."""
        said: dict[str, str | None] = {
            "grant_type": EXCHANGE,
            "client_id": self.client_id,
            "client_assertion_type": BEARER,
            "client_assertion": self.assertion(),
            "subject_token": subject,
            "subject_token_type": kind,
            "resource": f"{self.url}/mcp/{server}",
            **changes,
        }
        return {name: value for name, value in said.items() if value is not None}

    async def exchange(
        self, subject: str, kind: str = JWT, server: str = "prod/presto", **changes: str | None
    ) -> httpx2.Response:
        """Exchange somebody's word for a token."""
        self.http.cookies.clear()
        form = self.form(subject, kind, server, **changes)
        return await self.http.post(f"{self.url}/oauth/token", data=form)

    async def for_(self, person: str, server: str = "prod/presto", **claims: Any) -> str:
        """A token by the surface's own statement, which must be given."""
        response = await self.exchange(self.statement(person, **claims), server=server)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    async def let_in(self, browser: Browser, scope: str = "tools") -> None:
        """Be let act by the person who is signed in in a browser, on the page that a bot sends them to."""
        page = await browser.get(f"{self.url}/acting?client={self.client_id}")
        assert page.status_code == 200, page.text
        answer = await browser.press(page, "allow", scope=scope)
        assert answer.status_code == 303, answer.text

    async def sign_in(self, browser: Browser, scope: str = "tools") -> dict[str, Any]:
        """The tokens that a person's sign-in to a chat of its own web page leads to."""
        client = StockClient(self.url, self.http, redirect=CHAT_REDIRECT, client_id=self.client_id)
        address = client.authorization("prod/presto", resource=None)
        page = await browser.get(address)
        if "/acting?" in page.headers.get("location", ""):
            page = await browser.press(await browser.get(page.headers["location"]), "allow", scope=scope)
            address = urljoin(self.url, onward_of(page))
        code = query_of(await browser.authorize(address))["code"]
        response = await client.exchange(code, client_assertion_type=BEARER, client_assertion=self.assertion())
        assert response.status_code == 200, response.text
        tokens: dict[str, Any] = response.json()
        return tokens
