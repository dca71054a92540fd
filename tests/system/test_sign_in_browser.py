"""Signing in, saying yes and signing out in a real browser: by keyboard alone, on a telephone, in both colours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.oauth import StockClient, claims_of, query_of
from tests.system.chromium import LOOKS, looked_at
from tests.system.instance import Instance
from tests.tools.node import NodeTools, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000
MOST_TABS = 40

FOCUS = """() => {
  const at = document.activeElement, style = getComputedStyle(at);
  return [at.innerText || at.value || "", style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
}"""


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    return provide()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 375, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    context.close()


@contextlib.contextmanager
def listening(onward: str = "") -> Iterator[tuple[str, list[str]]]:
    """A client's redirect on this machine: its address, and what arrives there. It may lead on to another page."""
    arrived: list[str] = []

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/callback"):
                arrived.append(self.path)
            self.send_response(302 if onward and self.path.startswith("/callback") else 200)
            self.send_header("Content-Type", "text/html")
            if onward:
                self.send_header("Location", onward)
            self.end_headers()
            self.wfile.write(b"<h1>The client has its answer</h1>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Callback) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/callback", arrived
        server.shutdown()
        thread.join()


def registered(pegboard: Instance, redirect: str, name: str) -> tuple[StockClient, str]:
    """A client that made itself known, and its request for prod/presto."""
    document = {"client_name": name, "redirect_uris": [redirect]}
    answer = httpx2.post(f"{pegboard.public_url}/oauth/register", json=document).json()
    client = StockClient(pegboard.public_url, httpx2.AsyncClient(), redirect=redirect, client_id=answer["client_id"])
    return client, client.authorization("prod/presto")


def scope_of(client: StockClient, answered: str) -> str:
    """The scope of the token that a client gets for the answer to its request."""
    form = {
        "grant_type": "authorization_code",
        "code": query_of(answered)["code"],
        "redirect_uri": client.redirect,
        "client_id": client.client_id,
        "code_verifier": client.verifier,
    }
    tokens = httpx2.post(f"{client.url}/oauth/token", data=form).json()
    return str(claims_of(tokens["access_token"])["scope"])


def tab_to(page: Page, words: str) -> None:
    """Press Tab until what has the focus begins with `words`; what has it must always show."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        text, visible = page.evaluate(FOCUS)
        assert visible, f"the focus does not show on {text!r}"
        if " ".join(text.split()).startswith(words):
            return
    raise AssertionError(f"Tab leads to no {words!r} on {page.url}")


def heading(page: Page, words: str) -> None:
    """Wait for the page of that heading; there is one, and nothing is wider than the window."""
    page.wait_for_selector(f"h1:has-text({words!r})")
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_client_is_connected_and_taken_back_by_keyboard_alone(pegboard: Instance, page: Page) -> None:
    with listening() as (redirect, arrived):
        client, request = registered(pegboard, redirect, "Keyboard Editor")
        page.goto(request)
        heading(page, "Sign in")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        tab_to(page, "Ana")
        page.keyboard.press("Enter")
        heading(page, "Connect")
        assert page.evaluate(FOCUS)[0] != "Allow", "nobody says yes by a key too many"
        tab_to(page, "tools")
        page.keyboard.press("ArrowDown")
        assert page.get_by_label("Only read").is_checked()
        tab_to(page, "Allow")
        page.keyboard.press("Enter")
        heading(page, "The client has its answer")
    assert scope_of(client, arrived[0]) == "tools:read"

    page.goto(pegboard.public_url)
    tab_to(page, "Signed in as Ana")
    page.keyboard.press("Enter")
    tab_to(page, "Where am I signed in")
    page.keyboard.press("Enter")
    heading(page, "Where am I signed in")
    assert "Keyboard Editor" in page.inner_text(".devices")
    tab_to(page, "Disconnect")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_be_focused()
    assert "Keyboard Editor" not in page.inner_text(".devices")
    tab_to(page, "Sign out of this browser")
    page.keyboard.press("Enter")
    heading(page, "Signed out")
    assert page.context.cookies() == []


def test_the_way_goes_on_wherever_the_client_leads(pegboard: Instance, page: Page) -> None:
    """A client may send its browser on to a page of its maker; a form's redirects would be stopped there."""
    with listening() as (elsewhere, _), listening(elsewhere.replace("127.0.0.1", "localhost")) as (redirect, arrived):
        for answer, wanted in (("Don’t allow", "error=access_denied"), ("Allow", "code=")):
            _, request = registered(pegboard, redirect, "Leads on")
            page.goto(request)
            if page.locator("text=Choose who you are").count():
                page.get_by_role("button", name="Fay").click()
            page.get_by_role("button", name=answer, exact=True).click()
            heading(page, "The client has its answer")
            assert wanted in arrived[-1]


def test_a_client_in_a_web_page_gets_its_answer_from_the_window_it_opened(pegboard: Instance, page: Page) -> None:
    with listening() as (redirect, _):
        _, request = registered(pegboard, redirect, "In a page")
        page.goto(redirect.replace("/callback", "/"))
        with page.expect_popup() as opened:
            page.evaluate("url => { window.opened = window.open(url, 'sign-in', 'width=400,height=600') }", request)
        window = opened.value
        window.get_by_role("button", name="Ana").click()
        heading(window, "Connect")
        assert page.evaluate("window.opened.closed") is False
        window.get_by_role("button", name="Allow", exact=True).click()
        heading(window, "The client has its answer")
        assert "code=" in page.evaluate("window.opened.location.href")
        assert window.evaluate("window.opener !== null")


def test_what_a_servers_page_shows_is_copied_by_a_button_and_can_be_read_without_a_script(
    pegboard: Instance, browser: Browser
) -> None:
    address = f"{pegboard.public_url}/servers/prod/presto/connect?as=ana"
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        tab_to(page, "Copy")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=status]:text('Copied')", state="attached")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == f"{pegboard.public_url}/mcp/prod/presto"
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address)
        assert page.locator(".copied button").count() == 0
        assert page.locator("#address").input_value() == copied
        command = page.locator("#connect-any").input_value()
        assert command == f"pegboard connect CLIENT --server prod/presto --url {pegboard.public_url}"


def test_the_navigation_shows_where_one_is_and_stays_where_it_is_from_page_to_page(
    pegboard: Instance, page: Page
) -> None:
    page.goto(f"{pegboard.public_url}/sign-in")
    page.get_by_role("button", name="Pat").click()
    page.wait_for_url(f"{pegboard.public_url}/")
    for width, highest in ((1280, 48), (1024, 48), (375, 140)):
        page.set_viewport_size({"width": width, "height": 800})
        places = set()
        for path in ("/", "/explain", "/ledger", "/clients", "/sessions", "/sign-in", "/nothing"):
            page.goto(pegboard.public_url + path)
            places.add(str([box for link in page.locator(".top nav a").all() if (box := link.bounding_box())]))
            header = page.locator("header.top").bounding_box()
            assert header is not None
            assert header["height"] <= highest, path
            for current in page.locator(".top nav a[aria-current]").all():
                box = current.bounding_box()
                assert box is not None
                assert 0 <= box["x"] <= width - box["width"], path
        assert len(places) == 1, width


def test_a_wrong_choice_is_where_the_keyboard_begins(pegboard: Instance, page: Page) -> None:
    page.goto(f"{pegboard.public_url}/sign-in")
    page.locator("button[value=gus]").evaluate("button => { button.value = 'nobody' }")
    page.locator("button[value=nobody]").click()
    expect(page.get_by_role("alert")).to_be_focused()


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_every_page_can_be_read_by_everybody(
    pegboard: Instance, browser: Browser, tools: NodeTools, colours: Any, width: int
) -> None:
    """What axe-core finds at the levels A and AA of WCAG 2.2, and nothing wider than the window."""
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    _, consent = registered(pegboard, "cursor://anysphere.cursor-retrieval/cb", "Pegboard " + "W" * 90)
    page.goto(f"{pegboard.public_url}/sign-in")
    looked_at(page, axe)
    page.get_by_role("button", name="Pat").click()
    page.wait_for_url(f"{pegboard.public_url}/")
    for path in PATHS:
        page.goto(pegboard.public_url + path)
        looked_at(page, axe)
    page.goto(consent)
    heading(page, "Connect")
    looked_at(page, axe)
    page.goto(f"{pegboard.public_url}/sign-out")
    page.get_by_role("button", name="Sign out of this browser").click()
    heading(page, "Signed out")
    looked_at(page, axe)
    context.close()


PATHS = [
    "/",
    "/reviews",
    "/servers/prod/presto/access",
    "/sign-in?again=1",
    "/servers/prod/presto",
    "/servers/prod/presto/connect",
    "/sessions",
    "/clients",
    "/stops",
    "/clients?software=pegboard-cli",
    "/device",
    "/device?done=allowed",
    "/sign-in",
    "/sign-out",
    "/explain",
    "/ledger",
    "/nothing",
    "/oauth/authorize?x=1",
]
