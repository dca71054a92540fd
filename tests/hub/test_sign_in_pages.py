"""Signing in and out on pages: what they say, where they lead, and what a browser keeps of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlencode

import httpx2
import pytest
from starlette.responses import Response

from pegboard_hub.identity.person import PersonFacts, SignedIn
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.web.app import public_app
from pegboard_hub.web.pages.browser import Browsers
from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient, onward_of

pytestmark = pytest.mark.anyio


class Okta:
    """A company's login, of which only the name and the people's facts count here."""

    name = "Example’s Okta"
    issuer = "https://example.okta.com"

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        return SignedIn(facts, facts.sub, renewal=renewal)


FACTS = PersonFacts("u-17", "Noor <b>Haddad</b>", ("ads-eng",), "noor@example.com")


@pytest.fixture
def browser(hub: Hub) -> Browser:
    return Browser(URL, hub.public)


@pytest.fixture
async def with_login(hub: Hub) -> AsyncIterator[Browser]:
    """A browser at the same hub, where people sign in with a company's login."""
    parts = replace(hub.parts, identity=replace(hub.parts.identity, demo=None))
    parts.identity.sessions.login = Okta()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(public_app(parts)), base_url=URL) as http:
        yield Browser(URL, http)


async def signed_in(browser: Browser, hub: Hub, facts: PersonFacts = FACTS) -> None:
    """Sign somebody in as their login would."""
    _session, secret = await hub.parts.identity.sessions.open(SignedIn(facts, facts.sub), "Firefox 140 on Linux")
    browser.cookies[hub.parts.identity.cookie.name] = secret


async def test_the_demo_directorys_people_can_be_chosen_with_what_they_are_for(browser: Browser) -> None:
    page = await browser.get(f"{URL}/sign-in")
    for words in ("Ana", "Ads engineering: uses Presto, and may see revenue.", "Gus", "people without passwords"):
        assert words in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text


async def test_choosing_a_person_signs_them_in_for_a_week_in_this_browser_alone(browser: Browser, hub: Hub) -> None:
    page = await browser.get(f"{URL}/sign-in?continue=/ledger%3Fon%3Dcli")
    answer = await browser.press(page, "ana")
    assert answer.headers["location"] == "/ledger?on=cli"
    cookie = next(c for c in answer.headers.get_list("set-cookie") if "_form=" not in c)
    assert cookie.startswith(f"pegboard_{hub.parts.identity.cookie.name.removeprefix('pegboard_')}=")
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "httponly",
        "samesite=lax",
        "path=/",
        f"max-age={7 * 24 * 3600}",
    }
    assert "Signed in as <strong><bdi>Ana</bdi>" in (await browser.get(f"{URL}/")).text
    assert "Signed in as" not in (await hub.public.get("/")).text


async def test_over_tls_the_cookies_are_secure_and_of_this_host_alone(hub: Hub) -> None:
    cookie = Cookie.of("abc", "https://pegboard.example")
    browsers = Browsers(hub.parts.identity.sessions, cookie, "https://pegboard.example")
    response = Response()
    browsers.sign_in(response, "secret", 60)
    for header in response.headers.getlist("set-cookie"):
        assert header.startswith("__Host-pegboard_abc")
        assert "; secure" in header.lower()


async def test_somebody_who_is_not_in_the_directory_is_told_so_and_chooses_again(browser: Browser) -> None:
    page = await browser.get(f"{URL}/sign-in?continue=/ledger")
    answer = await browser.press(page, "ana", person="eve")
    assert answer.status_code == 422
    assert "There is no such person here." in answer.text
    assert (await browser.press(answer, "fay")).headers["location"] == "/ledger"


async def test_who_signs_in_for_a_client_goes_on_to_its_request(browser: Browser, hub: Hub) -> None:
    client = StockClient(URL, hub.public, name="Ed <b></b>itor")
    await client.register()
    request = client.authorization("prod/presto")
    page = await browser.get((await browser.get(request)).headers["location"])
    assert "A program wants to reach" in page.text
    assert "Ed &lt;b&gt;&lt;/b&gt;itor</bdi>" in page.text
    assert "<dd>prod/presto</dd>" in page.text
    answer = await browser.press(page, "ana")
    assert URL + onward_of(answer) == request
    assert "You are signed in as Ana" in answer.text


async def test_whether_there_is_a_server_is_not_told_to_who_is_not_signed_in(browser: Browser, hub: Hub) -> None:
    client = StockClient(URL, hub.public)
    await client.register()
    for asked, shown in (("prod/presto", True), ("prod/nothing", True), ("prod/<b>", False), ("../x", False)):
        page = await browser.get(f"{URL}/sign-in?{urlencode({'continue': client.authorization(asked)[len(URL) :]})}")
        assert (f"<dd>{asked}</dd>" in page.text) is shown
        assert ("It asks for" in page.text) is shown


async def test_who_is_signed_in_already_may_go_on_or_sign_in_as_somebody_else(browser: Browser) -> None:
    await browser.sign_in("ana")
    page = await browser.get(f"{URL}/sign-in?continue=/ledger")
    assert '<a href="/ledger">Go on as <bdi>Ana</bdi></a>' in page.text
    before = dict(browser.cookies)
    await browser.press(page, "fay")
    assert "Signed in as <strong><bdi>Fay</bdi>" in (await browser.get(f"{URL}/")).text
    assert browser.cookies != before


async def test_pages_show_a_signed_in_person_their_own_and_as_wins_with_the_demo_directory(browser: Browser) -> None:
    await browser.sign_in("ana")
    own = await browser.get(f"{URL}/?surface=chat")
    assert "Ana</bdi>’s tools" in own.text
    assert '<option value="">yourself</option>' in own.text
    assert 'href="/explain?surface=chat"' in own.text
    assert "Fay</bdi>’s tools" in (await browser.get(f"{URL}/?as=fay")).text


async def test_signing_out_ends_the_session_and_forgets_the_cookie(browser: Browser, hub: Hub) -> None:
    await browser.sign_in("ana")
    kept = dict(browser.cookies)
    page = await browser.get(f"{URL}/sign-out")
    assert "Sign out everywhere" not in page.text
    answer = await browser.press(page, "Sign out of this browser")
    assert answer.headers["location"] == "/sign-out"
    assert "You are not signed in here." in (await browser.get(f"{URL}/sign-out")).text
    browser.cookies = kept
    assert "Signed in as" not in (await browser.get(f"{URL}/")).text
    assert not await hub.parts.identity.sessions.of("ana")


async def test_signing_out_everywhere_ends_the_other_browsers_too(browser: Browser, hub: Hub) -> None:
    other = Browser(URL, hub.public)
    await other.sign_in("ana")
    await browser.sign_in("ana")
    page = await browser.get(f"{URL}/sign-out")
    assert "1 other browser" in " ".join(page.text.split())
    await browser.press(page, "Sign out everywhere")
    assert "Signed in as" not in (await other.get(f"{URL}/")).text


async def test_with_a_companys_login_there_is_one_way_in(with_login: Browser) -> None:
    page = await with_login.get(f"{URL}/sign-in?continue=/ledger")
    assert '<a class="button" href="/sign-in/start?continue=%2Fledger">Sign in with Example’s Okta</a>' in page.text
    assert "demo directory" not in page.text
    assert "people sign in with Example’s Okta" in page.text


async def test_a_client_is_led_straight_to_the_companys_login(with_login: Browser, hub: Hub) -> None:
    client = StockClient(URL, hub.public)
    await client.register()
    asked = await with_login.get((await with_login.get(client.authorization("prod/presto"))).headers["location"])
    assert asked.headers["location"].startswith("/sign-in/start?continue=%2Foauth%2Fauthorize%3F")


@pytest.mark.parametrize("path", ["/", "/explain", "/ledger?on=cli", "/sessions", "/consent?client_id=x"])
async def test_with_a_companys_login_pages_are_for_who_is_signed_in(with_login: Browser, path: str) -> None:
    answer = await with_login.get(URL + path)
    assert answer.status_code == 303
    leads = httpx2.URL(URL).join(answer.headers["location"])
    assert (leads.path, leads.params.get("continue", "/")) == ("/sign-in", path)


async def test_with_a_companys_login_pages_show_what_it_told_and_nobody_else(with_login: Browser, hub: Hub) -> None:
    await signed_in(with_login, hub)
    page = await with_login.get(f"{URL}/")
    assert "Noor &lt;b&gt;Haddad&lt;/b&gt;</bdi>’s tools" in page.text
    assert "noor@example.com, signed in." in " ".join(page.text.split())
    assert "Groups: ads-eng." in " ".join(page.text.split())
    assert "<b>Haddad" not in page.text
    assert "View as</label>" not in page.text
    assert "pegboard login" in page.text
    refused = await with_login.get(f"{URL}/?as=ana")
    assert refused.status_code == 403
    assert "only with the demo directory" in refused.text


async def test_with_a_companys_login_the_explanation_is_of_ones_own_calls(with_login: Browser, hub: Hub) -> None:
    await signed_in(with_login, hub)
    page = await with_login.get(f"{URL}/explain?server=prod/presto&tool=run_query&on=chat")
    assert "Allowed: no rule refuses it." in page.text
    other = await with_login.get(f"{URL}/explain?server=prod/presto&person=ana")
    assert other.status_code == 403


async def test_owners_are_told_of_whom_the_login_has_told(with_login: Browser, hub: Hub) -> None:
    owner = PersonFacts("u-1", "Olu", ("platform",), "olu@example.com")
    await signed_in(with_login, hub, owner)
    asked = f"{URL}/explain?server=prod/presto&tool=get_revenue_metrics&person=u-17"
    unknown = await with_login.get(asked)
    assert unknown.status_code == 404
    assert "u-17 is not signed in" in unknown.text
    await hub.parts.identity.sessions.open(SignedIn(FACTS, FACTS.sub), "a phone")
    assert "Allowed: no rule refuses it." in (await with_login.get(asked)).text
