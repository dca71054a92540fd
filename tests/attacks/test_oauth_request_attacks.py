"""What a request asks the authorization server for, attacked: parameters, methods, and which server a token is for.

Rules: RFC 6749, RFC 8707. The other attacks on signing in are listed in `test_oauth_attacks.py`.
"""

from __future__ import annotations

import html
import json
import re
import socket
from urllib.parse import unquote, urlencode

import pytest

from tests.attacks.oauth_stage import (
    APP_REDIRECT,
    HTTPS_REDIRECT,
    Stage,
    exchange_form,
    filled,
    knocked,
    posted,
    refused,
)
from tests.oauth import REDIRECT, StockClient, claims_of, onward_of, query_of

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

# Parameters

NO_CODE: dict[str, dict[str, str | None]] = {
    "the implicit grant": {"response_type": "token"},
    "an id token": {"response_type": "id_token"},
    "a hybrid": {"response_type": "code token"},
    "nothing": {"response_type": "none"},
    "a type in capitals": {"response_type": "CODE"},
    "an answer in the fragment": {"response_mode": "fragment"},
    "an answer in a form": {"response_mode": "form_post"},
    "an answer in a message": {"response_mode": "web_message"},
    "an answer as a token": {"response_mode": "query.jwt"},
    "a request object": {"request": "eyJhbGciOiJub25lIn0.e30."},
    "a request object by URL": {"request_uri": "{listener}/request"},
    "a pushed request": {"request_uri": "urn:ietf:params:oauth:request_uri:x"},
    "no scope that there is": {"scope": "openid profile offline_access"},
    "a scope in capitals": {"scope": "TOOLS"},
    "the API's scope on a server": {"scope": "api"},
    "scopes with a comma": {"scope": "tools,tools:read"},
}


@pytest.mark.parametrize("case", NO_CODE)
async def test_what_is_not_offered_is_refused_and_not_overlooked(
    stage: Stage, listener: socket.socket, case: str
) -> None:
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    changes = {name: value and value.replace("{listener}", place) for name, value in NO_CODE[case].items()}
    response, answer = await stage.asked(**changes)
    assert "code" not in answer
    assert answer["error"] in ("invalid_request", "unsupported_response_type", "invalid_scope"), response.text
    assert not knocked(listener)


IGNORED: dict[str, dict[str, str | None]] = {
    "prompt": {"prompt": "none"},
    "claims": {"claims": '{"id_token":{"groups":{"value":"security"}}}'},
    "a hint": {"login_hint": "pat", "id_token_hint": "x"},
    "a person": {"as": "pat", "sub": "pat", "person": "pat", "groups": "security"},
    "a surface": {"surface": "chat", "channel": "#data-help"},
    "an audience": {"audience": "{url}/mcp/dev/scratch", "aud": "{url}/api"},
    "details": {"authorization_details": '[{"type":"openid_credential"}]'},
    "a session": {"sid": "x", "session": "x"},
    "a scope too many": {"scope": "tools root offline_access"},
}


@pytest.mark.parametrize("case", IGNORED)
async def test_what_nobody_here_knows_changes_nothing(stage: Stage, case: str) -> None:
    _, answer = await stage.asked(**filled(stage, IGNORED[case]))
    claims = claims_of((await stage.editor.exchange(answer["code"])).json()["access_token"])
    assert claims["sub"] == "ana"
    assert (claims["aud"], claims["scope"]) == (f"{stage.url}/mcp/prod/presto", "tools")
    assert (claims["surface"], "channel" in claims) == ("cli", False)


TWICE = [
    "client_id",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "state",
    "scope",
    "resource",
    "unknown",
]


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("order", ["before", "after"])
async def test_a_parameter_that_comes_twice_is_refused_here(stage: Stage, name: str, order: str) -> None:
    url = stage.editor.authorization("prod/presto", scope="tools", unknown="x")
    more = urlencode({name: "https://evil.example"})
    path, _, query = url.partition("?")
    response, _ = await stage.opened(f"{path}?{more}&{query}" if order == "before" else f"{url}&{more}")
    assert (response.status_code, onward_of(response)) == (400, "")


TOKEN_TWICE = ["grant_type", "code", "redirect_uri", "client_id", "code_verifier", "resource", "scope"]


@pytest.mark.parametrize("name", TOKEN_TWICE)
async def test_nor_does_it_count_twice_for_a_token(stage: Stage, name: str) -> None:
    form = exchange_form(stage, await stage.code())
    form |= {"resource": f"{stage.url}/mcp/prod/presto", "scope": "tools"}
    refused(await posted(stage, f"{urlencode(form)}&{urlencode({name: form[name]})}"), "invalid_request")


BODIES: dict[str, tuple[str, str]] = {
    "JSON": ("application/json", "json"),
    "JSON, called a form": ("application/x-www-form-urlencoded", "json"),
    "a form, called JSON": ("application/json", "form"),
    "a form, called text": ("text/plain", "form"),
    "parts": ("multipart/form-data; boundary=x", "parts"),
    "parts, called a form": ("application/x-www-form-urlencoded", "parts"),
    "a form of another charset": ("application/x-www-form-urlencoded; charset=utf-16", "utf-16"),
    "a form that is not UTF-8": ("application/x-www-form-urlencoded", "latin-1"),
    "a form that is cut": ("application/x-www-form-urlencoded", "cut"),
    "nothing": ("application/x-www-form-urlencoded", "nothing"),
    "no type": ("", "form"),
    "too much": ("application/x-www-form-urlencoded", "big"),
    "too many fields": ("application/x-www-form-urlencoded", "many"),
}


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("path", ["token", "revoke"])
async def test_the_token_endpoint_reads_forms_alone(stage: Stage, case: str, path: str) -> None:
    form = exchange_form(stage, await stage.code()) | {"token": "x"}
    plain = urlencode(form)
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in form.items())
    media_type, kind = BODIES[case]
    content = {
        "json": json.dumps(form).encode(),
        "form": plain.encode(),
        "parts": f"{parts}--x--\r\n".encode(),
        "utf-16": plain.encode("utf-16"),
        "latin-1": f"{plain}&x=".encode() + b"\xff",
        "cut": f"{plain}&x".encode(),
        "nothing": b"",
        "big": f"{plain}&x={'x' * 20_000}".encode(),
        "many": (plain + "".join(f"&x{n}=1" for n in range(100))).encode(),
    }[kind]
    answer = await posted(stage, content, path, content_type=media_type)
    assert answer.status_code in (400, 413), answer.text
    assert "access_token" not in answer.text


async def test_a_query_gives_the_token_endpoint_nothing(stage: Stage) -> None:
    code = await stage.code()
    form = exchange_form(stage, code)
    for name in ("code", "client_id", "code_verifier", "grant_type"):
        rest = {key: value for key, value in form.items() if key != name}
        url = f"{stage.url}/oauth/token?{urlencode({name: form[name]})}"
        refused(await stage.http.post(url, data=rest))
    # What is in the body counts, whatever the query says besides.
    url = f"{stage.url}/oauth/token?{urlencode({'client_id': stage.other.client_id, 'resource': 'x'})}"
    assert (await stage.http.post(url, data=form)).status_code == 200


METHODS: dict[str, tuple[str, ...]] = {
    "token": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "revoke": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "register": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "authorize": ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
}


@pytest.mark.parametrize("path", METHODS)
async def test_other_methods_do_nothing(stage: Stage, path: str) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in stage.browser.cookies.items())
    if path == "authorize":
        url = stage.editor.authorization("prod/presto")
    else:
        url = f"{stage.url}/oauth/{path}?{urlencode(exchange_form(stage, await stage.code()))}"
    for method in METHODS[path]:
        answer = await stage.http.request(method, url, headers={"cookie": cookie, "x-http-method-override": "GET"})
        assert answer.status_code in (405, 501), (method, answer.status_code)
        assert "location" not in answer.headers


@pytest.mark.parametrize("dest", ["image", "iframe", "frame", "script", "object", "embed", "empty", "style", "audio"])
async def test_a_page_that_loads_the_address_gets_no_code_made(stage: Stage, dest: str) -> None:
    """A page on another port of this host is of the same site, so that its images bring the session's cookie."""
    response, answer = await stage.opened(stage.editor.authorization("prod/presto"), **{"sec-fetch-dest": dest})
    assert (response.status_code, answer) == (400, {})
    _, answer = await stage.opened(stage.editor.authorization("prod/presto"), **{"sec-fetch-dest": "document"})
    assert answer["code"]


LED_HERE: dict[str, tuple[str, str, bool]] = {
    "a page of another site, to a program here": ("cross-site", REDIRECT, True),
    "a page of another site, to an app": ("cross-site", APP_REDIRECT, True),
    "a page of another site, to a web site": ("cross-site", HTTPS_REDIRECT, False),
    "a program": ("none", REDIRECT, False),
    "a page of ours": ("same-origin", REDIRECT, False),
    "a client that is a page on this machine": ("same-site", REDIRECT, False),
}
"""Who opened the address, where the answer goes, and whether that takes a click."""


@pytest.mark.parametrize("case", LED_HERE)
async def test_a_page_of_another_site_has_nobodys_program_connected_in_silence(stage: Stage, case: str) -> None:
    """Any program of this machine may be behind a loopback address, the page's maker's too (RFC 8252 §8.6)."""
    site, redirect, clicks = LED_HERE[case]
    client = StockClient(stage.url, stage.http, name="Led here", redirect=redirect)
    await client.connect(stage.browser, "prod/presto")
    url = client.authorization("prod/presto", state="<'\"&>")
    page, answer = await stage.opened(url, **{"sec-fetch-site": site, "sec-fetch-dest": "document"})
    assert ("code" in answer) == (not clicks), page.text
    if clicks:
        assert (page.status_code, onward_of(page)) == (200, "")
        [there] = re.findall(r'<a class="button" href="(/oauth/authorize\?[^"]*)"', page.text)
        _, answer = await stage.opened(stage.url + html.unescape(there), **{"sec-fetch-site": "same-origin"})
    assert answer["state"] == "<'\"&>"
    assert (await client.exchange(answer["code"])).status_code == 200


async def test_not_even_pegboards_own_command_is(stage: Stage) -> None:
    command = StockClient(stage.url, stage.http, client_id="pegboard-cli")
    for changes in ({}, {"redirect_uri": None}):
        page, answer = await stage.opened(command.authorization("api", **changes), **{"sec-fetch-site": "cross-site"})
        assert (page.status_code, onward_of(page), answer) == (200, "", {})


# Resources

AUDIENCES = [
    "{url}/mcp/prod/presto/",
    "{url}/mcp/prod/presto?x=1",
    "{url}/mcp/prod/presto?",
    "{url}/mcp/prod/presto#x",
    "{url}/mcp/prod/presto;x",
    "{url}/mcp/prod/PRESTO",
    "{url}/MCP/prod/presto",
    "{URL}/mcp/prod/presto",
    "{url}/mcp/prod%2fpresto",
    "{url}/mcp/prod/pres%74o",
    "{url}/mcp/prod/../prod/presto",
    "{url}/mcp/prod/./presto",
    "{url}/mcp//prod/presto",
    "{url}//mcp/prod/presto",
    "{url}/mcp/prod/presto/..",
    "{url}/mcp/prod/presto ",
    " {url}/mcp/prod/presto",
    "{url}/mcp/prod/presto\n",
    "{url}/mcp/prod/presto\0",
    "{url}/mcp/prod/presto,{url}/api",
    "{url}/mcp/prod/presto {url}/api",
    '["{url}/mcp/prod/presto"]',
    "{url}/mcp/prod/*",
    "{url}/mcp/*",
    "{url}/mcp/",
    "{url}/mcp/prod",
    "{url}/",
    "{url}",
    "{url}/api/",
    "{url}/api/v1",
    "{url}/oauth/token",
    "http://127.0.0.1:{port}/mcp/prod/presto",
    "http://localhost/mcp/prod/presto",
    "http://localhost:1/mcp/prod/presto",
    "https://localhost:{port}/mcp/prod/presto",
    "http://localhost:0{port}/mcp/prod/presto",
    "http://localhost.:{port}/mcp/prod/presto",
    "http://user@localhost:{port}/mcp/prod/presto",
    "http://localhost:{port}@evil.example/mcp/prod/presto",
    "//localhost:{port}/mcp/prod/presto",
    "https://evil.example/mcp/prod/presto",
    "https://evil.example/{url}/mcp/prod/presto",
    "/mcp/prod/presto",
    "prod/presto",
    "urn:pegboard:prod:presto",
    "{url}/mcp/prod/nobody",
    "{url}/mcp/prod/pr\u0435sto",
    "*",
]


@pytest.mark.parametrize("resource", AUDIENCES)
async def test_a_token_is_for_a_server_by_its_exact_url(stage: Stage, resource: str) -> None:
    given = filled(stage, {"resource": resource})
    response, answer = await stage.asked(**given)
    assert "code" not in answer
    assert answer["error"] == "invalid_target", response.text
    command = StockClient(stage.url, stage.http, client_id="pegboard-cli")
    code = query_of(await stage.browser.authorize(command.authorization("api")))["code"]
    refused(await command.exchange(code, **given), "invalid_target")


async def test_a_token_for_the_api_is_not_for_a_client_that_nobody_approved(stage: Stage) -> None:
    response, answer = await stage.opened(stage.editor.authorization("api"))
    assert answer["error"] == "invalid_target", response.text
    assert "Pegboard's own command" in answer["error_description"]


async def test_who_is_not_signed_in_learns_of_no_server_and_no_person(stage: Stage) -> None:
    """The same answer for a server that there is and one that there is not, but for its name."""
    answers = set()
    for server in ("prod/presto", "prod/nobody"):
        url = stage.editor.authorization(server, code_challenge="x" * 43)
        page = await stage.http.get(url)
        metadata = await stage.http.get(f"{stage.url}/.well-known/oauth-protected-resource/mcp/{server}")
        told = [page.status_code, unquote(unquote(onward_of(page))), metadata.status_code, metadata.text]
        answers.add(tuple(str(each).replace(server, "NAME") for each in told))
    assert len(answers) == 1
