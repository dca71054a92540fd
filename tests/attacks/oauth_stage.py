"""What attacks on the authorization server share: who is there, and what they send."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.oauth import REDIRECT, Browser, StockClient, challenge, onward_of, query_of
from tests.system.instance import Instance

HTTPS_REDIRECT = "https://editor.example/callback?from=pegboard"


APP_REDIRECT = "cursor://anysphere.cursor-retrieval/oauth/callback"


@dataclass
class Stage:
    """Ana, signed in; an editor that she let in for both servers; and another client of the attacker's."""

    pegboard: Instance
    http: httpx2.AsyncClient
    browser: Browser
    editor: StockClient
    other: StockClient
    secrets: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The instance's origin."""
        return self.pegboard.public_url

    async def code(self, server: str = "prod/presto", **changes: str | None) -> str:
        """A code for the editor."""
        answer = query_of(await self.browser.authorize(self.editor.authorization(server, **changes)))
        return answer["code"]

    async def tokens(self, server: str = "prod/presto") -> dict[str, Any]:
        """Tokens of the editor's."""
        return await self.editor.connect(self.browser, server)

    async def asked(self, **changes: str | None) -> tuple[httpx2.Response, dict[str, str]]:
        """What an authorization request of the editor's is answered with here, and what it tells the client."""
        return await self.opened(self.editor.authorization("prod/presto", **changes))

    async def opened(self, url: str, **headers: str) -> tuple[httpx2.Response, dict[str, str]]:
        """One address in Ana's browser: the answer here, and what it tells a client it leads on to."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.browser.cookies.items())
        self.http.cookies.clear()
        response = await self.http.get(url, headers={"cookie": cookie, "accept": "text/html", **headers})
        target = urljoin(url, onward_of(response))
        leaves = target != url and not target.startswith(f"{self.url}/")
        return response, query_of(target) if leaves else {}

    async def remember(self, response: httpx2.Response) -> None:
        """Note every secret that was given out, to look for in the home's files."""
        body = await response.aread()
        self.secrets.update(query_of(onward_of(response)).get("code", "").split())
        self.secrets.update(
            header.partition("=")[2].partition(";")[0].strip('"')
            for header in response.headers.get_list("set-cookie")
        )
        if response.headers.get("content-type") == "application/json" and b"_token" in body:
            found = response.json()
            self.secrets.update(str(found[name]) for name in ("access_token", "refresh_token") if name in found)


def refused(response: httpx2.Response, *errors: str) -> None:
    """An OAuth error, and nothing else."""
    assert response.status_code in (400, 401), response.text
    assert "access_token" not in response.text
    assert not errors or response.json()["error"] in errors, response.text


def filled(stage: Stage, changes: dict[str, str | None], code: str = "") -> dict[str, str | None]:
    """The changes of a case with this run's own values in them."""
    marks = {
        "{other}": stage.other.client_id,
        "{challenge}": challenge(stage.editor.verifier),
        "{url}": stage.url,
        "{URL}": stage.url.upper(),
        "{port}": stage.url.rpartition(":")[2],
        "{code}": code,
    }
    found = dict(changes)
    for name, value in changes.items():
        for mark, text in marks.items():
            value = value and value.replace(mark, text)
        found[name] = value
    return found


async def signed_out(browser: Browser) -> None:
    """Press the button that a person signs out with."""
    page = await browser.get(f"{browser.url}/sign-out")
    await browser.press(page, "Sign out of this browser")


def knocked(door: socket.socket) -> bool:
    """Whether somebody opened a connection."""
    try:
        door.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def exchange_form(stage: Stage, code: str) -> dict[str, str]:
    """The proper form for a code of the editor's."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "client_id": stage.editor.client_id,
        "code_verifier": stage.editor.verifier,
    }


async def posted(stage: Stage, body: str | bytes, path: str = "token", **headers: str) -> httpx2.Response:
    """A form as these bytes."""
    sent = {
        "content-type": "application/x-www-form-urlencoded",
        **{n.replace("_", "-"): v for n, v in headers.items()},
    }
    stage.http.cookies.clear()
    return await stage.http.post(f"{stage.url}/oauth/{path}", content=body, headers=sent)
