"""A refusal, told to whoever asked: to a person as a page, to a program in the one shape."""

from __future__ import annotations

import pytest

from pegboard_hub.storage.errors import StorageUnavailable
from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient

pytestmark = pytest.mark.anyio

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "status", "title"),
    [
        ("/nothing", 404, "There is nothing here"),
        ("/sign-out/", 404, "There is nothing here"),
        ("/api/v1/whoami", 401, "Not signed in"),
    ],
)
async def test_a_person_reads_a_page_and_a_program_the_one_shape(
    hub: Hub, path: str, status: int, title: str
) -> None:
    page = await hub.public.get(path, headers=BROWSER)
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert f"<h1>{title}</h1>" in page.text
    assert page.headers["x-request-id"] in page.text
    shape = await hub.public.get(path)
    assert shape.status_code == status
    assert set(shape.json()["error"]) == {"code", "message", "layer", "reason", "what_to_do", "request_id"}
    assert page.headers.get("www-authenticate") == shape.headers.get("www-authenticate")


async def test_where_there_is_nothing_a_person_is_led_home_and_a_program_to_the_api(hub: Hub) -> None:
    page = (await hub.public.get("/nothing", headers=BROWSER)).text
    assert page.count("There is nothing here") == 2  # the title and the heading
    assert "openapi" not in page
    assert '<a href="/">Home</a>' in page
    assert "/api/v1/openapi.json" in (await hub.public.get("/nothing")).text


async def test_what_goes_wrong_inside_stays_inside(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr(hub.parts.ledger, "figures_of", broken)
    page = await hub.public.get("/", headers=BROWSER)
    assert page.status_code == 500
    assert "<h1>Something went wrong</h1>" in page.text
    assert "secret insides" not in page.text


async def test_a_database_that_is_away_is_told_of_also_to_who_is_signed_in(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(URL, hub.public)
    await browser.sign_in("ana")

    async def away(*_: object) -> None:
        raise StorageUnavailable("no space left")

    monkeypatch.setattr(type(hub.parts.identity.sessions), "find", away)
    page = await browser.get(f"{URL}/sessions")
    assert page.status_code == 503
    assert "<h1>Not just now</h1>" in page.text


async def test_an_authorization_request_of_nobody_known_is_explained_to_the_person(hub: Hub) -> None:
    client = StockClient(
        URL, hub.public, client_id="https://evil.example/<b>", redirect="https://evil.example/\u202e"
    )
    request = client.authorization("prod/presto")
    page = await hub.public.get(request, headers=BROWSER)
    assert page.status_code == 400
    assert "Nothing was sent to it." in page.text
    assert "remove Pegboard from that program and add it again" in page.text
    assert "&lt;b&gt;" in page.text
    assert "<b>" not in page.text
    assert "\u202e" not in page.text
    assert 'href="http' not in page.text
    assert "refresh" not in page.text.partition("<body>")[0]
    shape = (await hub.public.get(request)).json()
    assert shape["error"] == "invalid_request"
