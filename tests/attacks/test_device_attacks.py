"""Codes to type, attacked: guessed, replayed, taken by another client, answered by another browser (RFC 8628 §5).

Rule (design, Rules of trust): deny by default; what a program gets, a signed-in person gave it in a browser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FORM_TOKEN = re.compile(r'action="([^"]*)"[^>]*>\s*<input type="hidden" name="form_token" value="([^"]*)"')


class Program:
    """A program that asks for a code, and polls for it."""

    def __init__(self, pegboard: Instance, client_id: str = "pegboard-cli") -> None:
        self.url = pegboard.public_url
        self.client_id = client_id
        self.given: dict[str, Any] = {}

    def ask(self, headers: Mapping[str, str | bytes] | None = None, **changes: str) -> httpx2.Response:
        form = {"client_id": self.client_id, "resource": f"{self.url}/api", **changes}
        response = httpx2.post(f"{self.url}/oauth/device", data=form, headers=headers)
        self.given = response.json()
        return response

    def poll(self, **changes: str) -> httpx2.Response:
        form = {"grant_type": GRANT, "device_code": self.given["device_code"], "client_id": self.client_id}
        return httpx2.post(f"{self.url}/oauth/token", data={**form, **changes})

    def error(self, **changes: str) -> str:
        answer = self.poll(**changes).json()
        assert "access_token" not in answer
        return str(answer["error"])


class Person:
    """A browser with somebody signed in."""

    def __init__(self, pegboard: Instance, sub: str) -> None:
        self.url = pegboard.public_url
        self.http = httpx2.Client(base_url=self.url, headers={"Accept": "text/html"})
        page = self.http.get("/sign-in")
        form = {"form_token": self.token(page, "/sign-in"), "person": sub, "continue": "/"}
        assert self.http.post("/sign-in", data=form, headers={"Origin": self.url}).status_code == 303

    def token(self, page: httpx2.Response, action: str) -> str:
        return dict(FORM_TOKEN.findall(page.text))[action]

    def type(self, code: str) -> httpx2.Response:
        """Type a code."""
        form = {"form_token": self.token(self.http.get("/device"), "/device"), "user_code": code}
        return self.http.post("/device", data=form, headers={"Origin": self.url})

    def answer(self, code: str, word: str = "allow") -> httpx2.Response:
        """Type a code and answer."""
        form = {"form_token": self.token(self.type(code), "/device/answer"), "user_code": code, "answer": word}
        return self.http.post("/device/answer", data=form, headers={"Origin": self.url})


@pytest.fixture
def program(pegboard: Instance) -> Program:
    found = Program(pegboard)
    assert found.ask().status_code == 200
    return found


People = Callable[[str], Person]


@pytest.fixture
def people(pegboard: Instance) -> Iterator[People]:
    """Opens browsers with somebody signed in, and closes them."""
    with ExitStack() as opened:

        def person(sub: str) -> Person:
            found = Person(pegboard, sub)
            opened.callback(found.http.close)
            return found

        yield person


@pytest.fixture
def ana(people: People) -> Person:
    return people("ana")


@pytest.fixture(scope="module")
def stranger(pegboard: Instance) -> str:
    """The id of a client that registered itself."""
    document = {"client_name": "Pegboard", "redirect_uris": ["http://127.0.0.1/callback"]}
    return str(httpx2.post(f"{pegboard.public_url}/oauth/register", json=document).json()["client_id"])


def test_the_cases_below_fail_for_what_they_change(program: Program, ana: Person) -> None:
    assert ana.answer(program.given["user_code"]).headers["location"] == "/device?done=allowed"
    assert program.poll().status_code == 200


def test_who_guesses_codes_is_stopped_and_nobody_else_is(people: People, program: Program, ana: Person) -> None:
    guesser = people("gus")
    statuses = [guesser.type(f"BCDF-GHJ{letter}").status_code for letter in "BCDFGHJKLMNP"]
    assert statuses == [404] * 10 + [429] * 2
    assert guesser.type(program.given["user_code"]).status_code == 429, "the right one comes too late"
    assert people("gus").type(program.given["user_code"]).status_code == 429, "in another browser, too"
    assert ana.type(program.given["user_code"]).status_code == 200


def test_a_device_code_is_good_once_and_a_second_use_ends_what_the_first_got(program: Program, ana: Person) -> None:
    ana.answer(program.given["user_code"])
    tokens = program.poll().json()
    assert program.error() == "invalid_grant"
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "pegboard-cli"}
    assert httpx2.post(f"{program.url}/oauth/token", data=form).json()["error"] == "invalid_grant"


def test_of_many_that_exchange_one_code_at_once_at_most_one_gets_a_token(program: Program, ana: Person) -> None:
    ana.answer(program.given["user_code"])
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: program.poll().status_code, range(8)))
    assert statuses.count(200) <= 1


def test_a_no_stays_a_no(people: People, program: Program, ana: Person) -> None:
    page = ana.type(program.given["user_code"])
    form = {"form_token": ana.token(page, "/device/answer"), "user_code": program.given["user_code"]}
    for word, status in (("deny", 303), ("allow", 404), ("allow", 404)):
        sent = ana.http.post("/device/answer", data={**form, "answer": word}, headers={"Origin": program.url})
        assert sent.status_code == status
    assert people("pat").type(program.given["user_code"]).status_code == 404
    assert program.error() == "access_denied"


def test_a_yes_is_one_person_s(people: People, program: Program, ana: Person) -> None:
    fay = people("fay")
    page = fay.type(program.given["user_code"])
    ana.answer(program.given["user_code"])
    form = {"form_token": fay.token(page, "/device/answer"), "user_code": program.given["user_code"]}
    late = fay.http.post("/device/answer", data={**form, "answer": "allow"}, headers={"Origin": program.url})
    assert late.status_code == 404
    whoami = {"Authorization": f"Bearer {program.poll().json()['access_token']}"}
    assert httpx2.get(f"{program.url}/api/v1/whoami", headers=whoami).json()["sub"] == "ana"


EXCHANGES: dict[str, tuple[dict[str, str], str]] = {
    "another client": ({"client_id": "{stranger}"}, "invalid_grant"),
    "a client nobody knows": ({"client_id": "nobody"}, "invalid_client"),
    "no client": ({"client_id": ""}, "invalid_client"),
    "the user code": ({"device_code": "{user_code}"}, "invalid_grant"),
    "half of it": ({"device_code": "{half}"}, "invalid_grant"),
    "no code": ({"device_code": ""}, "invalid_request"),
    "another grant": ({"grant_type": "authorization_code"}, "invalid_request"),
    "as a refresh token": ({"grant_type": "refresh_token", "refresh_token": "{device_code}"}, "invalid_grant"),
}


@pytest.mark.parametrize("case", EXCHANGES)
def test_a_code_that_was_allowed_is_for_its_own_program_alone(
    program: Program, ana: Person, stranger: str, case: str
) -> None:
    ana.answer(program.given["user_code"])
    places = {"stranger": stranger, "half": program.given["device_code"][:20], **program.given}
    changes, error = EXCHANGES[case]
    assert program.error(**{name: value.format(**places) for name, value in changes.items()}) == error
    assert program.poll().status_code == 200, "its own program still gets its token"


def _token_of(action: str) -> Callable[[Person, Person, str], dict[str, str]]:
    return lambda ana, _fay, _code: {"form_token": ana.token(ana.http.get("/device"), action)}


Attack = Callable[[Person, Person, str], dict[str, str]]

FORGED: dict[str, tuple[dict[str, str], Attack]] = {
    "from another site": (
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        lambda ana, _fay, code: {"form_token": ana.token(ana.type(code), "/device/answer")},
    ),
    "from another port": (
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
        lambda ana, _fay, code: {"form_token": ana.token(ana.type(code), "/device/answer")},
    ),
    "from nowhere": ({}, lambda ana, _fay, code: {"form_token": ana.token(ana.type(code), "/device/answer")}),
    "from a sandbox": (
        {"Origin": "null"},
        lambda ana, _fay, code: {"form_token": ana.token(ana.type(code), "/device/answer")},
    ),
    "without a token": ({"Origin": "{url}"}, lambda _ana, _fay, _code: {}),
    "with an empty token": ({"Origin": "{url}"}, lambda _ana, _fay, _code: {"form_token": ""}),
    "with another form's token": ({"Origin": "{url}"}, _token_of("/device")),
    "with another person's token": (
        {"Origin": "{url}"},
        lambda _ana, fay, code: {"form_token": fay.token(fay.type(code), "/device/answer")},
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_yes_connects_nothing(people: People, program: Program, ana: Person, case: str) -> None:
    headers, forge = FORGED[case]
    code = program.given["user_code"]
    form = {"user_code": code, "answer": "allow", **forge(ana, people("fay"), code)}
    named = {name: value.format(url=program.url) for name, value in headers.items()}
    assert ana.http.post("/device/answer", data=form, headers=named).status_code == 403
    assert program.error() == "authorization_pending"


@pytest.mark.parametrize("path", ["/device?user_code={0}", "/device?user_code={0}&answer=allow", "/device/answer"])
def test_a_link_neither_answers_nor_fills_in(program: Program, ana: Person, path: str) -> None:
    code = program.given["user_code"]
    page = ana.http.get(path.format(code))
    assert page.status_code in (200, 405)
    assert code not in page.text
    assert program.error() == "authorization_pending"


def test_nobody_answers_without_being_signed_in(program: Program) -> None:
    form = {"user_code": program.given["user_code"], "answer": "allow"}
    sent = httpx2.post(f"{program.url}/device/answer", data=form, headers={"Origin": program.url})
    assert sent.headers["location"].startswith("/sign-in")
    assert program.error() == "authorization_pending"


@pytest.mark.parametrize("header", ["x-frame-options", "content-security-policy"])
def test_the_page_is_in_no_frame(program: Program, ana: Person, header: str) -> None:
    page = ana.type(program.given["user_code"])
    assert page.headers[header] in ("DENY", page.headers["content-security-policy"])
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


ASKED: dict[str, tuple[dict[str, str], dict[str, str], int, str]] = {
    "a client that registered itself": ({"client_id": "{stranger}"}, {}, 400, "unauthorized_client"),
    "a client nobody knows": ({"client_id": "nobody"}, {}, 401, "invalid_client"),
    "a page of another site": ({}, {"Origin": "https://evil.example"}, 400, "invalid_request"),
    "a page in a sandbox": ({}, {"Origin": "null"}, 400, "invalid_request"),
    "no form": ({}, {"Content-Type": "application/json"}, 400, "invalid_request"),
}


@pytest.mark.parametrize("case", ASKED)
def test_codes_are_for_clients_that_somebody_vouches_for(pegboard: Instance, stranger: str, case: str) -> None:
    changes, headers, status, error = ASKED[case]
    program = Program(pegboard)
    named = {name: value.format(stranger=stranger) for name, value in changes.items()}
    assert (program.ask(headers, **named).status_code, program.given["error"]) == (status, error)


TYPED = [
    "",
    "-",
    "' OR 1=1 --",
    "BCDF-GHJK\x00",
    "%",
    "_" * 8,
    "x" * 64,
    "Ｂ" * 8,
    "<script>alert(1)</script>",
]


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_no_code_finds_none_and_is_shown_as_text(people: People, program: Program, typed: str) -> None:
    page = people("sam").type(typed)
    assert page.status_code == 404
    assert "<script>" not in page.text
    assert program.error() == "authorization_pending"


def test_a_program_cannot_write_the_page_that_asks_about_it(pegboard: Instance, ana: Person) -> None:
    program = Program(pegboard)
    lies = {"User-Agent": "<b>Pegboard</b> \xad\xa0", "X-Forwarded-For": "198.51.100.66"}
    lies |= {"X-Real-IP": "198.51.100.67", "Forwarded": "for=198.51.100.68"}
    program.ask({name: value.encode("latin-1") for name, value in lies.items()})
    page = ana.type(program.given["user_code"]).text
    assert "<b>" not in page
    assert "‹U+00AD›" in page
    assert "198.51.100" not in page
    assert "The same address as this browser" in page
