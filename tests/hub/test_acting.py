"""Surfaces that act for people: registered by the operator, let in by each person, named in every token."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError

from pegboard_hub.identity.clients.model import Standing
from pegboard_hub.identity.surfaces.model import acting_surface_history
from tests.acting import ACCESS_TOKEN, Acting
from tests.hub.company import OPERATOR, PRESTO, URL, Hub
from tests.oauth import Browser, claims_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


async def at_the_machine(hub: Hub, path: str, /, **body: Any) -> httpx2.Response:
    """Ask at the internal door, as `pegboard surfaces` does."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    if not body:
        return await hub.internal.get(f"/internal/v1/surfaces{path}", headers=headers)
    return await hub.internal.post(f"/internal/v1/surfaces{path}", json=body, headers=headers)


async def registered(hub: Hub, client_id: str, surface: str, **facts: Any) -> Acting:
    found = Acting(URL, hub.public, client_id, surface, facts)
    response = await at_the_machine(hub, "/register", **found.registration())
    assert response.status_code == 200, response.text
    return found


@pytest.fixture
async def bot(hub: Hub) -> Acting:
    return await registered(hub, "ads-bot", "bot")


@pytest.fixture
async def chat(hub: Hub) -> Acting:
    return await registered(hub, "web-chat", "chat")


@pytest.fixture
async def ana(hub: Hub) -> Browser:
    browser = Browser(URL, hub.public)
    await browser.sign_in("ana")
    return browser


async def test_a_bot_acts_for_the_author_of_a_message(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    response = await bot.exchange(bot.statement("ana"))
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["issued_token_type"], body["token_type"]) == (ACCESS_TOKEN, "Bearer")
    assert "refresh_token" not in body
    assert 290 <= body["expires_in"] <= 300
    assert response.headers["cache-control"] == "no-store"
    claims = claims_of(body["access_token"])
    told = {name: claims[name] for name in ("sub", "sub_type", "client_id", "surface", "channel", "act", "aud")}
    assert told == {
        "sub": "ana",
        "sub_type": "person",
        "client_id": "ads-bot",
        "surface": "bot",
        "channel": "#data-help",
        "act": {"sub": "ads-bot"},
        "aud": PRESTO,
    }
    assert claims["exp"] - claims["iat"] <= 300
    assert claims["groups"] == ["ads-eng"]


async def test_a_chat_exchanges_what_a_persons_sign_in_to_it_led_to(hub: Hub, chat: Acting, ana: Browser) -> None:
    tokens = await chat.sign_in(ana)
    subject = claims_of(tokens["access_token"])
    assert (subject["aud"], subject["client_id"]) == (f"{URL}/oauth/token", "web-chat")
    assert "act" not in subject
    for _ in range(2):
        response = await chat.exchange(tokens["access_token"], ACCESS_TOKEN)
        assert response.status_code == 200, response.text
        claims = claims_of(response.json()["access_token"])
        assert (claims["sub"], claims["surface"], claims["act"]) == ("ana", "chat", {"sub": "web-chat"})
        assert "channel" not in claims
        assert claims["exp"] <= subject["exp"]


async def test_a_chat_may_do_no_more_than_the_person_said(hub: Hub, chat: Acting, ana: Browser) -> None:
    tokens = await chat.sign_in(ana, scope="tools:read")
    assert tokens["scope"] == "tools:read"
    assert (await chat.exchange(tokens["access_token"], ACCESS_TOKEN)).json()["scope"] == "tools:read"
    wider = await chat.exchange(tokens["access_token"], ACCESS_TOKEN, scope="tools")
    assert wider.json()["error"] == "invalid_scope"


@pytest.mark.parametrize("given", ["tools", "tools:read"])
async def test_it_may_do_no_more_than_the_person_said(hub: Hub, bot: Acting, ana: Browser, given: str) -> None:
    await bot.let_in(ana, scope=given)
    response = await bot.exchange(bot.statement("ana"))
    assert response.json()["scope"] == given
    wider = await bot.exchange(bot.statement("ana"), scope="tools")
    assert (wider.status_code == 200) == (given == "tools")
    assert (await bot.exchange(bot.statement("ana"), scope="tools:read")).status_code == 200


async def test_both_are_in_the_record_of_the_exchange(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    token = claims_of(await bot.for_("ana"))
    await bot.exchange(bot.statement("ana"), server="dev/scratch")
    refused, given = (await at_the_machine(hub, "/exchanges?surface=ads-bot")).json()["exchanges"]
    counted = hub.parts.meter.page().decode()
    assert 'pegboard_hub_exchanges_refused_total{error="invalid_target"} 1' in counted
    assert (given["id"], given["act"], given["person"]) == (token["jti"], "ads-bot", "ana")
    assert (given["channel"], given["resource"], given["error"]) == ("#data-help", PRESTO, "")
    assert (refused["act"], refused["person"], refused["error"]) == ("ads-bot", "ana", "invalid_target")


async def test_a_person_sees_it_among_their_connections_and_takes_it_back(
    hub: Hub, bot: Acting, ana: Browser
) -> None:
    await bot.let_in(ana)
    jti = claims_of(await bot.for_("ana"))["jti"]
    page = await ana.get(f"{URL}/sessions")
    assert "Ads-Bot" in page.text
    assert (
        await ana.press(page, "Disconnect Ads-Bot from what the operators let it reach, for you")
    ).status_code == 303
    assert jti in hub.parts.identity.revocations.current.tokens
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400
    assert "Ads-Bot" not in (await ana.get(f"{URL}/sessions")).text


async def test_the_page_of_the_surface_takes_it_back_too(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    token = claims_of(await bot.for_("ana"))
    page = await ana.get(f"{URL}/acting?client=ads-bot")
    assert "It acts for you since" in page.text
    await ana.press(page, "end")
    assert token["jti"] in hub.parts.identity.revocations.current.tokens
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400


async def test_a_statement_that_comes_twice_at_once_counts_once(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    said = bot.statement("ana")
    forms = [bot.form(said) for _ in range(4)]
    answers = await asyncio.gather(*(hub.public.post("/oauth/token", data=form) for form in forms))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_operators_see_who_lets_it_act_and_a_block_ends_it(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    token = claims_of(await bot.for_("ana"))
    listed = {each["software"]: each for each in (await hub.api("pat", "clients")).json()["clients"]}
    assert (listed["ads-bot"]["kind"], listed["ads-bot"]["surface"]) == ("surface", "bot")
    assert [each["sub"] for each in listed["ads-bot"]["users"]] == ["ana"]
    await hub.parts.identity.clients.decide("ads-bot", Standing.BLOCKED, None, "pat", "it leaks")
    assert token["jti"] in hub.parts.identity.revocations.current.tokens
    assert token["client_id"] in hub.parts.identity.revocations.current.clients
    refused = await bot.exchange(bot.statement("ana"))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await ana.get(f"{URL}/acting?client=ads-bot")).status_code == 404


async def test_a_person_who_let_it_act_in_two_browsers_may_sign_out_of_one(
    hub: Hub, bot: Acting, ana: Browser
) -> None:
    other = Browser(URL, hub.public)
    await other.sign_in("ana")
    await bot.let_in(ana)
    page = await other.get(f"{URL}/acting?client=ads-bot")
    assert "It acts for you since" in page.text
    await ana.press(await ana.get(f"{URL}/sign-out"), "Sign out of this browser")
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400
    await bot.let_in(other)
    assert (await bot.exchange(bot.statement("ana"))).status_code == 200


async def test_a_token_knows_the_groups_of_now(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    people = hub.parts.identity.demo.directory.people  # type: ignore[union-attr]
    people["ana"] = people["ana"].model_copy(update={"groups": ("platform",)})
    hub.parts.identity.sessions.renew_after_s = 0
    assert claims_of(await bot.for_("ana"))["groups"] == ["platform"]
    people["ana"] = people["ana"].model_copy(update={"groups": ()})
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400
    del people["ana"]
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400


async def test_signing_out_ends_it(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    sid = claims_of(await bot.for_("ana"))["sid"]
    await ana.press(await ana.get(f"{URL}/sign-out"), "Sign out of this browser")
    assert sid in hub.parts.identity.revocations.current.sessions
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400


async def test_a_change_voids_what_it_had_and_counts_at_once(hub: Hub, bot: Acting, ana: Browser) -> None:
    await bot.let_in(ana)
    jti = claims_of(await bot.for_("ana"))["jti"]
    changed = await at_the_machine(hub, "/change", **bot.registration(groups=["finance"], jwks={}))
    assert changed.status_code == 200, changed.text
    assert jti in hub.parts.identity.revocations.current.tokens
    refused = await bot.exchange(bot.statement("ana"))
    assert "may not act for anybody in the groups" in refused.json()["error_description"]


async def test_a_removed_surface_gets_nothing_and_everybodys_yes_has_ended(
    hub: Hub, bot: Acting, ana: Browser
) -> None:
    await bot.let_in(ana)
    jti = claims_of(await bot.for_("ana"))["jti"]
    assert (await at_the_machine(hub, "/remove", client_id="ads-bot", why="retired")).status_code == 200
    assert jti in hub.parts.identity.revocations.current.tokens
    assert (await bot.exchange(bot.statement("ana"))).status_code == 401
    await at_the_machine(hub, "/register", **bot.registration())
    assert (await bot.exchange(bot.statement("ana"))).status_code == 400


async def test_what_was_done_with_surfaces_is_in_a_history_that_only_grows(hub: Hub, bot: Acting) -> None:
    await at_the_machine(hub, "/change", **bot.registration(name="Helper", jwks={}))
    await at_the_machine(hub, "/remove", client_id="ads-bot", why="retired")
    events = (await at_the_machine(hub, "/history")).json()["events"]
    told = [(each["action"], each["by"], each["surface"]["name"]) for each in events]
    assert told == [
        ("remove", "operator", "Helper"),
        ("change", "operator", "Helper"),
        ("register", "operator", "Ads-Bot"),
    ]
    for statement in (update(acting_surface_history).values(why="another"), delete(acting_surface_history)):
        with pytest.raises(SQLAlchemyError):
            async with hub.parts.database.write() as db:
                await db.execute(statement)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no groups": ({"groups": []}, "groups"),
    "no servers": ({"servers": []}, "servers"),
    "everything": ({"servers": ["*"]}, "servers"),
    "a bot without a channel": ({"channels": []}, "channels"),
    "a person's surface": ({"surface": "ide"}, "surface"),
    "no key": ({"jwks": {"keys": []}}, "jwks"),
    "an id of Pegboard's own": ({"client_id": "pegboard-chat"}, "client_id"),
    "a redirect that leads into the clear": ({"redirect_uris": ["http://chat.example.com/cb"]}, "redirect_uris"),
    "no reason": ({"why": " "}, "why"),
    "an unknown field": ({"secret": "s3cret"}, "secret"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_cannot_be_registered_is_named(hub: Hub, case: str) -> None:
    changes, field = WRONG[case]
    bot = Acting(URL, hub.public, "ads-bot", "bot")
    response = await at_the_machine(hub, "/register", **bot.registration(**changes))
    assert response.status_code in (409, 422)
    assert field in response.json()["error"]["message"]
    assert (await at_the_machine(hub, "")).json()["surfaces"] == []


async def test_no_private_key_is_taken_or_repeated(hub: Hub) -> None:
    bot = Acting(URL, hub.public, "ads-bot", "bot")
    response = await at_the_machine(hub, "/register", **bot.registration(jwks={"keys": [bot.key]}))
    assert response.status_code == 422
    assert str(bot.key["d"]) not in response.text


async def test_metadata_names_the_grant_and_how_to_authenticate(hub: Hub) -> None:
    found = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
    assert "urn:ietf:params:oauth:grant-type:token-exchange" in found["grant_types_supported"]
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["ES256"]
