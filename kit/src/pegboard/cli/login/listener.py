"""Listening on this machine for the browser's answer (RFC 8252 §7.3): one path, one answer, then nothing more.

Whatever else runs here, pages in the same browser included, can reach the port too. What does not bring the `state`
of this very sign-in is turned away, and changes nothing.
"""

from __future__ import annotations

import base64
import queue
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PATH = "/callback"
ADDRESS = "127.0.0.1"

REQUEST_S = 10.0
"""A connection that says nothing for so long is closed."""

REPLY_S = 60.0
"""How long a browser waits to be told how it went."""

SHOWN_S = 5.0
"""How long the end waits for a browser to take its page."""

MOST_AT_ONCE = 16
LONGEST_URL = 4096

STYLE = """
:root { color-scheme: light dark; }
:root { --ground: #f6f4f0; --surface: #fff; --line: #ddd7cc; --ink: #23201c; --quiet: #655e54; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #191714; --surface: #23201c; --line: #3c3730; --ink: #f0ebe2; --quiet: #b5aca0; }
}
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
main { max-width: 26rem; margin: 1rem; padding: 1.5rem 2rem 2rem; background: var(--surface);
  border: 1px solid var(--line); border-radius: .6rem; }
p:first-child { color: var(--quiet); font-weight: 600; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: .75rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: 0; overflow-wrap: anywhere; }
"""
"""The colours of the hub's pages, which this page cannot ask for theirs."""

_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What the browser shows at the end."""

    title: str
    text: str
    status: int = 200

    def html(self) -> bytes:
        """The page; whatever is in it is text."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pegboard</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}</style></head><body><main><p>Pegboard</p><h1>{escape(self.title)}</h1>"
            f"<p>{escape(self.text)}</p></main></body></html>"
        ).encode()


STRANGE = Page("This is not the answer that is waited for", "Nothing was done. You may close this page.", 400)
NOT_HERE = Page("There is nothing here", "You may close this page.", 404)
LATE = Page("Nobody waits for this any more", "Start again in your terminal: pegboard login", 410)


class Answer:
    """The answer to this sign-in, with the browser that brought it and waits to be told how it went."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = parameters
        self._page: queue.SimpleQueue[Page] = queue.SimpleQueue()
        self.shown = threading.Event()

    def reply(self, page: Page) -> None:
        """Show the browser how it went."""
        self._page.put(page)

    def page(self) -> Page:
        """What it is shown; waited for."""
        try:
            return self._page.get(timeout=REPLY_S)
        except queue.Empty:
            return LATE


class Listener:
    """The port, from before the browser is opened until its answer is there. A context manager.

    Attributes:
        state: what the answer must bring; nobody can guess it.
        redirect_uri: where the browser is to be sent.
    """

    def __init__(self) -> None:
        self.state = secrets.token_urlsafe(32)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._taken = threading.Lock()
        self._answer: Answer | None = None
        self._server = _Server((ADDRESS, 0), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.redirect_uri = f"http://{ADDRESS}:{self._server.server_port}{PATH}"

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SHOWN_S)
        if self._answer is not None:
            self._answer.shown.wait(SHOWN_S)

    def wait(self, seconds: float) -> Answer | None:
        """The answer; None when none came in time."""
        with suppress(queue.Empty):
            self._answer = self._answers.get(timeout=seconds)
        return self._answer

    def take(self, target: str, host: str) -> Answer | Page:
        """What a request is. The first with the right state is the answer; there is no second."""
        # A name that leads here by DNS is not who the browser was sent to.
        if host != f"{ADDRESS}:{self._server.server_port}" or len(target) > LONGEST_URL:
            return STRANGE
        parts = urlsplit(target)
        if parts.path != PATH:
            return NOT_HERE
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        parameters = dict(pairs)
        once = len(parameters) == len(pairs)  # RFC 6749 §3.1: none may be repeated
        known = secrets.compare_digest(parameters.get("state", "").encode(), self.state.encode())
        if not once or not known:
            return STRANGE
        if not self._taken.acquire(blocking=False):
            return LATE
        found = Answer(parameters)
        self._answers.put(found)
        return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # browsers open connections ahead of need, and they are not waited for
    allow_reuse_address = False
    request_queue_size = MOST_AT_ONCE

    def __init__(self, address: tuple[str, int], listener: Listener) -> None:
        self.listener = listener
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, of which there are only so many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S
    server_version = "pegboard"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a request; there is no other method here."""
        hosts = self.headers.get_all("host") or [""]
        found = self.server.listener.take(self.path, hosts[0] if len(hosts) == 1 else "")
        if isinstance(found, Page):
            self._show(found)
            return
        try:
            self._show(found.page())
        finally:
            found.shown.set()

    def _show(self, page: Page) -> None:
        body = page.html()
        self.send_response(page.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the address of a request has the code in it."""
