"""The authorization server under callers who send what no client would, against the whole stack.

Rules (design, Rules of trust; RFC 9700, RFC 7636, RFC 8707, RFC 9207): a code and a refresh token are good once, for
whom they were made, and for one server; answers go where the client registered and nowhere else; logs hold no secret.
Here are one secret in another's place, registration, and other sites, names and cookies. Codes are in
`test_oauth_code_attacks.py`, redirects in `test_oauth_redirect_attacks.py`, parameters and resources in
`test_oauth_request_attacks.py`, CSRF and pages in `test_browser_attacks.py`, client documents in
`test_client_attacks.py`, the company's login in `test_login_attacks.py`, codes to type in `test_device_attacks.py`,
revoked tokens in `test_revocation_attacks.py`.
"""

from __future__ import annotations

import base64
import socket
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.attacks.oauth_stage import (
    Stage,
    knocked,
    posted,
    refused,
)
from tests.attacks.wire import ACCEPT, META, MODERN, send
from tests.leaks import holding
from tests.oauth import REDIRECT, Browser, StockClient, claims_of, onward_of, query_of
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

# One secret in the place of another

DOORS = {
    "another server": ("POST", "/mcp/dev/scratch"),
    "its own server": ("POST", "/mcp/prod/presto"),
    "the API": ("GET", "/api/v1/whoami"),
    "the API's calls": ("GET", "/api/v1/calls"),
}


SECRETS = ["code", "refresh_token", "session", "access_token", "api token"]


GOOD = {("access_token", "its own server"), ("api token", "the API"), ("api token", "the API's calls")}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", SECRETS)
async def test_a_secret_opens_the_one_door_that_it_is_for(stage: Stage, kind: str, door: str) -> None:
    tokens = await stage.tokens()
    made = {
        **tokens,
        "code": await stage.code(),
        "session": next(iter(stage.browser.cookies.values())),
        "api token": stage.pegboard.token("ana", "api"),
    }
    method, path = DOORS[door]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    headers = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    bearer = {"authorization": f"Bearer {made[kind]}"}
    cookies = {"cookie": f"access_token={made[kind]}; {next(iter(stage.browser.cookies))}={made[kind]}"}
    for way, sent in (("bearer", bearer), ("cookie", cookies)):
        answer = await stage.http.request(method, stage.url + path, json=body, headers=headers | sent)
        good = way == "bearer" and (kind, door) in GOOD
        assert (answer.status_code == 200) == good, (way, answer.status_code, answer.text)
        assert good or answer.status_code == 401, answer.text


@pytest.mark.parametrize("kind", ["code", "refresh_token", "access_token"])
async def test_no_secret_of_a_client_signs_a_browser_in(stage: Stage, kind: str) -> None:
    tokens = {**await stage.tokens(), "code": await stage.code()}
    browser = Browser(stage.url, stage.http, {next(iter(stage.browser.cookies)): tokens[kind]})
    assert "/sign-in" in onward_of(await browser.get(stage.editor.authorization("prod/presto")))


# Registration

POISON: dict[str, dict[str, Any]] = {
    "another's id": {"client_id": "pegboard-cli"},
    "a secret of its own": {"client_secret": "mine", "client_secret_expires_at": 0},
    "a surface": {"surface": "bot", "channels": ["#data-help"]},
    "a standing": {"standing": "approved", "kind": "first-party", "any_resource": True},
    "a software": {"software_id": "pegboard-cli", "software": "pegboard-cli"},
    "a statement": {"software_statement": "eyJhbGciOiJub25lIn0.e30."},
    "confidence": {"token_endpoint_auth_method": "client_secret_basic"},
    "more scope": {"scope": "api root"},
}


@pytest.mark.parametrize("case", POISON)
async def test_a_client_registers_as_nothing_but_an_unknown_public_one(stage: Stage, case: str) -> None:
    document = {"client_name": f"Poison {case}", "redirect_uris": [REDIRECT], **POISON[case]}
    response = await stage.http.post(f"{stage.url}/oauth/register", json=document)
    if response.status_code == 400:
        return
    found = response.json()
    assert response.status_code == 201, response.text
    assert found["client_id"] not in ("pegboard-cli", stage.editor.client_id)
    assert found.get("client_secret") is None
    assert found["token_endpoint_auth_method"] == "none"
    client = StockClient(stage.url, stage.http, client_id=found["client_id"])
    url = client.authorization("prod/presto")
    assert "/consent" in onward_of(await stage.browser.get(url))
    answer = await stage.browser.authorize(url)
    claims = claims_of((await client.exchange(query_of(answer)["code"])).json()["access_token"])
    assert (claims["client_id"], claims["surface"], claims["scope"]) == (found["client_id"], "cli", "tools")
    assert "channel" not in claims


FETCHABLE = [
    "client_uri",
    "logo_uri",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "sector_identifier_uri",
    "initiate_login_uri",
]


@pytest.mark.parametrize("name", FETCHABLE)
async def test_no_address_in_a_registration_is_fetched(stage: Stage, listener: socket.socket, name: str) -> None:
    place = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    client = StockClient(stage.url, stage.http, name="Fetches")
    response = await stage.http.post(
        f"{stage.url}/oauth/register",
        json={"client_name": client.name, "redirect_uris": [client.redirect], name: place},
    )
    if response.status_code == 201:
        client.client_id = response.json()["client_id"]
        await client.connect(stage.browser, "prod/presto")
    assert not knocked(listener)


REGISTRATIONS: dict[str, Any] = {
    "nothing": b"",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no JSON": b"redirect_uris=x",
    "a deep one": b"[" * 10_000,
    "a huge one": b'{"client_name":"' + b"x" * 20_000 + b'"}',
    "not UTF-8": b'{"client_name":"\xff","redirect_uris":["http://127.0.0.1/cb"]}',
    "no redirects": b'{"client_name":"x"}',
    "empty redirects": b'{"redirect_uris":[]}',
    "null for redirects": b'{"redirect_uris":null}',
    "text for redirects": b'{"redirect_uris":"http://127.0.0.1/cb"}',
    "an object for redirects": b'{"redirect_uris":{"0":"http://127.0.0.1/cb"}}',
    "a number for a redirect": b'{"redirect_uris":[1]}',
    "a name that is a list": b'{"client_name":["x"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "no grant that there is": b'{"grant_types":["client_credentials"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "the implicit grant": b'{"response_types":["token"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "keys of its own": b'{"token_endpoint_auth_method":"private_key_jwt","redirect_uris":["http://127.0.0.1/cb"]}',
}


@pytest.mark.parametrize("case", REGISTRATIONS)
async def test_an_odd_registration_is_refused_in_words_and_breaks_nothing(stage: Stage, case: str) -> None:
    headers = {"content-type": "application/json"}
    response = await stage.http.post(f"{stage.url}/oauth/register", content=REGISTRATIONS[case], headers=headers)
    assert response.status_code in (400, 413), response.text
    assert "Traceback" not in response.text
    assert "pegboard_hub" not in response.text


# Browsers: other sites, other names, cookies

OPEN = ["/oauth/token", "/oauth/revoke", "/oauth/register", "/.well-known/oauth-authorization-server"]


CLOSED = ["/oauth/authorize", "/sign-in", "/consent", "/api/v1/whoami"]


@pytest.mark.parametrize("path", [*OPEN, *CLOSED])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
async def test_no_other_site_reads_an_answer_with_the_persons_cookies(stage: Stage, path: str, origin: str) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in stage.browser.cookies.items())
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "cookie"}
    for method, headers in (
        ("OPTIONS", asked),
        ("POST", {"origin": origin, "cookie": cookie}),
        ("GET", {"origin": origin}),
    ):
        answer = await stage.http.request(method, stage.url + path, headers=headers)
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == "*" if path in OPEN and allowed else allowed is None, (method, allowed)
        assert "access-control-allow-credentials" not in answer.headers


HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example:{port}",
    "localhost:1",
    "",
]


REBOUND = [
    *OPEN,
    "/oauth/authorize?client_id=x",
    "/sign-in",
    "/consent",
    "/.well-known/oauth-protected-resource/mcp/prod/presto",
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", REBOUND)
def test_under_a_rebound_name_nothing_is_answered(pegboard: Instance, host: str, path: str) -> None:
    port = pegboard.public_url.rpartition(":")[2]
    method = "POST" if path in OPEN[:3] else "GET"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host.replace('{port}', port)}", "Content-Length: 0"]
    answer = send(pegboard, [*lines, "X-Forwarded-Host: localhost", "Connection: close"])
    assert answer.status in (400, 404, 421), answer.text
    assert "issuer" not in answer.text
    assert "set-cookie" not in answer.text.lower()


async def test_a_session_is_in_no_cookie_that_scripts_or_other_sites_can_use(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    page = await browser.get(f"{stage.url}/sign-in")
    answer = await browser.press(page, "fay")
    [given] = [x for x in answer.headers.get_list("set-cookie") if x.split("=")[0] in stage.browser.cookies]
    attributes = {part.strip().lower() for part in given.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)


TOSSED = {
    "another beside it, behind": "{name}={value}; {name}=attackers",
    "another beside it, before": "{name}=attackers; {name}={value}",
    "the same twice": "{name}={value}; {name}={value}",
    "an empty one beside it": "{name}=; {name}={value}",
    "another's value": "{name}=attackers",
    "its value in another case": "{name}={VALUE}",
    "its value cut": "{name}={value}x",
    "its value in quotes": '{name}="{value}"',
    "its value with a zero": "{name}={value}%00",
    "another instance's name": "pegboard_other={value}",
    "its name in capitals": "{NAME}={value}",
    "a prefix before its name": "__Host-{name}={value}",
    "no value": "{name}",
}


@pytest.mark.parametrize("case", TOSSED)
async def test_a_cookie_that_was_tossed_in_signs_nobody_in(stage: Stage, case: str) -> None:
    name, value = next(iter(stage.browser.cookies.items()))
    tossed = TOSSED[case].format(name=name, value=value, NAME=name.upper(), VALUE=value.swapcase())
    stage.http.cookies.clear()
    answer = await stage.http.get(stage.editor.authorization("prod/presto"), headers={"cookie": tossed})
    assert "/sign-in" in onward_of(answer), (answer.status_code, answer.text[:300])


async def test_a_client_that_is_blocked_or_unknown_gets_one_answer(stage: Stage) -> None:
    """Whatever its id: nothing that was asked for, and no word of what is inside."""
    odd = ["nobody", "", "x" * 600, "\0", "%00", "' OR 1=1 --", "../../etc", "https://evil.example", "\u202e", "a\nb"]
    for client_id in odd:
        response, answer = await stage.asked(client_id=client_id)
        assert (response.status_code, answer) == (400, {}), client_id
        assert "pegboard_hub" not in response.text
        refused(await stage.editor.refresh("x", client_id=client_id), "invalid_client", "invalid_request")


BASICS = {
    "padding alone": "Basic =",
    "no colon": "Basic " + base64.b64encode(b"nobody").decode(),
    "nobody": "Basic " + base64.b64encode(b"nobody:x").decode(),
    "a path": "Basic " + base64.b64encode(quote("../x").encode() + b":x").decode(),
    "not base64": "Basic ***",
    "not UTF-8": "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    "another scheme": "Bearer x",
}


@pytest.mark.parametrize("case", BASICS)
@pytest.mark.parametrize("path", ["token", "revoke"])
async def test_a_bad_header_of_a_client_is_refused_with_the_header_that_would_do(
    stage: Stage, case: str, path: str
) -> None:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": "x", "token": "x"})
    answer = await posted(stage, body, path, authorization=BASICS[case])
    refused(answer, "invalid_client")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_no_secret_of_these_attacks_is_in_any_file_of_the_home(stage: Stage) -> None:
    """After whatever ran before, and after codes and tokens in every place where one might be put by mistake."""
    tokens, code = await stage.tokens(), await stage.code()
    for secret in (code, *(tokens[name] for name in ("access_token", "refresh_token"))):
        await stage.http.get(f"{stage.url}/oauth/token?code={secret}", headers={"x-token": secret})
        await stage.http.get(f"{stage.url}/oauth/authorize?code={secret}&client_id={secret}&state={secret}")
        await stage.http.get(f"{stage.url}/sign-in?continue=/{secret}", headers={"referer": f"{stage.url}/{secret}"})
        await stage.http.get(f"{stage.url}/mcp/prod/presto?access_token={secret}", headers={"user-agent": secret})
        await stage.editor.exchange(secret)
        await stage.editor.refresh(secret)
        await stage.editor.revoke(secret, client_id="nobody")
        await stage.editor.exchange(code, client_id=secret[:500], resource=secret)
    found = {secret.rpartition(".")[2].encode() for secret in stage.secrets if len(secret) > 20}
    assert len(found) > 20
    assert holding(stage.pegboard.home.root, found) == set()
    assert not any(secret.decode() in stage.pegboard.said for secret in found)
