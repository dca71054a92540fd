"""Companies' logins that others wrote, started for tests: each with its own pages, which a browser fills in."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2
from joserfc.jwk import RSAKey
from playwright.sync_api import Page

from pegboard_hub.common.home import replace_file
from tests.ports import free_port
from tests.tools.node import provide

CLIENT, SECRET, PASSWORD = "pegboard", "a-secret-of-the-test", "correct horse battery staple"
PEOPLE = {"ana": ("ads-eng", "sales"), "gus": ("platform",)}
HERE = Path(__file__).parent
START_S = 60.0


class Company(Protocol):
    """A company's login, and what its administrators do."""

    @property
    def settings(self) -> str:
        """What the sign-in file says of it."""

    def sign_in(self, page: Page, person: str) -> None:
        """Fill in its pages, on which the browser is."""

    def move(self, person: str, *groups: str) -> None:
        """Put somebody into these groups and no others."""

    def dismiss(self, person: str) -> None:
        """Take somebody out of the company."""

    def hire(self, person: str) -> None:
        """Take somebody back."""

    def sign_out(self, page: Page) -> None:
        """Sign out at the company itself."""

    def away(self) -> AbstractContextManager[None]:
        """It does not answer for a while."""


class NodeCompany:
    """npm's `oidc-provider`."""

    def __init__(self, url: str, people: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._people = people
        self._process = process
        self._known = {sub: _claims(sub, *groups) for sub, groups in PEOPLE.items()}
        self._write()

    @property
    def settings(self) -> str:
        return f"""
[provider]
issuer = "{self.url}"
client_id = "{CLIENT}"
client_secret = {{ file = "secret" }}
scopes = ["openid", "profile", "email", "groups", "offline_access"]
parameters = {{ prompt = "consent" }}
sign_out = true
"""

    def sign_in(self, page: Page, person: str) -> None:
        page.fill("input[name=login]", person)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.click("button[type=submit]")  # its consent page

    def move(self, person: str, *groups: str) -> None:
        self._known[person] = _claims(person, *groups)
        self._write()

    def dismiss(self, person: str) -> None:
        del self._known[person]
        self._write()

    def hire(self, person: str) -> None:
        self.move(person, *PEOPLE[person])

    def sign_out(self, page: Page) -> None:
        page.goto(f"{self.url}/session/end")
        page.click("button[name=logout]")
        page.wait_for_load_state()

    @contextmanager
    def away(self) -> Iterator[None]:
        """It answers with errors of its own."""
        self._people.unlink()
        try:
            yield
        finally:
            self._write()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes what is sent and says nothing, which is worse than gone."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _write(self) -> None:
        replace_file(self._people, json.dumps(self._known))  # the provider may be reading it


@contextmanager
def node_company(public_url: str, folder: Path) -> Iterator[NodeCompany]:
    """`oidc-provider` in a process of its own, with Pegboard at `public_url` as its client."""
    tools, port = provide(), free_port()
    client = {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "redirect_uris": [f"{public_url}/sign-in/callback"],
        "post_logout_redirect_uris": [f"{public_url}/sign-out"],
        "backchannel_logout_uri": f"{public_url}/sign-in/back-channel",
        "backchannel_logout_session_required": True,
        "grant_types": ["authorization_code", "refresh_token"],
    }
    script = [str(tools.node), str(HERE / "oidc_provider.mjs"), str(port), str(tools.folder)]
    log = folder / "provider.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*script, str(folder / "people.json"), json.dumps(client)],
            env=tools.environment(folder),
            stdout=said,
            stderr=said,
        )
    company = NodeCompany(f"http://localhost:{port}", folder / "people.json", process)
    try:
        _wait_for(f"{company.url}/.well-known/openid-configuration", process, log)
        yield company
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx2.HTTPError):
            if httpx2.get(url).is_success:
                return
        time.sleep(0.05)
    raise AssertionError(f"the provider did not start:\n{log.read_text()}")


class CanailleCompany:
    """Canaille, as `pytest-iam` starts it."""

    def __init__(self, server: Any, public_url: str) -> None:
        from flask import request

        self._server = server
        self._backend, models = server.backend, server.models
        self._users: dict[str, Any] = {}
        self._groups: dict[str, Any] = {}
        self._down = False

        self._issued_at = 0

        @server.app.before_request
        def fail() -> tuple[str, int] | None:
            return ("", 503) if self._down else None

        @server.app.before_request
        def keep_apart() -> None:
            """Its access tokens have no id: of two that it gives within a second, neither outlives the first."""
            if request.path != "/oauth/token":
                return
            while self._issued_at == int(time.time()):
                time.sleep(0.02)
            self._issued_at = int(time.time())

        with server.app.app_context():
            client = models.Client(
                client_id=CLIENT,
                client_secret=SECRET,
                client_name="Pegboard",
                client_uri=public_url,
                redirect_uris=[f"{public_url}/sign-in/callback"],
                post_logout_redirect_uris=[f"{public_url}/sign-out"],
                grant_types=["authorization_code", "refresh_token"],
                response_types=["code"],
                scope=["openid", "profile", "email", "groups"],
                token_endpoint_auth_method="client_secret_basic",
                id_token_signed_response_alg="RS256",
            )
            self._backend.save(client)
            client.audience = [client]
            self._backend.save(client)
            for sub, groups in PEOPLE.items():
                self._hire(sub)
                self.move(sub, *groups)

    @property
    def settings(self) -> str:
        return f"""
[provider]
issuer = "{self._server.url.rstrip("/")}"
client_id = "{CLIENT}"
client_secret = {{ file = "secret" }}
scopes = ["openid", "profile", "email", "groups"]

[provider.claims]
email_is_verified = true
"""

    def sign_in(self, page: Page, person: str) -> None:
        page.fill("input[name=login]", person)
        page.click("button[type=submit]:not([name]), button[name=answer]")
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]:not([name]), button[name=answer]")

    def move(self, person: str, *groups: str) -> None:
        models = self._server.models
        with self._server.app.app_context():
            user = self._users[person]
            for name in groups:
                if name not in self._groups:
                    self._groups[name] = models.Group(display_name=name, members=[user])
                    self._backend.save(self._groups[name])
            for name, group in self._groups.items():
                members = [each for each in group.members if each.user_name != person]
                self._backend.update(group, members=[*members, *([user] if name in groups else [])])
                self._backend.save(group)
            self._backend.reload(user)

    def dismiss(self, person: str) -> None:
        self._lock(person, datetime.now(UTC))

    def hire(self, person: str) -> None:
        self._lock(person, None)

    def sign_out(self, page: Page) -> None:
        page.goto(f"{self._server.url}logout")

    @contextmanager
    def away(self) -> Iterator[None]:
        """It answers with errors of its own, as when its database is gone."""
        self._down = True
        try:
            yield
        finally:
            self._down = False

    def _lock(self, person: str, since: datetime | None) -> None:
        with self._server.app.app_context():
            self._backend.update(self._users[person], lock_date=since)
            self._backend.save(self._users[person])

    def _hire(self, sub: str) -> None:
        name = sub.title()
        user = self._server.models.User(
            user_name=sub,
            formatted_name=name,
            given_name=name,
            family_name=name,
            emails=[f"{sub}@acme.example"],
            password=PASSWORD,
        )
        self._backend.save(user)
        self._users[sub] = user


@contextmanager
def canaille_company(public_url: str, folder: Path) -> Iterator[CanailleCompany]:
    """Canaille on a thread of this process, with Pegboard at `public_url` as its client."""
    # A second of a processor, and only here: each worker collects this file.
    from canaille import create_app
    from canaille.backends import Backend
    from pytest_iam import Server

    del folder
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # it is on this machine
    port, key = free_port(), RSAKey.generate_key(2048, auto_kid=True)
    configuration = {
        "TESTING": True,
        "ENV_FILE": None,
        "SECRET_KEY": "a key of the test",
        "SERVER_NAME": f"localhost:{port}",
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE": {
            "DATABASE": "memory",
            "JAVASCRIPT": False,
            "ACL": {"DEFAULT": {"PERMISSIONS": ["use_oidc"]}},
            "LOGGING": {"version": 1, "disable_existing_loggers": False},
        },
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True)]},
    }
    with _logging_as_it_is():
        app = create_app(config=configuration)
    server = Server(app, port, Backend.instance)
    thread = threading.Thread(target=server.httpd.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield CanailleCompany(server, public_url)
    finally:
        server.httpd.shutdown()
        thread.join()
        server.httpd.server_close()


@contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """Canaille adds filters to the root logger and its handlers, and they write into all tests' records."""
    root = logging.getLogger()
    before = [(each, list(each.filters)) for each in (root, *root.handlers)]
    handlers = list(root.handlers)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for each, filters in before:
            each.filters[:] = filters


def _claims(sub: str, *groups: str) -> dict[str, Any]:
    email = f"{sub}@acme.example"
    return {"name": sub.title(), "email": email, "email_verified": True, "groups": list(groups)}
