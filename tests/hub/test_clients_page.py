"""The operators' page of clients: they see who uses what, and decide with a reason; nobody else does either."""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import urlencode

import httpx2
import pytest

from pegboard_hub.identity.clients.model import Standing
from pegboard_hub.identity.person import LoginUnavailable, PersonFacts, SignedIn
from pegboard_hub.web.pages.browser import Visitor
from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

HOSTILE = '<script>alert(1)</script>\u202egnp"onmouseover=x'


@pytest.fixture
async def operator(hub: Hub) -> Browser:
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    return browser


@pytest.fixture
async def editor(hub: Hub) -> StockClient:
    client = StockClient(URL, hub.public, name="Editor")
    await client.connect(Browser(URL, hub.public), "prod/presto")
    return client


async def software_of(hub: Hub, client: StockClient) -> str:
    found = await hub.parts.identity.clients.get(client.client_id)
    assert found is not None
    return found.software


async def page_of(hub: Hub, browser: Browser, client: StockClient) -> httpx2.Response:
    return await browser.get(f"{URL}/clients?{urlencode({'software': await software_of(hub, client)})}")


async def standing(hub: Hub, client: StockClient) -> Standing:
    found = await hub.parts.identity.clients.get(client.client_id)
    assert found is not None
    return found.standing


def words(page: httpx2.Response) -> str:
    """What one reads on a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


async def test_an_operator_finds_the_page_and_sees_who_uses_what(operator: Browser, editor: StockClient) -> None:
    assert re.search(r'href="/clients(\?[^"]*)?">Operate</a>', (await operator.get(f"{URL}/")).text)
    shown = words(await operator.get(f"{URL}/clients"))
    assert re.search(r"Editor made itself known http://127\.0\.0\.1:43210/callback cli unknown Ana \d{4}-", shown)
    assert "pegboard Pegboard’s own" in shown


async def test_how_a_client_came_is_told_as_a_sentence_and_no_decision_is_claimed_before_there_is_one(
    hub: Hub, operator: Browser, editor: StockClient
) -> None:
    shown = words(await page_of(hub, operator, editor))
    assert "A client that made itself known when it came (dynamic registration)." in shown
    assert "Decided" not in shown
    assert "0 made" not in words(await operator.get(f"{URL}/clients"))


async def test_a_code_that_nobody_came_for_is_no_connection(hub: Hub, operator: Browser, editor: StockClient) -> None:
    ana = Browser(URL, hub.public)
    await ana.sign_in("ana")
    await ana.authorize(editor.authorization("dev/scratch"))
    assert "( ana ), 1 connection " in words(await page_of(hub, operator, editor))


async def test_when_a_client_was_last_seen_outlives_what_it_had(
    hub: Hub, operator: Browser, editor: StockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the command, which the database says nothing of, and when the connections are forgotten."""
    command = StockClient(URL, hub.public, client_id="pegboard-cli", redirect="http://127.0.0.1:1/callback")
    await command.connect(Browser(URL, hub.public), "api")

    async def seen() -> list[int | None]:
        found = {each.name: each.last_seen_at_ms for each in (await hub.parts.identity.clients.listed()).software}
        return [found[name] for name in ("Editor", "pegboard")]

    before = await seen()
    assert None not in before
    await hub.parts.identity.sessions.end_all_of("ana", "signed out everywhere")
    assert await seen() == before
    assert "never" not in words(await page_of(hub, operator, editor))
    monkeypatch.setattr(hub.parts.identity.connections, "_clock", lambda: time.time() + 9 * 24 * 3600)
    await hub.parts.identity.connections.tidy()
    later = await seen()
    assert None not in later


async def test_an_operator_decides_and_the_page_says_who_and_why(
    hub: Hub, operator: Browser, editor: StockClient, caplog: pytest.LogCaptureFixture
) -> None:
    page = await page_of(hub, operator, editor)
    with caplog.at_level(logging.WARNING):
        answer = await operator.press(page, "Decide", standing="approved", surface="ide", why="Everybody’s editor")
    assert answer.status_code == 303
    after = words(await operator.get(f"{URL}{answer.headers['location']}"))
    assert "Approved. From now on nobody is asked about it." in after
    assert re.search(r"Decided by pat on .* UTC: Everybody’s editor", after)
    assert await standing(hub, editor) is Standing.APPROVED
    [record] = [each for each in caplog.records if each.message == "client decided on"]
    facts = {name: getattr(record, name) for name in ("sub", "standing", "surface", "why", "before")}
    assert facts == {
        "sub": "pat",
        "standing": "approved",
        "surface": "ide",
        "why": "Everybody’s editor",
        "before": "unknown",
    }


async def test_a_block_on_the_page_ends_what_the_client_has(hub: Hub, operator: Browser, editor: StockClient) -> None:
    page = await page_of(hub, operator, editor)
    answer = await operator.press(page, "Decide", standing="blocked", why="leaks")
    assert "Blocked." in words(await operator.get(f"{URL}{answer.headers['location']}"))
    assert await hub.parts.identity.connections.of("ana") == []
    assert editor.client_id in hub.parts.identity.revocations.current.clients


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"standing": "approved", "why": " "}, "say why"),
        ({"why": "because"}, "choose what it shall be"),
        ({"standing": "owner", "why": "because"}, "choose what it shall be"),
        ({"standing": "approved", "surface": "bot", "why": "because"}, "none of cli, ide"),
    ],
)
async def test_a_decision_that_cannot_be_made_keeps_the_form(
    hub: Hub, operator: Browser, editor: StockClient, fields: dict[str, str], problem: str
) -> None:
    answer = await operator.press(await page_of(hub, operator, editor), "Decide", **fields)
    assert answer.status_code == 422
    assert problem in words(answer)
    assert f'value="{fields["why"]}"' in answer.text
    assert await standing(hub, editor) is Standing.UNKNOWN


async def test_a_document_can_be_blocked_before_anybody_comes_with_it(hub: Hub, operator: Browser) -> None:
    url = "https://evil.example.com/client.json"
    page = await operator.get(f"{URL}/clients?{urlencode({'software': url})}")
    await operator.press(page, "Decide", standing="blocked", why="not in this company")
    assert f"{url} known by a document" in words(await operator.get(f"{URL}/clients"))
    assert (await operator.get(f"{URL}/clients?software=https://10.0.0.1/x")).status_code == 404


async def test_pegboards_own_command_has_no_surface_to_choose(hub: Hub, operator: Browser) -> None:
    page = await operator.get(f"{URL}/clients?software=pegboard-cli")
    assert 'name="surface"' not in page.text
    assert "Let it in, as registered" in page.text


async def test_a_hostile_name_is_text_on_both_pages(hub: Hub, operator: Browser) -> None:
    client = StockClient(URL, hub.public, name=HOSTILE)
    await client.register()
    for page in (await operator.get(f"{URL}/clients"), await page_of(hub, operator, client)):
        assert "<script" not in page.text
        assert "\u202e" not in page.text
        assert "‹U+202E›" in page.text
        assert 'onmouseover=x"' not in page.text.replace("&#34;onmouseover=x", "")


async def test_approving_what_nobody_can_check_is_warned_of(hub: Hub, operator: Browser) -> None:
    client = StockClient(URL, hub.public, name="Pegb\u043eard")
    await client.register()
    shown = words(await page_of(hub, operator, client))
    assert "Its name reads like Pegboard’s" in shown
    assert "every program there that calls itself so" in shown


@pytest.mark.parametrize("path", ["/clients", "/clients?software=pegboard-cli"])
async def test_nobody_else_sees_the_page(hub: Hub, path: str) -> None:
    nobody, ana = Browser(URL, hub.public), Browser(URL, hub.public)
    assert "/sign-in" in (await nobody.get(f"{URL}{path}")).headers["location"]
    await ana.sign_in("ana")
    refused = await ana.get(f"{URL}{path}")
    assert refused.status_code == 403
    assert "pegboard-cli" not in refused.text
    assert "/clients" not in (await ana.get(f"{URL}/")).text


@pytest.mark.parametrize("change", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}])
async def test_a_form_of_another_site_or_without_the_token_decides_nothing(
    hub: Hub, operator: Browser, editor: StockClient, change: dict[str, str]
) -> None:
    page = await page_of(hub, operator, editor)
    token = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert token
    form = {"software": await software_of(hub, editor), "standing": "approved", "why": "because"}
    cookies = "; ".join(f"{name}={value}" for name, value in operator.cookies.items())
    headers = {"Cookie": cookies, "Origin": URL, "Sec-Fetch-Site": "same-origin", **change}
    form |= {"form_token": token[1]} if change else {}
    response = await hub.public.post("/clients/decide", data=form, headers=headers)
    assert response.status_code == 403
    assert await standing(hub, editor) is Standing.UNKNOWN


async def test_the_form_of_another_persons_page_decides_nothing(
    hub: Hub, operator: Browser, editor: StockClient
) -> None:
    page = await page_of(hub, operator, editor)
    ana = Browser(URL, hub.public)
    await ana.sign_in("ana")
    operator.cookies = ana.cookies
    answer = await operator.press(page, "Decide", standing="approved", why="because")
    assert answer.status_code == 403
    assert await standing(hub, editor) is Standing.UNKNOWN


async def test_a_bearer_token_decides_nothing(hub: Hub, editor: StockClient) -> None:
    form = {"software": await software_of(hub, editor), "standing": "approved", "why": "because"}
    headers = {"Authorization": f"Bearer {await hub.token('pat')}", "Origin": URL, "Sec-Fetch-Site": "same-origin"}
    hub.public.cookies.clear()
    response = await hub.public.post("/clients/decide", data=form, headers=headers)
    assert response.status_code in (303, 403)
    assert await standing(hub, editor) is Standing.UNKNOWN


async def test_whom_a_page_is_shown_as_has_no_say_in_what_is_done(hub: Hub, editor: StockClient) -> None:
    """In the demo anybody may look at pages as anybody, and does nothing as anybody but themselves."""
    ana = Browser(URL, hub.public)
    await ana.sign_in("ana")
    assert (await ana.get(f"{URL}/clients?as=pat")).status_code == 403
    own = Visitor(None, ana.cookies[hub.parts.identity.cookie.name]).form_token("/clients/decide")
    decision = {"software": await software_of(hub, editor), "standing": "approved", "why": "mine"}
    answer = await ana._send("POST", f"{URL}/clients/decide?as=pat", {"form_token": own, **decision})
    assert answer.status_code == 403
    assert "looked after by people in: platform" in answer.text
    assert await standing(hub, editor) is Standing.UNKNOWN
    await StockClient(URL, hub.public, name="Pats own").connect(Browser(URL, hub.public), "prod/presto", "pat")
    shown = words(await ana.get(f"{URL}/sessions?as=pat"))
    assert "Editor" in shown
    assert "Pats own" not in shown


async def test_who_is_no_operator_any_more_decides_nothing(
    hub: Hub, operator: Browser, editor: StockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await page_of(hub, operator, editor)

    async def moved(_renewal: str, facts: PersonFacts) -> SignedIn:
        return SignedIn(PersonFacts(facts.sub, facts.name, ("finance",)), facts.sub)

    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    monkeypatch.setattr(type(hub.parts.identity.sessions.login), "renew", staticmethod(moved))
    answer = await operator.press(page, "Decide", standing="approved", why="because")
    assert answer.status_code == 403
    assert await standing(hub, editor) is Standing.UNKNOWN


async def test_while_the_login_does_not_answer_nobody_decides(
    hub: Hub, operator: Browser, editor: StockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await page_of(hub, operator, editor)

    async def away(_renewal: str, _facts: PersonFacts) -> SignedIn:
        raise LoginUnavailable("no answer")

    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    monkeypatch.setattr(type(hub.parts.identity.sessions.login), "renew", staticmethod(away))
    answer = await operator.press(page, "Decide", standing="approved", why="because")
    assert answer.status_code == 503
    assert await standing(hub, editor) is Standing.UNKNOWN
