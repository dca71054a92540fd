"""Codes to type, as a program without a browser and the person who types them see it (RFC 8628)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from pegboard_hub.common.logs import configure_logging
from pegboard_hub.identity.connections import devices, store
from pegboard_hub.identity.connections.model import Connection, connections
from tests.hub.company import API, PRESTO, URL, Hub
from tests.oauth import Browser, claims_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ADDRESS = {"X-Forwarded-For": "203.0.113.7"}


@dataclass
class Program:
    """A program without a browser."""

    http: httpx2.AsyncClient
    client_id: str = "pegboard-cli"
    given: dict[str, str] = field(default_factory=dict)

    async def ask(self, **more: str) -> httpx2.Response:
        """Ask for a code."""
        form = {"client_id": self.client_id, "resource": API, **more}
        response = await self.http.post("/oauth/device", data=form, headers={"User-Agent": "tool/1", **ADDRESS})
        self.given = response.json()
        return response

    async def poll(self, **changes: str) -> httpx2.Response:
        """Ask whether somebody has said yes."""
        form = {"grant_type": GRANT, "device_code": self.given["device_code"], "client_id": self.client_id}
        return await self.http.post("/oauth/token", data={**form, "resource": API, **changes})


@pytest.fixture
def program(hub: Hub) -> Program:
    return Program(hub.public)


@pytest.fixture
async def browser(hub: Hub) -> Browser:
    found = Browser(URL, hub.public)
    await found.sign_in("ana")
    return found


async def type_code(browser: Browser, code: str) -> httpx2.Response:
    page = await browser.get(f"{URL}/device")
    return await browser.press(page, "Go on", user_code=code)


async def answer(browser: Browser, code: str, button: str) -> httpx2.Response:
    return await browser.press(await type_code(browser, code), button)


async def test_the_whole_way_from_a_code_to_tokens_for_any_server(program: Program, browser: Browser) -> None:
    response = await program.ask()
    given = response.json()
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", given["user_code"])
    assert given["verification_uri"] == f"{URL}/device"
    assert "verification_uri_complete" not in given
    assert (given["expires_in"], given["interval"]) == (600, 5)
    assert (await program.poll()).json()["error"] == "authorization_pending"
    done = await answer(browser, given["user_code"].lower().replace("-", " "), "Allow")
    assert done.headers["location"] == "/device?done=allowed"
    tokens = (await program.poll()).json()
    claims = claims_of(tokens["access_token"])
    assert (claims["sub"], claims["aud"], claims["client_id"], claims["surface"]) == (
        "ana",
        API,
        "pegboard-cli",
        "cli",
    )
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "pegboard-cli"}
    renewed = (await program.http.post("/oauth/token", data={**form, "resource": PRESTO})).json()
    assert claims_of(renewed["access_token"])["aud"] == PRESTO
    assert claims_of(renewed["access_token"])["sid"] == claims["sid"]


async def test_metadata_names_the_endpoint_and_the_grant(hub: Hub) -> None:
    document = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
    assert document["device_authorization_endpoint"] == f"{URL}/oauth/device"
    assert GRANT in document["grant_types_supported"]


async def test_the_page_says_what_asks_from_where_and_warns(program: Program, browser: Browser) -> None:
    await program.ask()
    page = " ".join(re.sub(r"<[^>]*>", "", (await type_code(browser, program.given["user_code"])).text).split())
    assert program.given["user_code"] in page
    assert "Only if you started this yourself" in page
    assert "tool/1" in page
    assert "203.0.113.7" in page
    assert "Another address than this browser" in page
    assert "every server that is open to you from a terminal" in page


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "this machine, 127.0.0.1The machine that Pegboard runs on."),
        ("192.0.2.2, 127.9.9.9", "this machine, 127.9.9.9"),
        ("198.51.100.9", "198.51.100.9Another address"),
        ("<b>", "&lt;b&gt;Another address"),
    ],
)
async def test_the_page_says_when_the_program_is_on_pegboards_own_machine(
    program: Program, browser: Browser, address: str, words: str
) -> None:
    form = {"client_id": "pegboard-cli", "resource": API}
    given = (await program.http.post("/oauth/device", data=form, headers={"X-Forwarded-For": address})).json()
    page = " ".join(re.sub(r"<[^>]*>", "", (await type_code(browser, given["user_code"])).text).split())
    assert words in page


async def test_a_no_is_final(program: Program, browser: Browser) -> None:
    await program.ask()
    assert (await answer(browser, program.given["user_code"], "Don’t allow")).headers["location"].endswith("denied")
    assert (await program.poll()).json()["error"] == "access_denied"
    assert (await type_code(browser, program.given["user_code"])).status_code == 404
    assert (await program.poll()).json()["error"] == "access_denied"


async def test_polling_too_fast_is_slowed_down_for_good(
    program: Program, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr(hub.parts.identity.devices, "_clock", lambda: now[0])
    await program.ask()
    said = []
    for passed in (0, 1, 5, 10, 9, 16):
        now[0] += passed
        said.append((await program.poll()).json()["error"])
    waits, slower = "authorization_pending", "slow_down"
    # 1 s is too soon, and the wait is 10 s; so are 5 s, and it is 15 s; 10 s and 20; 9 s and 25; 16 s and 30.
    assert said == [waits, slower, slower, slower, slower, slower]
    now[0] += 30
    assert (await program.poll()).json()["error"] == waits


async def test_a_code_ends_after_ten_minutes(
    program: Program, browser: Browser, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    now = [hub.parts.identity.devices._now_ms() / 1000]
    monkeypatch.setattr(hub.parts.identity.devices, "_clock", lambda: now[0])
    await program.ask()
    now[0] += 601
    assert (await program.poll()).json()["error"] == "expired_token"
    assert (await type_code(browser, program.given["user_code"])).status_code == 404


async def test_a_yes_that_no_program_comes_for_is_taken_back(
    program: Program, browser: Browser, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    identity = hub.parts.identity
    now = [identity.devices._now_ms() / 1000]
    monkeypatch.setattr(identity.devices, "_clock", lambda: now[0])
    await program.ask()
    await answer(browser, program.given["user_code"], "Allow")
    assert len(await _connected(hub)) == 1
    now[0] += 601
    assert (await program.poll()).json()["error"] == "expired_token"
    await identity.devices.tidy()
    assert await _connected(hub) == []
    assert (await program.poll()).json()["error"] == "invalid_grant"


async def _connected(hub: Hub) -> list[Connection]:
    """Connections that have not ended, those that no program came for among them."""
    async with hub.parts.database.read() as db:
        return await store.find(db, connections.c.sub == "ana")


async def test_typing_a_code_needs_a_sign_in_and_comes_back(hub: Hub) -> None:
    stranger = Browser(URL, hub.public)
    response = await stranger.get(f"{URL}/device")
    assert response.headers["location"] == "/sign-in?continue=/device"
    signed_in = await stranger.press(await stranger.get(f"{URL}{response.headers['location']}"), "ana")
    assert signed_in.headers["location"] == "/device"


async def test_only_so_many_codes_wait(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MOST_OF_ADDRESS", 3)
    assert [(await program.ask()).status_code for _ in range(4)] == [200, 200, 200, 503]
    assert program.given["error"] == "temporarily_unavailable"
    elsewhere = {"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}
    form = {"client_id": "pegboard-cli", "resource": API}
    assert (await program.http.post("/oauth/device", data=form, headers=elsewhere)).status_code == 200


async def test_a_token_that_could_not_be_given_costs_no_code(program: Program, browser: Browser) -> None:
    await program.ask()
    await answer(browser, program.given["user_code"], "Allow")
    assert (await program.poll(resource=f"{URL}/mcp/prod/nothing")).json()["error"] == "invalid_target"
    assert (await program.poll()).status_code == 200


async def test_a_session_that_ends_takes_the_code_s_yes_with_it(program: Program, browser: Browser, hub: Hub) -> None:
    await program.ask()
    await answer(browser, program.given["user_code"], "Allow")
    await hub.parts.identity.sessions.end_all_of("ana", "signed out")
    assert (await program.poll()).json()["error"] == "invalid_grant"


async def test_the_page_tells_of_all_that_the_program_gets(program: Program, browser: Browser) -> None:
    """The command's tokens have the whole scope of what they are for, so that a narrow one must not be promised."""
    await program.ask(scope="tools:read")
    assert "change nothing" not in (await type_code(browser, program.given["user_code"])).text
    await answer(browser, program.given["user_code"], "Allow")
    assert claims_of((await program.poll(resource=PRESTO)).json()["access_token"])["scope"] == "tools"
    assert "only read" not in (await browser.get(f"{URL}/sessions")).text


@pytest.fixture
def debugged(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What the hub's log says at its most talkative."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("DEBUG")
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_code_token_or_cookie_is_in_the_log_at_any_level(
    debugged: Callable[[], str], program: Program, browser: Browser
) -> None:
    await program.ask()
    await answer(browser, program.given["user_code"], "Allow")
    tokens = (await program.poll()).json()
    said = debugged()
    assert '"level": "debug"' in said
    secrets = [*browser.cookies.values(), tokens["access_token"], tokens["refresh_token"]]
    codes = [program.given["device_code"], program.given["user_code"], program.given["user_code"].replace("-", "")]
    for secret in (*secrets, *codes):
        assert secret not in said
