"""`pegboard login` against a whole Pegboard, with a real browser: one sign-in, every server, and the end of it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from pegboard.cli.login.store import Login, Store
from tests.system.instance import REPOSITORY, Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000
ADDRESS = re.compile(r"^  (http\S+)$", re.M)
CODE = re.compile(r"^  (http\S+)$.*^  ([A-Z]{4}-[A-Z]{4})$", re.M | re.S)
NARROW = {"width": 375, "height": 800}
TABLES = ["call", "prod/presto", "list_tables"]


class Terminal:
    """A person's terminal: commands without `--as`, and what they keep."""

    def __init__(self, pegboard: Instance, state: Path) -> None:
        self.url = pegboard.public_url
        self.store = Store(self.url, state / "pegboard")
        # No keyring, and a browser that is the test's: what is printed is opened there.
        chosen = {"PEGBOARD_PUBLIC_URL": self.url, "XDG_STATE_HOME": str(state), "BROWSER": "true %s"}
        self._environment = {**os.environ, **chosen, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}

    def start(self, *line: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "pegboard.cli", *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=REPOSITORY,
        )

    def run(self, *line: str, status: int = 0) -> str:
        """What a command says, on one line."""
        with self.start(*line) as command:
            out, err = command.communicate(timeout=120)
        assert command.returncode == status, out + err
        return " ".join((out + err).split())

    @contextmanager
    def login(self, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        """A login under way: where the browser is to go, and with `--device` the code to type there."""
        told_when = CODE if "--device" in options else ADDRESS
        with self.start("login", *options) as command:
            try:
                assert command.stderr is not None
                told = ""
                while not (found := told_when.search(told)):
                    line = command.stderr.readline()
                    assert line, f"login ended: {told}"
                    told += line
                yield " ".join(found.groups()), command
            finally:
                command.kill()

    @property
    def kept(self) -> Login:
        """The login that is kept."""
        found = self.store.read()
        assert found is not None
        return found

    def age(self) -> None:
        """Let the access tokens in hand have expired."""
        document = json.loads(self.store.path.read_text())
        for each in document["login"]["access"].values():
            each["expires_at"] = 1
        self.store.path.write_text(json.dumps(document))


@pytest.fixture
def terminal(pegboard: Instance, tmp_path: Path) -> Terminal:
    return Terminal(pegboard, tmp_path)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport=NARROW)
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


def choose(page: Page, person: str) -> None:
    """Sign in as a person of the demo directory."""
    page.locator(f"button[name=person][value={person}]").click()


def sign_in(terminal: Terminal, page: Page, person: str = "ana") -> None:
    """The whole way through the browser."""
    with terminal.login() as (url, command):
        page.goto(url)
        if "/sign-in" in page.url:
            choose(page, person)
        page.wait_for_url("http://127.0.0.1:*/callback?**")
        assert page.inner_text("h1") == f"You are signed in as {person} ({person}@example.com)"
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        out, err = command.communicate(timeout=60)
    assert command.returncode == 0, err
    assert out == f"Signed in to {terminal.url} as {person} ({person}@example.com).\n"
    assert f"Warning: the login is kept in the file {terminal.store.path}" in err


def renewals(pegboard: Instance, login: Login) -> int:
    """How many refresh tokens the hub has given to the connection of a login."""
    digest = sha256(login.refresh_token.encode()).hexdigest()
    asked = "SELECT count(*) FROM refresh_tokens JOIN refresh_tokens AS mine USING (connection) WHERE mine.digest = ?"
    with closing(sqlite3.connect(f"file:{pegboard.home.database}?mode=ro", uri=True)) as database:
        return int(database.execute(asked, (digest,)).fetchone()[0])


def refresh(login: Login) -> dict[str, Any]:
    """What the hub answers to a refresh token."""
    form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "client_id": login.client_id}
    answer: dict[str, Any] = httpx2.post(login.token_endpoint, data=form).json()
    return answer


def test_one_sign_in_in_the_browser_is_good_for_every_server(terminal: Terminal, page: Page) -> None:
    sign_in(terminal, page)
    assert "prod/presto" in terminal.run("servers")
    assert "flights" in terminal.run(*TABLES)
    assert "hello" in terminal.run("call", "dev/scratch", "echo", "--arg", "text=hello")
    words = terminal.run("whoami")
    assert "person ana" in words
    assert "surface cli client pegboard-cli" in words
    assert f"kept in {terminal.store.path}" in words


def test_the_second_sign_in_of_a_browser_asks_nothing(terminal: Terminal, page: Page) -> None:
    sign_in(terminal, page)
    first = terminal.kept
    with terminal.login() as (url, command):
        page.goto(url)
        page.wait_for_url("http://127.0.0.1:*/callback?**")
        assert command.wait(60) == 0
    assert terminal.kept.sid == first.sid
    assert refresh(first)["error"] == "invalid_grant", "the login before was given back"
    assert "flights" in terminal.run(*TABLES)


@pytest.mark.heavy
def test_ten_commands_at_once_with_an_expired_token_renew_it_once(
    pegboard: Instance, terminal: Terminal, page: Page
) -> None:
    sign_in(terminal, page)
    terminal.age()
    commands = [terminal.start("servers") for _ in range(10)]
    answers = [each.communicate(timeout=180) for each in commands]
    assert [each.returncode for each in commands] == [0] * 10, answers
    assert renewals(pegboard, terminal.kept) == 2
    assert "flights" in terminal.run(*TABLES)


def test_logout_makes_the_refresh_token_useless(terminal: Terminal, page: Page) -> None:
    sign_in(terminal, page)
    kept = terminal.kept
    assert "Signed out of" in terminal.run("logout")
    assert refresh(kept)["error"] == "invalid_grant"
    assert "pegboard login (or use --as PERSON: the demo directory has" in terminal.run("servers", status=5)
    assert not terminal.store.path.exists()


def test_signing_out_in_the_browser_ends_the_terminal_s_login_at_once(terminal: Terminal, page: Page) -> None:
    sign_in(terminal, page)
    page.goto(f"{terminal.url}/sessions")
    page.get_by_role("button", name="Sign out of this browser").click()
    page.wait_for_url(f"{terminal.url}/sign-out")
    assert "has ended. Sign in again: pegboard login" in terminal.run("servers", status=5)


def test_a_stolen_refresh_token_that_was_used_ends_the_login(terminal: Terminal, page: Page) -> None:
    sign_in(terminal, page)
    assert "access_token" in refresh(terminal.kept)
    terminal.age()
    assert "has ended. Sign in again: pegboard login" in terminal.run("servers", status=5)


def test_a_no_in_the_browser_of_a_code_is_a_no_in_the_terminal(terminal: Terminal, page: Page) -> None:
    with terminal.login("--device") as (told, command):
        url, code = told.split()
        page.goto(url)
        choose(page, "fay")
        page.get_by_label("The code that the program shows").fill(code)
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Don’t allow").click()
        page.wait_for_selector("text=Nothing was connected")
        assert command.wait(60) == 3
    assert "not signed in" in terminal.run("servers", status=5)


def test_a_code_typed_on_a_telephone_signs_the_terminal_in(terminal: Terminal, page: Page) -> None:
    with terminal.login("--device") as (told, command):
        url, code = told.split()
        page.goto(url)
        choose(page, "fay")
        expect(page.locator("#user-code")).to_be_focused()
        page.keyboard.type(code.lower())
        _fits(page)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"text={code}")
        _fits(page)
        assert "Only if you started this yourself" in page.inner_text("main")
        assert "The same address as this browser’s." in page.inner_text("main")
        page.get_by_role("button", name="Allow", exact=True).click()
        page.wait_for_selector("text=Connected. Your terminal goes on by itself")
        _fits(page)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (0, f"Signed in to {terminal.url} as fay (fay@example.com).\n"), err
    assert "flights" in terminal.run(*TABLES)
    page.goto(f"{terminal.url}/sessions")
    assert "every server" in page.inner_text("main")


def _fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    if folder := os.environ.get("PEGBOARD_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{len(list(Path(folder).iterdir()))}.png", full_page=True)
