"""Codes, their challenges and refresh tokens, attacked: each is good once, for whom it was made and for one server.

Rules: RFC 9700, RFC 7636. The other attacks on signing in are listed in `test_oauth_attacks.py`.
"""

from __future__ import annotations

import secrets

import anyio
import httpx2
import pytest

from tests.attacks.oauth_stage import (
    Stage,
    filled,
    refused,
    signed_out,
)
from tests.oauth import REDIRECT, Browser, StockClient, challenge, onward_of, query_of

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

# Codes

LOOKED_AT: dict[str, dict[str, str | None]] = {
    "another client's": {"client_id": "{other}"},
    "the command's": {"client_id": "pegboard-cli"},
    "to another redirect": {"redirect_uri": "http://127.0.0.1:1/callback"},
    "to another path": {"redirect_uri": f"{REDIRECT}/"},
    "without its redirect": {"redirect_uri": None},
    "with another verifier": {"code_verifier": "x" * 43},
    "with its challenge for a verifier": {"code_verifier": "{challenge}"},
    "for another server": {"resource": "{url}/mcp/dev/scratch"},
    "for the API": {"resource": "{url}/api"},
    "for nobody's server": {"resource": "https://evil.example/mcp"},
}
"""Wrong tries that use a code up."""


NOT_LOOKED_AT: dict[str, dict[str, str | None]] = {
    "nobody's": {"client_id": "nobody"},
    "without a client": {"client_id": None},
    "of a client in capitals": {"client_id": "PEGBOARD-CLI"},
    "of a client with a zero": {"client_id": "pegboard-cli\0"},
    "without a verifier": {"code_verifier": None},
    "with a short verifier": {"code_verifier": "x"},
    "with a verifier of 42": {"code_verifier": "x" * 42},
    "with a verifier of 129": {"code_verifier": "x" * 129},
    "with a verifier of other letters": {"code_verifier": "é" * 43},
    "with spaces for a verifier": {"code_verifier": " " * 43},
    "without a code": {"code": None},
    "with another code": {"code": secrets.token_urlsafe(32)},
    "with a zero in the code": {"code": "\0"},
    "for a code in UTF-16": {"code": "\ud800".encode("utf-16", "surrogatepass").hex()},
    "as a refresh token": {"grant_type": "refresh_token", "refresh_token": "{code}"},
    "as a device code": {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "{code}"},
    "as an assertion": {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "{code}"},
    "of a grant in capitals": {"grant_type": "AUTHORIZATION_CODE"},
    "of no grant": {"grant_type": None},
}


@pytest.mark.parametrize("case", LOOKED_AT)
async def test_a_wrong_try_gets_nothing_and_uses_the_code_up(stage: Stage, case: str) -> None:
    code = await stage.code()
    refused(await stage.editor.exchange(code, **filled(stage, LOOKED_AT[case])))
    refused(await stage.editor.exchange(code), "invalid_grant")


@pytest.mark.parametrize("case", NOT_LOOKED_AT)
async def test_what_is_no_request_for_a_code_gets_nothing(stage: Stage, case: str) -> None:
    code = await stage.code()
    changes = filled(stage, NOT_LOOKED_AT[case], code)
    refused(await stage.editor.exchange(**{"code": code, **changes}))


async def test_a_code_is_good_once_however_many_try_at_once(stage: Stage) -> None:
    code, answers = await stage.code(), list[httpx2.Response]()

    async def exchange() -> None:
        answers.append(await stage.editor.exchange(code))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(exchange)
    got = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(got) <= 1
    for tokens in got:
        refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_code_of_the_attackers_gives_the_victims_client_nothing(stage: Stage) -> None:
    """Injected into the redirect of a client that has a verifier of its own (RFC 9700 §4.5)."""
    attacker = StockClient(stage.url, stage.http, client_id=stage.editor.client_id)
    browser = Browser(stage.url, stage.http)
    await browser.sign_in("fay")
    injected = query_of(await browser.authorize(attacker.authorization("prod/presto"), "fay"))["code"]
    await stage.code()
    refused(await stage.editor.exchange(injected), "invalid_grant")


async def test_a_code_ends_with_the_sign_in_that_it_came_of(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    client = StockClient(stage.url, stage.http, client_id="pegboard-cli", redirect="http://127.0.0.1:9/callback")
    code = query_of(await browser.authorize(client.authorization("api"), "sam"))["code"]
    await signed_out(browser)
    refused(await client.exchange(code), "invalid_grant")


# PKCE

DOWNGRADES: dict[str, dict[str, str | None]] = {
    "plain": {"code_challenge_method": "plain"},
    "no method, which is plain": {"code_challenge_method": None},
    "an empty method": {"code_challenge_method": ""},
    "a method in small letters": {"code_challenge_method": "s256"},
    "another hash": {"code_challenge_method": "S512"},
    "two methods": {"code_challenge_method": "S256 plain"},
    "no challenge": {"code_challenge": None},
    "an empty challenge": {"code_challenge": ""},
    "neither": {"code_challenge": None, "code_challenge_method": None},
    "a short challenge": {"code_challenge": "x" * 42},
    "a long challenge": {"code_challenge": "x" * 44},
    "a very long challenge": {"code_challenge": "x" * 4000},
    "a padded challenge": {"code_challenge": "x" * 42 + "="},
    "a challenge with a line end": {"code_challenge": "x" * 43 + "\n"},
    "a challenge of other letters": {"code_challenge": "é" * 43},
    "a challenge of base64's other alphabet": {"code_challenge": "+/" * 21 + "x"},
}


@pytest.mark.parametrize("case", DOWNGRADES)
async def test_no_code_without_a_challenge_of_s256(stage: Stage, case: str) -> None:
    response, answer = await stage.asked(**DOWNGRADES[case])
    assert "code" not in answer
    assert answer["error"] == "invalid_request", response.text
    assert (answer["iss"], answer["state"]) == (stage.url, "the-state")


async def test_a_verifier_that_equals_its_challenge_is_refused(stage: Stage) -> None:
    same = "x" * 43
    code = await stage.code(code_challenge=same)
    refused(await stage.editor.exchange(code, code_verifier=same), "invalid_grant")


@pytest.mark.parametrize("verifier", ["x", "x" * 42, "é" * 43, "x" * 129])
async def test_a_verifier_that_is_none_is_refused_though_its_challenge_is_right(stage: Stage, verifier: str) -> None:
    code = await stage.code(code_challenge=challenge(verifier))
    refused(await stage.editor.exchange(code, code_verifier=verifier), "invalid_request")


# Refresh tokens

REPLAYS: dict[str, dict[str, str | None]] = {
    "another client's": {"client_id": "{other}"},
    "the command's": {"client_id": "pegboard-cli"},
    "nobody's": {"client_id": "nobody"},
    "without a client": {"client_id": None},
    "for another server": {"resource": "{url}/mcp/dev/scratch"},
    "for the API": {"resource": "{url}/api"},
    "for the origin": {"resource": "{url}"},
    "for its server with a slash": {"resource": "{url}/mcp/prod/presto/"},
    "for more": {"scope": "tools api"},
    "for everything": {"scope": "*"},
    "with a space before": {"refresh_token": " {code}"},
    "with a zero behind": {"refresh_token": "{code}\0"},
    "cut": {"refresh_token": "{code}x"},
    "as a code": {"grant_type": "authorization_code", "code": "{code}", "code_verifier": "x" * 43},
    "as a password": {"grant_type": "password", "username": "ana", "password": "{code}"},
    "as a client's own": {"grant_type": "client_credentials"},
    "as a subject": {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "{code}"},
}


@pytest.mark.parametrize("case", REPLAYS)
async def test_a_refresh_token_gives_its_own_client_its_own_server_and_no_more(stage: Stage, case: str) -> None:
    token = (await stage.tokens())["refresh_token"]
    refused(await stage.editor.refresh(**{"token": token, **filled(stage, REPLAYS[case], token)}))
    # Nothing of that was a use of it.
    assert (await stage.editor.refresh(token)).status_code == 200


async def test_a_refresh_token_is_good_once_however_many_try_at_once(stage: Stage) -> None:
    token, answers = (await stage.tokens())["refresh_token"], list[httpx2.Response]()

    async def refresh() -> None:
        answers.append(await stage.editor.refresh(token))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(refresh)
    got = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(got) <= 1
    for tokens in got:
        refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_chain_of_refresh_tokens_dies_when_any_of_it_comes_again(stage: Stage) -> None:
    chain = [(await stage.tokens())["refresh_token"]]
    for _ in range(4):
        chain.append((await stage.editor.refresh(chain[-1])).json()["refresh_token"])
    for token in (chain[1], *chain):
        refused(await stage.editor.refresh(token), "invalid_grant")


async def test_signing_out_ends_what_every_client_has(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    client = StockClient(stage.url, stage.http, client_id=stage.editor.client_id)
    tokens = [await client.connect(browser, server, "sam") for server in ("prod/presto", "dev/scratch")]
    kept = dict(browser.cookies)
    await signed_out(browser)
    for each in tokens:
        refused(await client.refresh(each["refresh_token"]), "invalid_grant")
    browser.cookies = kept
    response = await browser.get(client.authorization("prod/presto"))
    assert "/sign-in" in onward_of(response)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_nobody_revokes_in_another_clients_name(stage: Stage, which: str) -> None:
    tokens = await stage.tokens()
    for client_id in (stage.other.client_id, "pegboard-cli"):
        answer = await stage.editor.revoke(tokens[which], client_id=client_id)
        assert (answer.status_code, answer.content) == (200, b"")  # RFC 7009 §2.2 tells nobody whether there was one
    assert (await stage.editor.refresh(tokens["refresh_token"])).status_code == 200


async def test_what_was_revoked_gives_nothing_more(stage: Stage) -> None:
    tokens = await stage.tokens()
    await stage.editor.revoke(tokens["access_token"], token_type_hint="refresh_token")
    refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")
