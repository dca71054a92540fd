"""An MCP client and a person's browser, as far as signing in goes, over any HTTP client: for tests of every level."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

REDIRECT = "http://127.0.0.1:43210/callback"
"""Where the client listens; the port is its own choice."""

MOST_STEPS = 12


class _Forms(HTMLParser):
    """Every form of a page: its action, its fields, and its buttons by their text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._button: dict[str, str | None] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.forms.append({"action": given.get("action") or "", "fields": {}, "buttons": []})
        elif tag == "input" and self.forms and given.get("name"):
            checked = given.get("type") not in ("radio", "checkbox") or "checked" in given
            if checked:
                self.forms[-1]["fields"][given["name"]] = given.get("value") or ""
        elif tag == "button" and self.forms:
            self._button, self._text = given, ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "button" and self._button is not None and self.forms:
            self.forms[-1]["buttons"].append((" ".join(self._text.split()), self._button))
            self._button = None


@dataclass
class Browser:
    """A person's browser: it keeps cookies, follows redirects within the instance, and presses buttons."""

    url: str
    http: httpx2.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, url: str) -> httpx2.Response:
        """One request, as a link that is followed."""
        return await self._send("GET", url)

    async def press(self, page: httpx2.Response, button: str, **fields: str) -> httpx2.Response:
        """Press a button of a page: one that has this text, or this value."""
        for form in forms_of(page):
            for text, given in form["buttons"]:
                if button in (text, given.get("value")):
                    pressed = {str(given["name"]): given.get("value") or ""} if given.get("name") else {}
                    data = {**form["fields"], **pressed, **fields}
                    return await self._send("POST", urljoin(str(page.url), form["action"]), data)
        raise AssertionError(f"no button {button!r} on {page.url}: {page.text[:2000]}")

    async def sign_in(self, person: str) -> None:
        """Sign in as a person of the demo directory."""
        page = await self.get(f"{self.url}/sign-in")
        answer = await self.press(page, person)
        assert answer.status_code == 303, answer.text

    async def authorize(self, url: str, person: str = "ana", answer: str = "allow", **fields: str) -> str:
        """Follow an authorization request as a person would; gives the redirect to the client."""
        response = await self.get(url)
        for _ in range(MOST_STEPS):
            while onward := onward_of(response):
                target = urljoin(str(response.url), onward)
                if not target.startswith(f"{self.url}/"):
                    return target
                response = await self.get(target)
            path = urlsplit(str(response.url)).path
            if path == "/sign-in":
                response = await self.press(response, person)
            elif path == "/consent":
                response = await self.press(response, answer, **fields)
            else:
                break
        raise AssertionError(f"the client got no answer: {response.status_code} {response.url} {response.text[:500]}")

    async def _send(self, method: str, url: str, data: dict[str, str] | None = None) -> httpx2.Response:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Accept": "text/html",
        }
        if method == "POST":
            headers |= {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        self.http.cookies.clear()
        response = await self.http.request(method, url, data=data, headers=headers, follow_redirects=False)
        for header in response.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            if not value or "max-age=0" in header.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value.strip('"')
        return response


@dataclass
class StockClient:
    """What a stock client does, step by step, so that a test can do one of them wrongly."""

    url: str
    http: httpx2.AsyncClient
    name: str = "A client"
    redirect: str = REDIRECT
    client_id: str = ""
    verifier: str = ""

    async def register(self, **more: Any) -> str:
        """Register (RFC 7591); gives the client id."""
        document = {"client_name": self.name, "redirect_uris": [self.redirect], **more}
        response = await self.http.post(f"{self.url}/oauth/register", json=document)
        assert response.status_code == 201, response.text
        self.client_id = response.json()["client_id"]
        return self.client_id

    def authorization(self, server: str, **changes: str | None) -> str:
        """The address of an authorization request for one server; a change of None leaves a parameter out."""
        self.verifier = secrets.token_urlsafe(48)
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "code_challenge": challenge(self.verifier),
            "code_challenge_method": "S256",
            "state": "the-state",
            "resource": self.resource(server),
            **changes,
        }
        given = {name: value for name, value in query.items() if value is not None}
        return str(httpx2.URL(f"{self.url}/oauth/authorize", params=given))

    async def exchange(self, code: str, **changes: str | None) -> httpx2.Response:
        """Exchange a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": self.client_id,
            "code_verifier": self.verifier,
            **changes,
        }
        return await self._post("token", form)

    async def refresh(self, token: str, **changes: str | None) -> httpx2.Response:
        """Exchange a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id, **changes}
        return await self._post("token", form)

    async def revoke(self, token: str, **changes: str | None) -> httpx2.Response:
        """Revoke a token."""
        return await self._post("revoke", {"token": token, "client_id": self.client_id, **changes})

    async def connect(
        self, browser: Browser, server: str, person: str = "ana", **changes: str | None
    ) -> dict[str, Any]:
        """The whole way to a token for one server; registers first if it has not."""
        if not self.client_id:
            await self.register()
        answer = await browser.authorize(self.authorization(server, **changes), person)
        response = await self.exchange(query_of(answer)["code"])
        assert response.status_code == 200, response.text
        tokens: dict[str, Any] = response.json()
        return tokens

    def resource(self, server: str) -> str:
        """The URL of a server, or of the API."""
        return f"{self.url}/api" if server == "api" else f"{self.url}/mcp/{server}"

    async def _post(self, path: str, form: dict[str, str | None]) -> httpx2.Response:
        data = {name: value for name, value in form.items() if value is not None}
        self.http.cookies.clear()
        return await self.http.post(f"{self.url}/oauth/{path}", data=data)


def forms_of(page: httpx2.Response) -> list[dict[str, Any]]:
    """The forms of a page, each with its `action`, `fields` and `buttons`."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


def onward_of(response: httpx2.Response) -> str:
    """Where a browser goes on to by itself, told by a redirect or by a page that refreshes; empty for neither."""
    if response.is_redirect:
        return str(response.headers["location"])
    found = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]*)">', response.text)
    return html.unescape(found[1]) if found else ""


def challenge(verifier: str) -> str:
    """S256 of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def query_of(url: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def claims_of(token: str) -> dict[str, Any]:
    """What an access token says."""
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
