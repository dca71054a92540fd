"""Connections in trouble: what ends while it is renewed, what a dying hub or full disk leaves, what is forgotten."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

import httpx2
import pytest
from sqlalchemy import Table, func, select
from sqlalchemy.exc import IntegrityError

from pegboard_hub.common.database_url import EMBEDDED
from pegboard_hub.identity.clients import store as clients_store
from pegboard_hub.identity.clients.model import Client, ClientKind, Standing
from pegboard_hub.identity.connections import service
from pegboard_hub.identity.connections.model import authorization_codes, connections, refresh_tokens
from pegboard_hub.identity.person import PersonFacts, SignedIn
from pegboard_hub.identity.revocations import KEPT_MS
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.opening import open_hub
from pegboard_hub.storage.errors import StorageUnavailable
from tests.hub.company import API, PRESTO, URL, Company, Hub, opened
from tests.hub.hub_process import Process, arguments
from tests.hub.test_full_disk import Way, full_tmpfs, limited_files
from tests.oauth import Browser, StockClient, claims_of, query_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

DAY_S = 24 * 3600
MOST_TRIES = 2000
"""Renewals until the disk is full; each writes some kilobytes."""


@pytest.fixture
def browser(hub: Hub) -> Browser:
    return Browser(URL, hub.public)


@pytest.fixture
def client(hub: Hub) -> StockClient:
    return StockClient(URL, hub.public)


class SlowLogin:
    """A login during whose answer something else happens."""

    name = "the test's login"
    issuer = "https://login.example"

    def __init__(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._meanwhile = meanwhile

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        await self._meanwhile()
        return SignedIn(facts, facts.sub, renewal=renewal)


def slow(hub: Hub, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[None]]) -> None:
    monkeypatch.setattr(hub.parts.identity.sessions, "login", SlowLogin(meanwhile))
    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)


@pytest.mark.parametrize("what", ["connection", "session"])
async def test_what_ends_while_the_login_is_asked_gives_no_token(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    identity = hub.parts.identity
    [connection] = await identity.connections.of("ana")

    async def end() -> None:
        if what == "connection":
            await identity.connections.end(connection.connection, "disconnected", "ana")
        else:
            await identity.sessions.end(connection.sid, "signed out")

    slow(hub, monkeypatch, end)
    answer = await client.refresh(tokens["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_what_renews_a_sign_in_is_not_kept_once_it_has_ended(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    sid = claims_of(tokens["access_token"])["sid"]
    facts_at = select(sessions.c.facts_at_ms).where(sessions.c.sid == sid)
    async with hub.parts.database.read() as db:
        before = await db.scalar(facts_at)
    slow(hub, monkeypatch, lambda: hub.parts.identity.sessions.end(sid, "signed out"))
    await client.refresh(tokens["refresh_token"])
    async with hub.parts.database.read() as db:
        assert await db.scalar(facts_at) == before


async def test_no_token_outlives_the_sign_in_it_came_of(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.parts.identity.sessions, "lifetime_s", 100)
    claims = claims_of((await client.connect(browser, "prod/presto"))["access_token"])
    assert claims["exp"] <= time.time() + 100


async def test_a_short_life_of_tokens_asks_the_login_more_often(company: Company) -> None:
    async with open_hub(company.home, replace(company.settings, token_lifetime_s=30)) as parts:
        assert parts.identity.sessions.renew_after_s < 30


async def test_a_connection_that_no_client_came_for_is_not_told_of(
    hub: Hub, client: StockClient, browser: Browser
) -> None:
    await client.connect(browser, "prod/presto")
    await browser.authorize(client.authorization("dev/scratch"))
    assert [each.resource for each in await hub.parts.identity.connections.of("ana")] == [PRESTO]


async def rows(hub: Hub, *tables: Table) -> list[int]:
    async with hub.parts.database.read() as db:
        return [int(await db.scalar(select(func.count()).select_from(table)) or 0) for table in tables]


async def test_everything_of_a_sign_in_is_forgotten_a_day_after_it_expired(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FORGOTTEN_AT_ONCE", 2)
    identity = hub.parts.identity
    for server in ("prod/presto", "dev/scratch") * 3:
        tokens = await client.connect(browser, server)
        await client.refresh(tokens["refresh_token"])
    await browser.authorize(client.authorization("prod/presto"))
    kept = (authorization_codes, refresh_tokens, connections, sessions)

    async def tidied_after(seconds: float) -> list[int]:
        for part in (identity.connections, identity.sessions):
            monkeypatch.setattr(part, "_clock", lambda: time.time() + seconds)
            await part.tidy()
        return await rows(hub, *kept)

    assert await tidied_after(0) == [7, 12, 7, 1]
    assert await tidied_after(2 * DAY_S) == [0, 6, 7, 1]
    assert await tidied_after(identity.sessions.lifetime_s) == [0, 6, 7, 1]
    assert await tidied_after(identity.sessions.lifetime_s + DAY_S + 60) == [0, 0, 0, 0]


async def test_a_client_that_everybody_uses_can_be_ended_at_once(
    hub: Hub, client: StockClient, browser: Browser
) -> None:
    """SQLite takes 32,766 values in one statement."""
    await client.connect(browser, "prod/presto")
    [connection] = await hub.parts.identity.connections.of("ana")
    many = [asdict(replace(connection, connection=f"{number:032}", family_digest=None)) for number in range(33_000)]
    async with hub.parts.database.write() as db:
        await db.execute(connections.insert(), many)
    await hub.parts.identity.connections.end_of_client([connection.client_id], "blocked")
    async with hub.parts.database.read() as db:
        left = select(func.count()).select_from(connections).where(connections.c.ended_at_ms.is_(None))
        assert await db.scalar(left) == 0


BOT = Client(
    client_id="wiki",
    kind=ClientKind.REGISTERED,
    software="wiki",
    name="Wiki",
    redirect_uris=("https://wiki.example/callback",),
    surface="ide",
    standing=Standing.APPROVED,
    secret="a secret: with % and ü",
)


async def test_a_client_with_a_secret_may_name_itself_in_the_header_alone(
    hub: Hub, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(_client_id: str) -> Client:
        return BOT

    monkeypatch.setattr(hub.parts.identity.clients, "get", get)
    wiki = StockClient(URL, hub.public, client_id="wiki", redirect=BOT.redirect_uris[0])
    code = query_of(await browser.authorize(wiki.authorization("prod/presto")))["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": wiki.redirect,
        "code_verifier": wiki.verifier,
    }
    basic = httpx2.BasicAuth("wiki", "a%20secret%3A%20with%20%25%20and%20%C3%BC")
    both = await hub.public.post("/oauth/token", data=form | {"client_secret": "x"}, auth=basic)
    assert both.json()["error"] == "invalid_request"
    wrong = await hub.public.post("/oauth/token", data=form, auth=httpx2.BasicAuth("wiki", "wrong"))
    assert (wrong.status_code, wrong.headers["www-authenticate"][:5]) == (401, "Basic")
    tokens = (await hub.public.post("/oauth/token", data=form, auth=basic)).json()
    assert claims_of(tokens["access_token"])["client_id"] == "wiki"
    assert (await hub.public.post("/oauth/revoke", data={"token": tokens["refresh_token"]}, auth=basic)).is_success


async def test_a_client_with_a_secret_may_send_it_in_the_form(
    hub: Hub, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(_client_id: str) -> Client:
        return BOT

    monkeypatch.setattr(hub.parts.identity.clients, "get", get)
    wiki = StockClient(URL, hub.public, client_id="wiki", redirect=BOT.redirect_uris[0])
    tokens = []
    for secret in (None, "wrong", BOT.secret):
        code = query_of(await browser.authorize(wiki.authorization("prod/presto")))["code"]
        answer = await wiki.exchange(code, client_secret=secret)
        tokens.append(answer.json().get("access_token") or (answer.status_code, answer.json()["error"]))
    assert tokens[:2] == [(401, "invalid_client")] * 2
    assert claims_of(str(tokens[2]))["surface"] == "ide"


async def test_a_client_that_the_operator_registered_may_ask_for_the_api(
    hub: Hub, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(_client_id: str) -> Client:
        return BOT

    monkeypatch.setattr(hub.parts.identity.clients, "get", get)
    wiki = StockClient(URL, hub.public, client_id="wiki", redirect=BOT.redirect_uris[0])
    code = query_of(await browser.authorize(wiki.authorization("api")))["code"]
    claims = claims_of((await wiki.exchange(code, client_secret=BOT.secret)).json()["access_token"])
    assert (claims["aud"], claims["scope"]) == (API, "api")


async def test_a_disk_that_is_full_after_the_tokens_were_kept_does_not_take_them_back(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old refresh token is used up by then: a client that is told of an error comes with it again, as a thief."""

    async def full(*_: object) -> None:
        raise StorageUnavailable("full")

    monkeypatch.setattr(clients_store, "used", full)
    tokens = await client.connect(browser, "prod/presto")
    monkeypatch.setattr(hub.parts.identity.clients, "_noted", {})
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200


@pytest.mark.parametrize("surface", ["chat", "bot"])
async def test_no_client_gets_a_token_of_a_surface_that_acts_for_many(
    hub: Hub, browser: Browser, monkeypatch: pytest.MonkeyPatch, surface: str
) -> None:
    """Whatever was decided on it before there was token exchange."""

    async def get(_client_id: str) -> Client:
        return replace(BOT, surface=surface)

    monkeypatch.setattr(hub.parts.identity.clients, "get", get)
    wiki = StockClient(URL, hub.public, client_id="wiki", redirect=BOT.redirect_uris[0])
    code = query_of(await browser.authorize(wiki.authorization("prod/presto")))["code"]
    refused = await wiki.exchange(code, client_secret=BOT.secret)
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


async def test_used_refresh_tokens_are_forgotten_and_still_end_the_connection_when_they_come_again(
    hub: Hub, client: StockClient, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief goes on for days with what was stolen; its owner comes back to the laptop with the one from before."""
    connected, other = hub.parts.identity.connections, await client.connect(browser, "dev/scratch")
    stolen = token = (await client.connect(browser, "prod/presto"))["refresh_token"]
    for _ in range(5):
        answer = (await client.refresh(token)).json()
        token = answer["refresh_token"]
    assert await rows(hub, refresh_tokens) == [7]
    monkeypatch.setattr(connected, "_clock", lambda: time.time() + KEPT_MS / 1000 + 60)
    await connected.tidy()
    assert await rows(hub, refresh_tokens) == [2]
    monkeypatch.undo()
    answer = (await client.refresh(token)).json()
    stranger = StockClient(URL, hub.public, name="Somebody else's", redirect=client.redirect)
    await stranger.register()
    for wrong in ("x", f"x.{stolen}", stolen[1:], stolen[:-1], stolen.partition(".")[0], ".x", "."):
        assert (await client.refresh(wrong)).json()["error"] == "invalid_grant"
    assert (await stranger.refresh(stolen)).json()["error"] == "invalid_grant"
    assert len(await connected.of("ana")) == 2
    assert (await client.refresh(stolen)).json()["error"] == "invalid_grant"
    assert (await client.refresh(answer["refresh_token"])).json()["error"] == "invalid_grant"
    assert claims_of(answer["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens
    assert (await client.refresh(other["refresh_token"])).status_code == 200


async def test_a_blocked_client_is_answered_as_one_that_there_is_not(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = StockClient(URL, hub.public, client_id="wiki", redirect=BOT.redirect_uris[0])
    answers = []
    for found in (replace(BOT, standing=Standing.BLOCKED), None):

        async def get(_client_id: str, found: Client | None = found) -> Client | None:
            return found

        monkeypatch.setattr(hub.parts.identity.clients, "get", get)
        tries = [
            await client.exchange("x", code_verifier="x" * 43),
            await client.refresh("x"),
            await client.revoke("x"),
        ]
        answers.append([(each.status_code, each.text) for each in tries])
    assert answers[0] == answers[1]


async def test_an_error_of_the_database_tells_nobody_what_it_was_given(hub: Hub) -> None:
    row = {"digest": "d", "connection": "no-such", "jti": "the-secret", "issued_at_ms": 0, "expires_at_ms": 0}
    with pytest.raises(IntegrityError) as error:
        async with hub.parts.database.write() as db:
            await db.execute(refresh_tokens.insert().values(row))
    assert "the-secret" not in str(error.value)


@pytest.fixture
def process(company: Company) -> Iterator[Process]:
    process = Process(company)
    yield process
    process.end()


@asynccontextmanager
async def door(company: Company) -> AsyncIterator[httpx2.AsyncClient]:
    """The hub process's public door."""
    transport = httpx2.AsyncHTTPTransport(uds=str(company.home.hub_socket))
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as http:
        yield http


@pytest.mark.heavy
async def test_a_code_and_a_connection_survive_the_hubs_violent_death(company: Company, process: Process) -> None:
    client = StockClient(URL, httpx2.AsyncClient(), client_id="pegboard-cli")

    def die_and_come_back(running: bool = True) -> None:
        if running:
            assert process.process is not None
            process.process.kill()
            process.process.wait()
        process.start(*arguments(company))
        process.ready()

    die_and_come_back(running=False)
    async with door(company) as client.http:
        browser = Browser(URL, client.http)
        code = query_of(await browser.authorize(client.authorization("api")))["code"]
    die_and_come_back()
    async with door(company) as client.http:
        tokens = (await client.exchange(code)).json()
        await client.refresh(tokens["refresh_token"])
    die_and_come_back()
    async with door(company) as client.http:
        assert (await client.exchange(code)).json()["error"] == "invalid_grant"
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert process.process is not None
    process.process.kill()
    process.process.wait()
    async with opened(company) as hub:
        assert claims_of(tokens["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens


@pytest.mark.parametrize("database_kind", [EMBEDDED], indirect=True)  # the other one's disk is not ours
@pytest.mark.parametrize("way", [full_tmpfs, limited_files])
async def test_on_a_full_disk_no_token_is_given_that_is_not_kept_and_nobody_is_signed_out(
    company: Company, process: Process, way: Way
) -> None:
    client = StockClient(URL, httpx2.AsyncClient(), client_id="pegboard-cli")
    pid: list[int] = []
    with way(company, lambda: pid[0]) as (fill, free):
        pid.append(process.start(*arguments(company)).pid)
        process.ready()
        async with door(company) as client.http:
            browser = Browser(URL, client.http)
            tokens = await client.connect(browser, "api")
            token = tokens["refresh_token"]
            fill()
            for _ in range(MOST_TRIES):
                if (answer := await client.refresh(token)).status_code != 200:
                    break
                token = answer.json()["refresh_token"]
            assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
            assert answer.headers["cache-control"] == "no-store"
            refused = query_of(await browser.authorize(client.authorization("api")))
            assert refused["error"] == "temporarily_unavailable"
            for path in ("revoke", "register"):
                answer = await client.http.post(
                    f"{URL}/oauth/{path}", data={"token": token, "client_id": "pegboard-cli"}
                )
                assert answer.status_code in (400, 503)
            free()
            assert (await client.refresh(token)).status_code == 200
            assert query_of(await browser.authorize(client.authorization("api")))["code"]
    assert "Traceback" not in process.log()
