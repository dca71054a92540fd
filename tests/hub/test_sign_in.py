"""Signing in with the demo directory: what a token says, what it is bound to, and how requests are refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.jose import Verifier
from pegboard.core.token import MAX_LIFETIME_S, TOKEN_TYPE, TokenVerifier
from pegboard_hub.common.settings import DEMO
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.identity.directory import open_directory
from pegboard_hub.identity.keys import open_keys
from tests.hub.company import API, PRESTO, URL, Company, Hub

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

GOOD = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": PRESTO}


async def claims(company: Company, token: str) -> dict[str, Any]:
    return Verifier(open_keys(company.home).token_jwks).verify(token, TOKEN_TYPE)


async def test_a_token_has_exactly_the_final_claims(hub: Hub, company: Company) -> None:
    found = await claims(company, await hub.token("ana", resource=PRESTO))
    now = time.time()
    assert found.pop("exp") - found["iat"] == MAX_LIFETIME_S
    assert abs(found.pop("iat") - now) < 5
    assert len(found.pop("jti")) == 32
    assert len(found.pop("sid")) == 32
    assert found == {
        "iss": URL,
        "sub": "ana",
        "sub_type": "person",
        "email": "ana@example.com",
        "groups": ["ads-eng"],
        "client_id": "pegboard-cli",
        "surface": "cli",
        "scope": "tools",
        "aud": PRESTO,
    }


@pytest.mark.parametrize(("asked", "lives"), [("1", 1), ("600", 600), ("900", MAX_LIFETIME_S)])
async def test_a_token_may_be_asked_to_end_sooner(hub: Hub, company: Company, asked: str, lives: int) -> None:
    answer = (await hub.public.post("/oauth/token", data={**GOOD, "lifetime": asked})).json()
    found = await claims(company, answer["access_token"])
    assert answer["expires_in"] == found["exp"] - found["iat"] == lives


@pytest.mark.parametrize("asked", ["0", "-1", "901", "1e3", "99999999999", "x", "１"])
async def test_a_token_never_lives_longer_than_the_rule(hub: Hub, asked: str) -> None:
    answer = await hub.public.post("/oauth/token", data={**GOOD, "lifetime": asked})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "lifetime" in answer.json()["error_description"]


async def test_every_token_has_an_id_of_its_own(hub: Hub, company: Company) -> None:
    first, second = [await claims(company, await hub.token("ana")) for _ in range(2)]
    assert first["jti"] != second["jti"]


async def test_a_bots_token_names_its_channel(hub: Hub, company: Company) -> None:
    found = await claims(company, await hub.token("ana", "bot", channel="#data-help"))
    assert (found["surface"], found["client_id"], found["channel"]) == ("bot", "pegboard-bot", "#data-help")


async def test_a_token_verifies_for_its_own_server_only(hub: Hub, company: Company) -> None:
    keys = open_keys(company.home).token_jwks
    token = await hub.token("ana", resource=PRESTO)
    assert TokenVerifier(keys, URL, PRESTO).verify(token, time.time()).sub == "ana"
    response = await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 401
    assert response.json()["error"]["reason"] == "token_wrong_audience"


async def test_a_token_response_is_kept_by_nobody(hub: Hub) -> None:
    response = await hub.public.post("/oauth/token", data=GOOD)
    assert response.headers["cache-control"] == "no-store"
    assert {key: response.json()[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 900,
        "scope": "tools",
    }


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type", DEMO_GRANT),
        ({"grant_type": None}, "invalid_request", "grant_type"),
        ({"person": "eve"}, "invalid_grant", "ana, fay, sam, pat, sol, lea, gus"),
        ({"person": None}, "invalid_request", "person"),
        ({"surface": "tv"}, "invalid_request", "cli, chat, ide, web, bot"),
        ({"surface": "service"}, "invalid_request", "unknown surface"),
        ({"channel": "#data-help"}, "invalid_request", "pegboard-cli"),
        ({"surface": "bot", "channel": "#secret"}, "invalid_request", "#data-help"),
        ({"resource": None}, "invalid_request", "resource"),
        ({"resource": f"{URL}/mcp/prod/nothing"}, "invalid_target", "no registered server"),
        ({"resource": f"{PRESTO}/"}, "invalid_target", "no registered server"),
        ({"resource": "/mcp/prod/presto"}, "invalid_target", "no registered server"),
        ({"resource": "prod/presto"}, "invalid_target", "no registered server"),
        ({"resource": "http://other.example/mcp/prod/presto"}, "invalid_target", "no registered server"),
        ({"resource": [PRESTO, API]}, "invalid_request", "2 times"),
    ],
)
async def test_a_wrong_request_is_refused_in_oauths_words(
    asked: Hub, change: dict[str, Any], code: str, said: str
) -> None:
    form = {name: value for name, value in (GOOD | change).items() if value is not None}
    response = await asked.public.post("/oauth/token", data=form)
    assert response.status_code == 400
    assert response.json()["error"] == code
    assert said in response.json()["error_description"]
    assert response.headers["cache-control"] == "no-store"


async def test_a_page_of_another_site_gets_no_token(hub: Hub) -> None:
    response = await hub.public.post("/oauth/token", data=GOOD, headers={"Origin": "http://evil.example"})
    assert response.json()["error"] == "invalid_request"
    assert (await hub.public.post("/oauth/token", data=GOOD, headers={"Origin": URL})).status_code == 200


async def test_a_token_request_must_be_a_form(hub: Hub) -> None:
    response = await hub.public.post("/oauth/token", json=GOOD)
    assert response.status_code == 400
    assert "x-www-form-urlencoded" in response.json()["error_description"]


@pytest.mark.parametrize(("body", "status"), [(b"person=%ff", 400), (b"person", 400), (b"a=" + b"x" * 20_000, 413)])
async def test_a_form_that_cannot_be_read_is_refused(hub: Hub, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await hub.public.post("/oauth/token", content=body, headers=headers)
    assert response.status_code == status


async def test_resource_metadata_names_the_server_and_where_to_sign_in(hub: Hub) -> None:
    response = await hub.public.get("/.well-known/oauth-protected-resource/mcp/prod/presto")
    assert response.json() == {
        "resource": PRESTO,
        "authorization_servers": [URL],
        "scopes_supported": ["tools", "tools:read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "prod/presto",
    }


@pytest.mark.parametrize("url", ["http://localhost:8400", "http://127.3.2.1:1", "http://[::1]:8400"])
def test_the_demo_directory_opens_on_loopback(url: str) -> None:
    assert "ana" in open_directory(DEMO / "directory.toml", url).people


@pytest.mark.parametrize(
    "url", ["https://pegboard.example.com", "http://10.0.0.7:8400", "http://localhost.evil.example", "http://[::]:1"]
)
def test_the_demo_directory_stays_shut_elsewhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not a loopback address"):
        open_directory(DEMO / "directory.toml", url)


def test_a_directory_with_a_typing_error_is_refused_with_the_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "directory.toml"
    path.write_text('[people.ana]\nname = "Ana"\nemail = "a@example.com"\ngruops = []\n[clients]\n')
    with pytest.raises(ConfigurationError, match="did you mean 'groups'"):
        open_directory(path, URL)


def test_private_keys_are_the_hubs_alone_and_stay_the_same(company: Company) -> None:
    first = open_keys(company.home)
    files = sorted(company.home.keys.iterdir())
    assert [file.name for file in files] == [
        "bundle-signing.jwk.json",
        "release-signing.jwk.json",
        "token-signing.jwk.json",
    ]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert company.home.keys.stat().st_mode & 0o777 == 0o700
    again = open_keys(company.home)
    assert (again.tokens.kid, again.bundles.kid) == (first.tokens.kid, first.bundles.kid)
    assert first.tokens.kid != first.bundles.kid


def test_what_is_published_of_the_keys_is_their_public_half(company: Company) -> None:
    keys = open_keys(company.home)
    published = json.loads(company.home.bundle_keys.read_text())
    assert published == keys.bundle_jwks
    assert all("d" not in key for key in (*published["keys"], *keys.token_jwks["keys"]))


def test_a_private_key_that_others_may_read_is_refused(company: Company) -> None:
    open_keys(company.home)
    (company.home.keys / "token-signing.jwk.json").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        open_keys(company.home)


@pytest.mark.parametrize("broken", ["{", '{"kty": "EC", "d": "very-secret"}', "public", "[]"])
def test_a_broken_key_file_is_refused_without_repeating_it(company: Company, broken: str) -> None:
    path = company.home.keys / "token-signing.jwk.json"
    public = open_keys(company.home).token_jwks["keys"][0]
    path.write_text(json.dumps(public) if broken == "public" else broken)
    with pytest.raises(ConfigurationError, match="holds no private key") as caught:
        open_keys(company.home)
    assert "very-secret" not in str(caught.value)
