"""Acting for somebody is for registered surfaces alone, with their own key, for people who let them, within limits.

Rules (design, Tokens and Rules of trust): a token's surface is the registration's word, never the caller's; deny by
default; a token is for one server; both layers hold who acts. RFC 8693, RFC 7523 §3, RFC 8725.

The first part attacks the exchange at the hub, the second hands forged claims to both layers of a real stack.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from pegboard.core.jose import Jwk, new_private_key, public_jwks
from pegboard_hub.identity.surfaces.model import By
from pegboard_hub.identity.surfaces.service import surface_of_text
from pegboard_hub.stopping.service import MACHINE
from tests.acting import ACCESS_TOKEN, AUTHOR, BEARER, CHAT_REDIRECT, JWT, Acting
from tests.attacks.test_token_attacks import Mint, _behind_the_edge
from tests.attacks.wire import modern
from tests.hub.company import API, PRESTO, URL, Hub, found_company, opened
from tests.oauth import Browser, StockClient, claims_of, query_of

SERVICE = "spiffe://example.org/reporting"


def now() -> int:
    """Seconds since the epoch, when a case is made."""
    return int(time.time())


@dataclass
class Scene:
    """Ana lets a bot and a chat act for her; Gus, whom neither may act for, lets the bot too; an editor has hers.

    Attributes:
        spy: a bot of somebody else's, registered, that nobody let in.
        tokens: what Ana's sign-in to the chat led to.
        editors: what her sign-in to an editor led to.
    """

    hub: Hub
    ana: Browser
    bot: Acting
    chat: Acting
    spy: Acting
    tokens: dict[str, Any] = field(default_factory=dict)
    editors: dict[str, Any] = field(default_factory=dict)

    async def register(self, surface: Acting, **facts: Any) -> None:
        said = surface.registration(**facts)
        why = said.pop("why")
        found = surface_of_text(said.pop("client_id"), said)
        await self.hub.parts.identity.surfaces.register(By("operator", "operator"), found, why)

    async def post(self, form: dict[str, str], **headers: str) -> httpx2.Response:
        self.hub.public.cookies.clear()
        return await self.hub.public.post("/oauth/token", data=form, headers=headers)


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    company = found_company(Path(tmp_path_factory.mktemp("a", numbered=True)))
    async with opened(company) as hub:
        ana, gus = Browser(URL, hub.public), Browser(URL, hub.public)
        await ana.sign_in("ana")
        await gus.sign_in("gus")
        bot, spy = (Acting(URL, hub.public, name, "bot") for name in ("ads-bot", "spy-bot"))
        found = Scene(hub, ana, bot, Acting(URL, hub.public, "web-chat", "chat"), spy)
        for each in (found.bot, found.chat, found.spy):
            await found.register(each)
        await bot.let_in(ana)
        await bot.let_in(gus)
        found.tokens = await found.chat.sign_in(ana)
        found.editors = await StockClient(URL, hub.public, name="Editor").connect(ana, "prod/presto")
        yield found


@pytest.mark.anyio
async def test_whoever_takes_a_removed_surfaces_id_has_nobodys_yes(scene: Scene) -> None:
    old = Acting(URL, scene.hub.public, "old-chat", "chat")
    await scene.register(old)
    await old.sign_in(scene.ana)
    await scene.hub.parts.identity.surfaces.remove(By("operator", "operator"), "old-chat", "retired")
    new = Acting(URL, scene.hub.public, "old-chat", "chat")
    await scene.register(new, groups=["ads-eng", "platform", "finance"])
    client = StockClient(URL, scene.hub.public, redirect=CHAT_REDIRECT, client_id="old-chat")
    page = await scene.ana.get(client.authorization("prod/presto", resource=None))
    assert page.headers["location"].startswith(("/acting?", f"{URL}/acting?")), "she is asked anew"


def none_of(text: str, header: dict[str, Any]) -> str:
    """A JWT with another header, and no signature."""
    part = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{part}.{text.split('.')[1]}."


def with_hmac(text: str, key: Jwk) -> str:
    """A JWT signed with the public key as if it were a shared secret."""
    import hashlib
    import hmac

    head = {"alg": "HS256", "typ": AUTHOR, "kid": key["kid"]}
    first = base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
    signed = f"{first}.{text.split('.')[1]}"
    digest = hmac.digest(json.dumps(public_jwks(key)["keys"][0]).encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


ATTACKER = new_private_key()

Attack = Callable[[Scene], dict[str, str]]

CREDENTIALS: dict[str, Attack] = {
    "no credential": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=None, client_assertion_type=None),
    "no type of credential": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion_type=None),
    "another type of credential": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2-bearer"
    ),
    "another's key": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(key={**ATTACKER, "kid": s.bot.key["kid"]})
    ),
    "an unknown key": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.bot.assertion(key=ATTACKER)),
    "another surface's credential": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.spy.assertion()),
    "another surface's name with one's own key": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(key=s.spy.key)
    ),
    "a subject that is another surface": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(sub="web-chat")
    ),
    "an issuer that is another surface": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(iss="web-chat")
    ),
    "no algorithm": lambda s: s.bot.form(
        s.bot.statement("ana"),
        client_assertion=none_of(s.bot.assertion(), {"alg": "none", "typ": "JWT", "kid": s.bot.key["kid"]}),
    ),
    "for another server of identities": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(aud="https://login.example.com")
    ),
    "for several": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(aud=[URL, "https://login.example.com"])
    ),
    "for a server": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.bot.assertion(aud=PRESTO)),
    "for nobody": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.bot.assertion(aud=None)),
    "expired": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(iat=now() - 120, exp=now() - 60)
    ),
    "of tomorrow": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(iat=now() + 86_400, exp=now() + 86_430)
    ),
    "good for an hour": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.assertion(iat=now(), exp=now() + 3600)
    ),
    "for ever": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.bot.assertion(exp=None)),
    "without an id": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=s.bot.assertion(jti=None)),
    "a statement for a credential": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.bot.statement("ads-bot")
    ),
    "an access token for a credential": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=s.editors["access_token"]
    ),
    "an unknown surface": lambda s: s.bot.form(
        s.bot.statement("ana"), client_id="nobody", client_assertion=s.bot.assertion(iss="nobody", sub="nobody")
    ),
    "a secret": lambda s: s.bot.form(
        s.bot.statement("ana"), client_assertion=None, client_assertion_type=None, client_secret="s3cret"
    ),
    "a secret besides": lambda s: s.bot.form(s.bot.statement("ana"), client_secret="s3cret"),
    "a very long one": lambda s: s.bot.form(s.bot.statement("ana"), client_assertion=f"{'a' * 5000}.b.c"),
    "an editor's id": lambda s: s.bot.form(
        s.bot.statement("ana"),
        client_id=str(claims_of(s.editors["access_token"])["client_id"]),
        client_assertion=None,
        client_assertion_type=None,
    ),
    "the command's id": lambda s: s.bot.form(
        s.bot.statement("ana"), client_id="pegboard-cli", client_assertion=None, client_assertion_type=None
    ),
}
"""What does not prove that a request is the bot's."""

SUBJECTS: dict[str, Attack] = {
    "somebody who did not let it": lambda s: s.bot.form(s.bot.statement("sam")),
    "somebody whom nobody knows": lambda s: s.bot.form(s.bot.statement("nobody")),
    "somebody by e-mail address": lambda s: s.bot.form(s.bot.statement("ana@example.com")),
    "somebody in other capitals": lambda s: s.bot.form(s.bot.statement("Ana")),
    "somebody in none of its groups": lambda s: s.bot.form(s.bot.statement("gus")),
    "a surface that she let in, by one that she did not": lambda s: s.spy.form(s.spy.statement("ana")),
    "another surface's statement": lambda s: s.spy.form(s.bot.statement("ana")),
    "a service": lambda s: s.bot.form(s.bot.statement(SERVICE)),
    "itself": lambda s: s.bot.form(s.bot.statement("ads-bot")),
    "nobody": lambda s: s.bot.form(s.bot.statement("ana", sub=None)),
    "several": lambda s: s.bot.form(s.bot.statement("ana", sub=["ana", "pat"])),
    "a statement by another key": lambda s: s.bot.form(
        s.bot.statement("ana", key={**ATTACKER, "kid": s.bot.key["kid"]})
    ),
    "a statement by an unknown key": lambda s: s.bot.form(s.bot.statement("ana", key=ATTACKER)),
    "a statement without a signature": lambda s: s.bot.form(
        none_of(s.bot.statement("ana"), {"alg": "none", "typ": AUTHOR, "kid": s.bot.key["kid"]})
    ),
    "a statement by the public key as a secret": lambda s: s.bot.form(with_hmac(s.bot.statement("ana"), s.bot.key)),
    "a statement for another server of identities": lambda s: s.bot.form(
        s.bot.statement("ana", aud="https://login.example.com")
    ),
    "a statement for several": lambda s: s.bot.form(s.bot.statement("ana", aud=[URL])),
    "an expired statement": lambda s: s.bot.form(s.bot.statement("ana", iat=now() - 120, exp=now() - 60)),
    "a statement of tomorrow": lambda s: s.bot.form(s.bot.statement("ana", iat=now() + 86_400, exp=now() + 86_430)),
    "a statement good for ten minutes": lambda s: s.bot.form(s.bot.statement("ana", iat=now(), exp=now() + 600)),
    "a statement without an end": lambda s: s.bot.form(s.bot.statement("ana", exp=None)),
    "a statement not good before later": lambda s: s.bot.form(s.bot.statement("ana", nbf=now() + 36_000)),
    "a statement without an id": lambda s: s.bot.form(s.bot.statement("ana", jti=None)),
    "a statement of another type": lambda s: s.bot.form(s.bot.statement("ana", typ="JWT")),
    "a statement as an access token": lambda s: s.bot.form(s.bot.statement("ana", typ="at+jwt"), ACCESS_TOKEN),
    "its credential as a statement": lambda s: s.bot.form(s.bot.assertion()),
    "no channel": lambda s: s.bot.form(s.bot.statement("ana", channel=None)),
    "a channel that it is not in": lambda s: s.bot.form(s.bot.statement("ana", channel="#secret")),
    "a channel in other capitals": lambda s: s.bot.form(s.bot.statement("ana", channel="#DATA-HELP")),
    "channels": lambda s: s.bot.form(s.bot.statement("ana", channel=["#data-help"])),
    "a channel of a chat": lambda s: s.chat.form(s.chat.statement("ana", channel="#data-help")),
    "a bot with a sign-in's token": lambda s: s.bot.form(s.tokens["access_token"], ACCESS_TOKEN),
    "another surface's sign-in": lambda s: s.spy.form(s.tokens["access_token"], ACCESS_TOKEN),
    "an editor's token": lambda s: s.chat.form(s.editors["access_token"], ACCESS_TOKEN),
    "an editor's token as a JWT": lambda s: s.chat.form(s.editors["access_token"], JWT),
    "a refresh token": lambda s: s.chat.form(s.tokens["refresh_token"], ACCESS_TOKEN),
    "a statement under the type of a token": lambda s: s.chat.form(s.chat.statement("ana"), ACCESS_TOKEN),
    "a sign-in's token under the type of a statement": lambda s: s.chat.form(s.tokens["access_token"], JWT),
    "another type of subject": lambda s: s.chat.form(
        s.tokens["access_token"], "urn:ietf:params:oauth:token-type:id_token"
    ),
    "nothing": lambda s: s.bot.form(""),
    "an actor": lambda s: s.bot.form(s.bot.statement("ana"), actor_token=s.bot.assertion()),
    "another token in return": lambda s: s.bot.form(
        s.bot.statement("ana"), requested_token_type="urn:ietf:params:oauth:token-type:refresh_token"
    ),
    "an audience": lambda s: s.bot.form(s.bot.statement("ana"), audience=PRESTO),
}
"""Whom a proven surface may not act for, and what is no word of theirs."""

TARGETS: dict[str, Attack] = {
    "a server out of its limit": lambda s: s.bot.form(s.bot.statement("ana"), server="dev/scratch"),
    "a server that there is not": lambda s: s.bot.form(s.bot.statement("ana"), server="prod/nothing"),
    "the API": lambda s: s.bot.form(s.bot.statement("ana"), resource=API),
    "the exchange itself": lambda s: s.bot.form(s.bot.statement("ana"), resource=f"{URL}/oauth/token"),
    "a server by another host": lambda s: s.bot.form(
        s.bot.statement("ana"), resource="http://127.0.0.1:8400/mcp/prod/presto"
    ),
    "a server with a slash": lambda s: s.bot.form(s.bot.statement("ana"), resource=f"{PRESTO}/"),
    "a way out of its namespace": lambda s: s.bot.form(
        s.bot.statement("ana"), resource=f"{URL}/mcp/prod/../dev/scratch"
    ),
    "every server": lambda s: s.bot.form(s.bot.statement("ana"), resource=f"{URL}/mcp/prod/*"),
    "the whole origin": lambda s: s.bot.form(s.bot.statement("ana"), resource=URL),
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", CREDENTIALS)
async def test_nobody_acts_without_the_surfaces_own_credential(scene: Scene, case: str) -> None:
    refused = await scene.post(CREDENTIALS[case](scene))
    assert (refused.status_code, refused.json()["error"]) in (
        (401, "invalid_client"),
        (400, "invalid_request"),
        (400, "unauthorized_client"),
    )
    assert "access_token" not in refused.text


@pytest.mark.anyio
@pytest.mark.parametrize("case", SUBJECTS)
async def test_a_surface_acts_for_nobody_who_did_not_say_so_in_a_way_that_counts(scene: Scene, case: str) -> None:
    refused = await scene.post(SUBJECTS[case](scene))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request"), refused.text
    assert "access_token" not in refused.json()


@pytest.mark.anyio
@pytest.mark.parametrize("case", TARGETS)
async def test_a_surface_reaches_no_server_out_of_its_limits(scene: Scene, case: str) -> None:
    refused = await scene.post(TARGETS[case](scene))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target"), refused.text


@pytest.mark.anyio
async def test_the_same_scene_exchanges_what_is_right(scene: Scene) -> None:
    """The cases above fail for what they change, not for how they are made."""
    for form in (
        scene.bot.form(scene.bot.statement("ana")),
        scene.bot.form(scene.bot.statement("ana"), client_assertion=scene.bot.assertion("client-authentication+jwt")),
        scene.bot.form(scene.bot.statement("ana", aud=f"{URL}/oauth/token"), client_id=None),
        scene.chat.form(scene.tokens["access_token"], ACCESS_TOKEN),
    ):
        answer = await scene.post(form)
        assert answer.status_code == 200, answer.text


@pytest.mark.anyio
async def test_a_credential_and_a_statement_are_good_once(scene: Scene) -> None:
    form = scene.bot.form(scene.bot.statement("ana"))
    assert (await scene.post(form)).status_code == 200
    assert (await scene.post(form)).json()["error"] == "invalid_client"
    again = await scene.post({**form, "client_assertion": scene.bot.assertion()})
    assert (again.status_code, "was used before" in again.text) == (400, True)
    # A credential is used up by a request that fails too.
    failed = scene.bot.form(scene.bot.statement("sam"))
    assert (await scene.post(failed)).status_code == 400
    assert (await scene.post({**form, "client_assertion": failed["client_assertion"]})).status_code == 401


@pytest.mark.anyio
async def test_what_was_exchanged_is_exchanged_no_further(scene: Scene) -> None:
    for surface, form in (
        (scene.bot, scene.bot.form(scene.bot.statement("ana"))),
        (scene.chat, scene.chat.form(scene.tokens["access_token"], ACCESS_TOKEN)),
    ):
        token = (await scene.post(form)).json()["access_token"]
        for other in (surface, scene.chat):
            refused = await scene.post(other.form(token, ACCESS_TOKEN))
            assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


@pytest.mark.anyio
async def test_no_form_of_words_names_a_surface_a_channel_or_who_acts(scene: Scene) -> None:
    claims = {"surface": "ide", "channel": "#secret", "act": "web-chat", "sub": "pat", "groups": "platform"}
    answer = await scene.post(scene.bot.form(scene.bot.statement("ana"), **claims))
    found = claims_of(answer.json()["access_token"])
    told = (found["sub"], found["surface"], found["channel"], found["act"], found["groups"])
    assert told == ("ana", "bot", "#data-help", {"sub": "ads-bot"}, ["ads-eng"])
    lying = scene.bot.statement("ana", surface="ide", groups=["platform"], act={"sub": "web-chat"}, scope="api")
    found = claims_of((await scene.post(scene.bot.form(lying))).json()["access_token"])
    told = (found["surface"], found["groups"], found["act"], found["scope"])
    assert told == ("bot", ["ads-eng"], {"sub": "ads-bot"}, "tools")


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "name"), [("surface", "chat"), ("client", "web-chat"), ("person", "ana")])
async def test_what_is_stopped_exchanges_nothing(scene: Scene, kind: str, name: str) -> None:
    form = scene.chat.form(scene.tokens["access_token"], ACCESS_TOKEN)
    await scene.hub.parts.stopping.stop(MACHINE, kind, name, "it leaks")
    try:
        refused = await scene.post(form)
        assert (refused.json()["error"], "it leaks" in refused.text) == ("access_denied", True)
    finally:
        await scene.hub.parts.stopping.resume(MACHINE, kind, name)
    again = scene.chat.form(scene.tokens["access_token"], ACCESS_TOKEN)
    assert (await scene.post(again)).status_code == 200


async def _code(scene: Scene, client: Acting, **changes: str | None) -> tuple[StockClient, dict[str, str]]:
    stock = StockClient(URL, scene.hub.public, redirect="http://127.0.0.1:43210/chat", client_id=client.client_id)
    answer = await scene.ana.authorize(stock.authorization("prod/presto", **{"resource": None, **changes}))
    return stock, query_of(answer)


@pytest.mark.anyio
async def test_a_code_for_a_surface_is_worth_nothing_without_its_credential(scene: Scene) -> None:
    stock, found = await _code(scene, scene.chat)
    assert (await stock.exchange(found["code"])).json()["error"] == "invalid_client"
    wrong = await stock.exchange(found["code"], client_assertion_type=BEARER, client_assertion=scene.spy.assertion())
    assert wrong.json()["error"] == "invalid_client"


@pytest.mark.anyio
async def test_a_refresh_token_of_a_surface_is_worth_nothing_without_its_credential(scene: Scene) -> None:
    stock = StockClient(URL, scene.hub.public, client_id="web-chat")
    refused = await stock.refresh(scene.tokens["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    told = {"client_assertion_type": BEARER, "client_assertion": scene.chat.assertion()}
    next_ = (await stock.refresh(scene.tokens["refresh_token"], **told)).json()
    assert claims_of(next_["access_token"])["aud"] == f"{URL}/oauth/token"
    scene.tokens = next_


@pytest.mark.anyio
@pytest.mark.parametrize("resource", [PRESTO, API])
async def test_a_sign_in_to_a_surface_leads_to_no_server(scene: Scene, resource: str) -> None:
    _, found = await _code(scene, scene.chat, resource=resource)
    assert found["error"] == "invalid_target"


@pytest.mark.anyio
async def test_no_other_client_gets_what_can_be_exchanged(scene: Scene) -> None:
    editor = StockClient(URL, scene.hub.public, name="Greedy editor")
    await editor.register()
    address = editor.authorization("prod/presto", resource=f"{URL}/oauth/token")
    assert query_of(await scene.ana.authorize(address))["error"] == "invalid_target"
    form = {
        "grant_type": "urn:pegboard:params:oauth:grant-type:demo-person",
        "person": "ana",
        "surface": "cli",
        "resource": f"{URL}/oauth/token",
    }
    assert (await scene.post(form)).json()["error"] == "invalid_target"


@pytest.mark.anyio
async def test_what_can_be_exchanged_opens_nothing_by_itself(scene: Scene) -> None:
    token = scene.tokens["access_token"]
    answer = await scene.hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.anyio
async def test_a_surface_has_no_code_to_type(scene: Scene) -> None:
    form = {"client_id": "ads-bot", "resource": PRESTO}
    refused = await scene.hub.public.post("/oauth/device", data=form)
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.anyio
async def test_nobody_lets_a_surface_act_for_another(scene: Scene) -> None:
    """A page of another site, or a link, does not press the button; and it is pressed for oneself alone."""
    fay = Browser(URL, scene.hub.public)
    await fay.sign_in("fay")
    page = await fay.get(f"{URL}/acting?client=ads-bot")
    forged = await scene.hub.public.post(
        "/acting",
        data={"client": "ads-bot", "answer": "allow"},
        headers={"Origin": "https://evil.example", "Cookie": "; ".join(f"{n}={v}" for n, v in fay.cookies.items())},
    )
    assert forged.status_code == 403
    assert (await scene.post(scene.bot.form(scene.bot.statement("fay")))).status_code == 400
    assert (await fay.press(page, "allow", sub="sam", person="sam")).status_code == 303
    assert (await scene.post(scene.bot.form(scene.bot.statement("sam")))).status_code == 400


@pytest.mark.anyio
@pytest.mark.parametrize("onward", ["client_id=pegboard-cli&response_type=code", "x=1&x=2", "client_id=web-chat"])
async def test_a_yes_to_one_surface_leads_on_to_no_other_client(scene: Scene, onward: str) -> None:
    """A page of ours that presses on skips what asks when a page of another site led here."""
    lea = Browser(URL, scene.hub.public)
    await lea.sign_in("lea")
    address = f"{URL}/acting?client=ads-bot&request={quote(onward)}"
    assert (await lea.get(address)).status_code == 400
    answer = await lea.press(await lea.get(f"{URL}/acting?client=ads-bot"), "allow", request=onward)
    assert answer.status_code == 400
    assert (await scene.post(scene.bot.form(scene.bot.statement("lea")))).status_code == 400


@pytest.mark.anyio
async def test_a_refusal_names_no_key_and_repeats_no_token(scene: Scene) -> None:
    form = scene.bot.form(scene.bot.statement("sam"))
    text = (await scene.post(form)).text
    for secret in (form["subject_token"], form["client_assertion"], str(scene.bot.key["x"])):
        assert secret not in text


FORGED: dict[str, dict[str, Any]] = {
    "chat, and nobody acts": {"surface": "chat", "client_id": "pegboard-chat"},
    "bot, and nobody acts": {"surface": "bot", "client_id": "pegboard-bot", "channel": "#data-help"},
    "an editor, and somebody acts": {"surface": "ide", "act": {"sub": "pegboard-cli"}},
    "a terminal, and somebody acts": {"act": {"sub": "pegboard-chat"}},
    "another acts": {"surface": "chat", "client_id": "pegboard-chat", "act": {"sub": "pegboard-cli"}},
    "one for another": {
        "surface": "chat",
        "client_id": "pegboard-chat",
        "act": {"sub": "pegboard-chat", "act": {"sub": "pegboard-cli"}},
    },
    "somebody, as text": {"surface": "chat", "client_id": "pegboard-chat", "act": "pegboard-chat"},
    "several": {"surface": "chat", "client_id": "pegboard-chat", "act": [{"sub": "pegboard-chat"}]},
    "nobody in particular": {"surface": "chat", "client_id": "pegboard-chat", "act": {}},
    "a number": {"surface": "chat", "client_id": "pegboard-chat", "act": {"sub": 1}},
    "a service acted for": {"sub": SERVICE, "sub_type": "service", "groups": [], "act": {"sub": "pegboard-cli"}},
}
"""Claims that our own key signed, and that no token of ours has."""


@pytest.fixture(scope="module")
def mint(pegboard: Any) -> Mint:
    return Mint(pegboard)


@pytest.mark.system
@pytest.mark.xdist_group("instance")
@pytest.mark.parametrize("case", FORGED)
def test_both_layers_hold_who_acts(mint: Mint, case: str) -> None:
    token = mint.changed(**FORGED[case])
    through = modern(mint.pegboard, token, "tools/list")
    assert through.status_code in (401, 403), through.text
    assert "run_query" not in through.text
    behind = _behind_the_edge(mint, token)
    assert (behind.status_code, behind.json()["error"]["data"]["reason"]) == (401, "token_bad_claims"), behind.text


@pytest.mark.system
@pytest.mark.xdist_group("instance")
def test_who_acts_as_registered_passes_both_layers(mint: Mint) -> None:
    good = mint.changed(surface="chat", client_id="pegboard-chat", act={"sub": "pegboard-chat"})
    assert modern(mint.pegboard, good, "tools/list").status_code == 200
