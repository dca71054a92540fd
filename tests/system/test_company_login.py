"""A whole Pegboard behind a company's login that others wrote, with people in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext

from pegboard.cli.app import run
from tests.leaks import files, holding
from tests.ports import free_port
from tests.providers.real import PEOPLE, SECRET, Company, NodeCompany, canaille_company, node_company
from tests.system.instance import Instance, running

pytestmark = [pytest.mark.heavy, pytest.mark.system, pytest.mark.xdist_group("company login")]

PATIENCE_MS = 60_000
BACK = "http://127.0.0.1:9/callback"
"""Where a client would wait for its code; nothing does, and the browser's attempt is what tests read."""

COMPANIES: dict[str, Callable[[str, Path], AbstractContextManager[Company]]] = {
    "oidc-provider": node_company,
    "canaille": canaille_company,
}

NODE = pytest.mark.parametrize("office", ["oidc-provider"], indirect=True)
"""For what the other does not have: telling of sign-outs, signing out by a link, and a process that can be halted."""


@dataclass
class Office:
    """An instance, the company whose login it uses, and how people there get tokens."""

    pegboard: Instance
    company: Company

    def sign_in(self, context: BrowserContext, person: str, then: str) -> str:
        """Sign in through the company's pages; gives the code that the browser then takes to a client."""
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        with page.expect_request(lambda request: request.url.startswith(BACK)) as gone:
            page.goto(f"{self.pegboard.public_url}/sign-in?continue={quote(then, safe='')}")
            self.company.sign_in(page, person)
        page.close()
        return parse_qs(urlsplit(gone.value.url).query)["code"][0]

    def token(self, form: dict[str, str]) -> httpx2.Response:
        """Ask the token endpoint as Pegboard's own command."""
        asked = {"client_id": "pegboard-cli", "resource": f"{self.pegboard.public_url}/mcp/prod/presto", **form}
        return httpx2.post(f"{self.pegboard.public_url}/oauth/token", data=asked, timeout=60)

    def connect(self, context: BrowserContext, person: str) -> dict[str, Any]:
        """Sign in for a client's request and get its tokens."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": "pegboard-cli",
            "redirect_uri": BACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": "s",
        }
        code = self.sign_in(context, person, f"/oauth/authorize?{urlencode(asked)}")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": verifier}
        answer = self.token(form)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def renew(self, tokens: dict[str, Any]) -> httpx2.Response:
        """Exchange a refresh token for new ones."""
        return self.token({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})


@contextmanager
def an_office(name: str) -> Iterator[Office]:
    folder, port = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp")), free_port()
    folder.chmod(0o755)
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    try:
        with COMPANIES[name](f"http://localhost:{port}", folder) as company:
            (folder / "sign-in.toml").write_text(f"{company.settings}\n[sessions]\nrenew_after_s = 0\n")
            with running("--sign-in", str(folder / "sign-in.toml"), "--bind", "0.0.0.0", port=port) as pegboard:  # noqa: S104
                yield Office(pegboard, company)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=COMPANIES)
def office(request: pytest.FixtureRequest) -> Iterator[Office]:
    with an_office(request.param) as found:
        yield found


@pytest.fixture
def context(browser: Browser, office: Office) -> Iterator[BrowserContext]:
    for person, groups in PEOPLE.items():
        office.company.move(person, *groups)
    opened = browser.new_context()
    yield opened
    opened.close()


def claims(tokens: dict[str, Any]) -> dict[str, Any]:
    """What an access token says."""
    body = tokens["access_token"].split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def test_a_token_says_of_a_person_what_the_company_says(office: Office, context: BrowserContext) -> None:
    told = claims(office.connect(context, "ana"))
    assert told["sub"] == "ana"
    assert told["groups"] == ["ads-eng", "sales"]
    assert told["email"] == "ana@acme.example"


def test_a_person_who_loses_a_group_has_it_in_no_later_token(office: Office, context: BrowserContext) -> None:
    tokens = office.connect(context, "ana")
    office.company.move("ana", "sales")
    renewed = office.renew(tokens)
    assert renewed.status_code == 200, renewed.text
    assert claims(renewed.json())["groups"] == ["sales"]


def test_a_login_that_does_not_answer_gives_no_token_and_ends_nothing(
    office: Office, context: BrowserContext
) -> None:
    tokens = office.connect(context, "ana")
    with office.company.away():
        answer = office.renew(tokens)
    assert answer.status_code >= 400, answer.text
    assert answer.json()["error"] == "temporarily_unavailable"
    again = office.renew(tokens)
    assert again.status_code == 200, again.text


@NODE
def test_a_login_that_is_silent_holds_nobody_up(office: Office, context: BrowserContext) -> None:
    assert isinstance(office.company, NodeCompany)
    tokens = office.connect(context, "ana")
    with office.company.silent(), ThreadPoolExecutor(4) as pool:
        waiting = pool.submit(office.renew, tokens)
        assert httpx2.get(f"{office.pegboard.public_url}/readyz", timeout=60).status_code == 200
        assert not waiting.done()
        assert waiting.result().status_code == 503


def test_a_person_who_left_gets_no_token(office: Office, context: BrowserContext) -> None:
    tokens = office.connect(context, "gus")
    office.company.dismiss("gus")
    try:
        answer = office.renew(tokens)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"] == "invalid_grant"
    finally:
        office.company.hire("gus")


@NODE
def test_signing_out_at_the_company_ends_it_here(office: Office, context: BrowserContext) -> None:
    tokens = office.connect(context, "ana")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    office.company.sign_out(page)
    answer = office.renew(tokens)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_grant"


@NODE
def test_signing_out_here_leads_through_the_company_and_back(office: Office, context: BrowserContext) -> None:
    tokens = office.connect(context, "ana")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{office.pegboard.public_url}/sign-out")
    page.click("main button")
    page.wait_for_url(f"{office.company.url}/session/end*")
    page.click("button[name=logout]")
    page.wait_for_url(f"{office.pegboard.public_url}/sign-out*")
    assert page.inner_text("h1") == "Signed out"
    assert "You are signed out here and at " in page.inner_text("main")
    page.goto(f"{office.pegboard.public_url}/sign-out?state=x")
    assert "itself you may still be signed in" in page.inner_text("main")
    assert office.renew(tokens).json()["error"] == "invalid_grant"


def test_an_answer_of_the_login_that_another_browser_got_signs_nobody_in(
    office: Office, context: BrowserContext
) -> None:
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    answer = page.goto(f"{office.pegboard.public_url}/sign-in/callback?code=x&state=y")
    assert answer is not None
    assert answer.status == 403
    assert "begun in another browser" in page.inner_text("main")
    assert page.get_by_role("link", name="Sign in with").count() == 1
    assert not [each for each in context.cookies() if not each["name"].endswith("_form")]


def test_the_edge_listens_where_the_operator_says(office: Office) -> None:
    host = urlsplit(office.pegboard.public_url).netloc
    elsewhere = f"http://127.0.0.2:{host.rpartition(':')[2]}/readyz"
    assert httpx2.get(elsewhere, headers={"host": host}).status_code == 200
    assert httpx2.get(elsewhere).status_code == 421


def test_nobody_acts_as_somebody_of_the_demo(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    form = {"grant_type": "urn:pegboard:params:oauth:grant-type:demo-person", "person": "ana", "surface": "cli"}
    answer = office.token(form)
    assert answer.status_code == 400
    assert answer.json()["error"] == "unsupported_grant_type"
    assert run(["servers", "--as", "ana", "--url", office.pegboard.public_url]) == 2
    assert f"sign in: pegboard login --url {office.pegboard.public_url}" in capsys.readouterr().err


def test_no_secret_of_the_client_is_in_a_log_or_the_home(office: Office) -> None:
    home = office.pegboard.home.root
    assert len(list(files(home))) > 10
    assert holding(home, [SECRET.encode()]) == set()
    assert SECRET not in office.pegboard.said
