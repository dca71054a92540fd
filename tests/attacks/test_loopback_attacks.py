"""The port that `pegboard login` listens on, attacked: by pages in the same browser, by other programs, by a lying
server (RFC 8252 §8, RFC 9207, RFC 9700 §4.4, §4.7).

Rule: nobody is signed in but by the answer to this very sign-in, from the instance that was named; all else changes
nothing.
"""

from __future__ import annotations

import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from pegboard.cli import render
from pegboard.cli.exit import Failure
from pegboard.cli.login import browser, server
from pegboard.cli.login.listener import Listener
from pegboard.cli.login.store import Login
from tests.kit.cli_instance import Instance, running
from tests.kit.sign_in import AuthorizationServer


@pytest.fixture(scope="module")
def running_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture
def instance(running_instance: Instance) -> Instance:
    running_instance.sign_in = AuthorizationServer(running_instance.url, running_instance._access)
    return running_instance


class SignIn:
    """A sign-in under way, whose browser does what the test says.

    Attributes:
        asked: the parameters of the authorization request.
        ended: set when it has ended; `login` or `failure` says how.
    """

    def __init__(self, instance: Instance, monkeypatch: pytest.MonkeyPatch, patience_s: float = 20) -> None:
        self._opened = threading.Event()
        self._patience_s = patience_s
        self._url = instance.url
        self.asked: dict[str, str] = {}
        self.login: Login | None = None
        self.failure: Failure | None = None
        monkeypatch.setattr(browser, "open_page", self._open)
        monkeypatch.setattr(render, "hint", lambda _text: None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._opened.wait(20)

    def _open(self, url: str) -> None:
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self._opened.set()

    def _run(self) -> None:
        with server.connection(self._url) as http:
            found = server.AuthorizationServer(self._url, http)
            try:
                self.login = browser.sign_in(found, found.discover(), self._patience_s)
            except Failure as failure:
                self.failure = failure

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(urlsplit(self.asked["redirect_uri"]).port or 0)

    def answer(self, instance: Instance, **changes: str) -> httpx2.Response:
        """Bring the answer of somebody who signed in, with changes."""
        query = urlsplit(instance.sign_in.authorize(self.asked)).query
        given = {name: values[0] for name, values in parse_qs(query).items()} | changes
        return self.bring({name: value for name, value in given.items() if value})

    def bring(self, query: dict[str, str]) -> httpx2.Response:
        """Bring any answer."""
        return httpx2.get(f"{self.asked['redirect_uri']}?{urlencode(query)}", trust_env=False, timeout=20)

    def end(self) -> None:
        """Wait for the end."""
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def sign_in(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[SignIn]:
    found = SignIn(instance, monkeypatch)
    yield found
    if found._thread.is_alive():
        found.answer(instance)
        found.end()


def test_the_cases_below_fail_for_what_they_change(instance: Instance, sign_in: SignIn) -> None:
    page = sign_in.answer(instance)
    sign_in.end()
    assert page.status_code == 200
    assert sign_in.login is not None
    assert sign_in.login.sub == "ana"


STRANGE: dict[str, str] = {
    "no state": "?code=c&iss={iss}",
    "another state": "?code=c&state=x&iss={iss}",
    "part of the state": "?code=c&state={part}&iss={iss}",
    "the state twice": "?code=c&state={state}&state={state}&iss={iss}",
    "a second code": "?code=c&code=d&state={state}&iss={iss}",
    "the state beneath another path": "x?code=c&state={state}&iss={iss}",
    "the state in the fragment": "?code=c#state={state}&iss={iss}",
    "an error without a state": "?error=access_denied",
    "an error with another": "?error=access_denied&state=x&iss={iss}",
    "nothing": "",
    "a very long one": "?code=" + "c" * 5000 + "&state={state}&iss={iss}",
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_brings_another_state_changes_nothing(instance: Instance, sign_in: SignIn, case: str) -> None:
    state = sign_in.asked["state"]
    target = STRANGE[case].format(state=state, part=state[:20], iss=instance.url)
    assert _raw(sign_in.port, f"GET /callback{target} HTTP/1.1\r\nHost: 127.0.0.1:{sign_in.port}") in (400, 404)
    assert sign_in.answer(instance).status_code == 200
    sign_in.end()
    assert sign_in.login is not None


REQUESTS: dict[str, str] = {
    "by a name that leads here (DNS rebinding)": "GET {target} HTTP/1.1\r\nHost: evil.example:{port}",
    "by localhost": "GET {target} HTTP/1.1\r\nHost: localhost:{port}",
    "by another port": "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:1",
    "without a host": "GET {target} HTTP/1.1",
    "with two": "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example",
    "with a form": "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0",
    "with HEAD": "HEAD {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}",
    "with an address for a target": "GET http://evil.example{target} HTTP/1.1\r\nHost: evil.example",
    "with what is no HTTP": "\x16\x03\x01\x02\x00",
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_that_no_redirect_makes_changes_nothing(instance: Instance, sign_in: SignIn, case: str) -> None:
    query = urlsplit(instance.sign_in.authorize(sign_in.asked)).query
    request = REQUESTS[case].format(target=f"/callback?{query}", port=sign_in.port)
    assert _raw(sign_in.port, request) != 200
    assert sign_in.answer(instance).status_code == 200
    sign_in.end()
    assert sign_in.login is not None


LIES: dict[str, tuple[Callable[[str], dict[str, str]], str]] = {
    "no issuer": (lambda _url: {"iss": ""}, "wrong_issuer"),
    "another issuer (mix-up)": (lambda _url: {"iss": "https://evil.example"}, "wrong_issuer"),
    "an issuer with a slash": (lambda url: {"iss": f"{url}/"}, "wrong_issuer"),
    "an issuer in capitals": (lambda url: {"iss": url.upper()}, "wrong_issuer"),
    "somebody else's code": (lambda _url: {"code": "stolen"}, "invalid_grant"),
    "no code": (lambda _url: {"code": ""}, "no_code"),
    "an error beside a code": (lambda _url: {"error": "access_denied"}, "access_denied"),
    "another server's error": (
        lambda _url: {"error": "access_denied", "iss": "https://evil.example"},
        "wrong_issuer",
    ),
}


@pytest.mark.parametrize("case", LIES)
def test_an_answer_that_is_not_the_instance_s_own_signs_nobody_in(
    instance: Instance, sign_in: SignIn, case: str
) -> None:
    lie, code = LIES[case]
    page = sign_in.answer(instance, **lie(instance.url))
    sign_in.end()
    assert page.status_code == 400
    assert sign_in.login is None
    assert sign_in.failure is not None
    assert sign_in.failure.error["code"] == code


def test_a_code_for_another_sign_in_is_worth_nothing(instance: Instance, sign_in: SignIn) -> None:
    """Injected with the right state, a code that somebody else's challenge is bound to is not exchanged."""
    theirs = parse_qs(urlsplit(instance.sign_in.authorize({**sign_in.asked, "code_challenge": "x" * 43})).query)
    sign_in.answer(instance, code=theirs["code"][0])
    sign_in.end()
    assert sign_in.login is None


def test_what_an_error_says_is_text_on_one_line_and_not_on_the_page(instance: Instance, sign_in: SignIn) -> None:
    words = "<script>alert(1)</script>\x1b[31m\n" + "x" * 1000
    page = sign_in.answer(instance, error="e\x1b]0;owned\x07" + "e" * 200, error_description=words)
    sign_in.end()
    assert "script" not in page.text
    assert sign_in.failure is not None
    said = sign_in.failure.error["message"] + sign_in.failure.error["code"]
    assert said.isprintable()
    assert len(said) < 500


def test_after_the_answer_nobody_listens(instance: Instance, sign_in: SignIn) -> None:
    sign_in.answer(instance)
    sign_in.end()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", sign_in.port), 5)


def test_a_second_answer_does_not_replace_the_first() -> None:
    with Listener() as listener:
        query = urlencode({"code": "first", "state": listener.state})
        first = threading.Thread(target=_get, args=(f"{listener.redirect_uri}?{query}",))
        first.start()
        answer = listener.wait(20)
        assert _get(f"{listener.redirect_uri}?{query.replace('first', 'second')}") == 410
        assert answer is not None
        answer.reply(browser.FAILED)
        first.join(20)
    assert answer.parameters["code"] == "first"


def test_who_holds_connections_open_keeps_nobody_out(instance: Instance, sign_in: SignIn) -> None:
    held = [socket.create_connection(("127.0.0.1", sign_in.port), 5) for _ in range(8)]
    try:
        assert sign_in.answer(instance).status_code == 200
        sign_in.end()
    finally:
        for each in held:
            each.close()
    assert sign_in.login is not None


def test_it_listens_on_this_machine_alone_and_each_time_elsewhere() -> None:
    with Listener() as first, Listener() as second:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", first.redirect_uri)
        assert first.redirect_uri != second.redirect_uri
        assert first.state != second.state
        assert len(first.state) >= 43
        listening = _listening()
    assert (127, int(urlsplit(first.redirect_uri).port or 0)) in listening


def test_nobody_who_answers_in_time_is_no_login(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in = SignIn(instance, monkeypatch, patience_s=0.1)
    sign_in.end()
    assert sign_in.failure is not None
    assert (sign_in.failure.status, sign_in.failure.error["code"]) == (5, "not_signed_in")


def _raw(port: int, head: str) -> int:
    """The status of an answer to a request as it is written here; 0 when there is none."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = connection.makefile("rb").readline().split()
    return int(answer[1]) if len(answer) > 1 and answer[1].isdigit() else 0


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own loopback port
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _listening() -> set[tuple[int, int]]:
    """First byte of the address, and port, of every TCP socket that listens here (proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {(int(row[1][6:8], 16), int(row[1].split(":")[1], 16)) for row in rows if row[3] == "0A"}
