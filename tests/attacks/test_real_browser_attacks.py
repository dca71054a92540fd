"""Pages of another origin in a real browser: what it lets them send, plant and frame, and what comes of it.

The evil page is on another port of the same host. To a browser that is the same *site*, so `SameSite` cookies go
along and cookies can be planted; only the origin is another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.system.chromium import launched
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    """The origin of empty pages that run any script, on this host."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of these tests; what a test leaves in it goes with its page."""
    with launched() as found:
        yield found


@pytest.fixture
def page(pegboard: Instance, browser: Browser) -> Iterator[Page]:
    """A window in which Ana is signed in, with cookies and storage of its own."""
    with browser.new_context() as own:
        opened = own.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        opened.goto(f"{pegboard.public_url}/sign-in")
        opened.get_by_role("button", name="Ana").click()
        opened.wait_for_url(f"{pegboard.public_url}/")
        yield opened


def is_signed_in(page: Page, pegboard: Instance) -> bool:
    page.goto(pegboard.public_url)
    return "Signed in as Ana" in page.inner_text("header")


SENT = """([action, type, fields]) => {
  const form = document.createElement("form");
  [form.method, form.action, form.enctype] = ["post", action, type];
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    [input.name, input.value] = [name, value];
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}"""

TARGETS: dict[str, dict[str, str]] = {
    "/sign-out": {"which": "everywhere"},
    "/sessions/sign-out": {"session": "all"},
    "/sign-in": {"person": "gus", "continue": "/"},
    "/consent": {"answer": "allow", "request": "client_id=pegboard-cli"},
}


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        *(pytest.param(kind, marks=pytest.mark.heavy) for kind in ("text/plain", "multipart/form-data")),
    ],
)
def test_a_form_of_another_port_is_refused_although_the_cookies_came(
    pegboard: Instance, page: Page, evil: str, path: str, kind: str
) -> None:
    token = page.goto(f"{pegboard.public_url}/sign-out") and page.input_value("input[name=form_token]")
    page.goto(evil)
    with page.expect_navigation(url=f"{pegboard.public_url}{path}") as sent:
        page.evaluate(SENT, [pegboard.public_url + path, kind, {"form_token": token, **TARGETS[path]}])
    assert sent.value is not None
    assert sent.value.status == 403
    assert "pegboard_" in sent.value.request.all_headers().get("cookie", ""), "else this proves nothing"
    assert "Nothing was done with this form" in page.inner_text("main")
    assert is_signed_in(page, pegboard)


def test_a_script_of_another_port_reads_no_page(pegboard: Instance, page: Page, evil: str) -> None:
    page.goto(evil)
    read = """async url => {
      try { return await (await fetch(url, {credentials: "include"})).text() } catch (error) { return "blocked" }
    }"""
    for path in ("/", "/sessions", "/sign-in"):
        assert page.evaluate(read, pegboard.public_url + path) == "blocked"


def test_no_page_shows_in_a_frame(pegboard: Instance, page: Page, evil: str) -> None:
    page.goto(evil)
    for path in ("/sign-in", "/consent", "/sessions", "/sign-out", "/nothing"):
        put = "url => { document.body.innerHTML = '<iframe></iframe>'; document.querySelector('iframe').src = url; }"
        with page.expect_event("framenavigated", lambda frame: frame.url.startswith("chrome-error:")):
            page.evaluate(put, pegboard.public_url + path)


@pytest.mark.parametrize("where", ["/", "/sessions"])
def test_a_cookie_planted_from_another_port_signs_nobody_in_as_somebody_else(
    pegboard: Instance, page: Page, evil: str, where: str
) -> None:
    """At the same path it cannot be planted over ours, which scripts may not touch; at another, two are none."""
    name = next(c["name"] for c in page.context.cookies() if not c["name"].endswith("_form"))  # type: ignore[typeddict-item]
    page.goto(evil)
    page.evaluate(f"document.cookie = '{name}=planted; path={where}'")
    page.goto(f"{pegboard.public_url}/sessions")
    if where == "/":
        assert page.url == f"{pegboard.public_url}/sessions"
        assert "Signed in as Ana" in page.inner_text("header")
    else:
        assert "This browser sent two cookies for one sign-in, so neither counts" in page.inner_text("main")
        assert "Signed in as" not in page.inner_text("header")


def test_an_opened_window_cannot_be_steered(pegboard: Instance, page: Page, evil: str) -> None:
    page.goto(evil)
    with page.expect_popup() as opened:
        page.evaluate("url => { window.victim = window.open(url) }", f"{pegboard.public_url}/sign-out")
    opened.value.wait_for_selector("h1")
    page.wait_for_function("() => window.victim.closed")  # in a group of its own (Cross-Origin-Opener-Policy)
