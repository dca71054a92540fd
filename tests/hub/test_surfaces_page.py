"""The operators' page of surfaces and the API beside it: who may look, who may widen, who may take away."""

from __future__ import annotations

import json
import re

import httpx2
import pytest
from sqlalchemy import update

from pegboard_hub.identity.sessions.model import sessions
from tests.acting import Acting
from tests.hub.company import URL, Hub
from tests.hub.test_acting import registered
from tests.oauth import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

HOSTILE = '<b>"bot"</b>'


@pytest.fixture
async def operator(hub: Hub) -> Browser:
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    return browser


def words(page: httpx2.Response) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


def filled(bot: Acting, **changes: str) -> dict[str, str]:
    """The form of a surface."""
    said = bot.registration()
    lists = {name: "\n".join(said[name]) for name in ("groups", "servers", "channels", "redirect_uris")}
    own = {name: said[name] for name in ("client_id", "name", "surface", "why")}
    return {**own, **lists, "jwks": json.dumps(said["jwks"]), **changes}


async def test_an_operator_registers_changes_and_removes(hub: Hub, operator: Browser) -> None:
    bot = Acting(URL, hub.public, "ads-bot", "bot")
    page = await operator.get(f"{URL}/surfaces")
    assert "No chat or bot acts for people here." in page.text
    answer = await operator.press(page, "Register it", **filled(bot, name=HOSTILE))
    assert answer.headers["location"] == "/surfaces?client=ads-bot&done=saved"
    page = await operator.get(f"{URL}/surfaces?client=ads-bot")
    assert HOSTILE not in page.text
    assert "pat" in words(page)
    changed = filled(bot, groups="finance\nads-eng", jwks="", why="more")
    assert (await operator.press(page, "Change it", **changed)).status_code == 303
    now = hub.parts.identity.surfaces.current["ads-bot"]
    assert (now.groups, [key["kid"] for key in now.jwks["keys"]]) == (("finance", "ads-eng"), [bot.key["kid"]])
    again = await operator.press(page, "Change it", **filled(bot, groups="platform", jwks="", why="late"))
    assert (again.status_code, "Somebody else changed it meanwhile" in words(again)) == (409, True)
    page = await operator.get(f"{URL}/surfaces?client=ads-bot")
    assert (await operator.press(page, "Remove it", why="retired")).status_code == 303
    assert hub.parts.identity.surfaces.current == {}


async def test_what_cannot_be_is_named_and_the_form_kept(hub: Hub, operator: Browser) -> None:
    bot = Acting(URL, hub.public, "ads-bot", "bot")
    page = await operator.get(f"{URL}/surfaces")
    answer = await operator.press(page, "Register it", **filled(bot, servers="everything"))
    assert (answer.status_code, "servers" in words(answer), "everything" in answer.text) == (422, True, True)
    answer = await operator.press(page, "Register it", **filled(bot, jwks="{"))
    assert "It is no JSON" in words(answer)


async def test_to_widen_wants_somebody_who_has_just_proved_who_they_are(hub: Hub, operator: Browser) -> None:
    bot = await registered(hub, "ads-bot", "bot")
    page = await operator.get(f"{URL}/surfaces?client=ads-bot")
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(authenticated_at_ms=0))
    answer = await operator.press(page, "Change it", **filled(bot, groups="finance", jwks=""))
    assert answer.headers["location"].startswith("/sign-in?")
    assert hub.parts.identity.surfaces.current["ads-bot"].groups == ("ads-eng", "platform")
    assert "prove who you are" in words(await operator.get(f"{URL}/surfaces?client=ads-bot"))
    # To take away does not.
    assert (await operator.press(page, "Remove it", why="retired")).headers["location"] == "/surfaces?done=removed"


@pytest.mark.parametrize("person", ["ana", "lea"])
async def test_nobody_else_looks_or_does_anything(hub: Hub, person: str) -> None:
    await registered(hub, "ads-bot", "bot")
    browser = Browser(URL, hub.public)
    await browser.sign_in(person)
    assert (await browser.get(f"{URL}/surfaces")).status_code == 403
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    for method, path in (
        ("GET", "surfaces"),
        ("GET", "surfaces/ads-bot/exchanges"),
        ("DELETE", "surfaces/ads-bot?why=x"),
    ):
        assert (await hub.public.request(method, f"/api/v1/{path}", headers=headers)).status_code == 403
    assert "ads-bot" in hub.parts.identity.surfaces.current


async def test_the_api_tells_and_takes_away_and_opens_nothing(hub: Hub) -> None:
    bot = await registered(hub, "ads-bot", "bot")
    found = (await hub.api("pat", "surfaces")).json()["surfaces"]
    assert [(each["client_id"], each["keys"]) for each in found] == [("ads-bot", [bot.key["kid"]])]
    assert (await hub.api("pat", "surfaces/ads-bot/exchanges")).json() == {"exchanges": []}
    headers = {"Authorization": f"Bearer {await hub.token('pat')}"}
    for method in ("POST", "PUT", "PATCH"):
        answer = await hub.public.request(method, "/api/v1/surfaces", json=bot.registration(), headers=headers)
        assert answer.status_code in (404, 405)
    removed = await hub.public.delete("/api/v1/surfaces/ads-bot?why=retired", headers=headers)
    assert removed.status_code == 200, removed.text
    assert hub.parts.identity.surfaces.current == {}
    gone = await hub.public.delete("/api/v1/surfaces/ads-bot?why=retired", headers=headers)
    assert gone.status_code == 404
