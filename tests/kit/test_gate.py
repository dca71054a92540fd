"""Nothing is opened, listed or read for a caller who may not reach the server, or whose identity is in doubt."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from pegboard.call.authenticate import GROUPS_HEADER, SURFACE_HEADER, USER_HEADER
from pegboard.call.ports import Standing
from pegboard.core.errors import BundleRefused, StopsUnknown
from pegboard.core.jose import Signer, new_private_key
from pegboard.core.record import Denial
from pegboard.core.token import TOKEN_TYPE
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

LEGACY = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
MODERN = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}


def rpc(method: str, **params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **params}}


async def legacy_session(http: Any, hub: InMemoryHub, headers: dict[str, str]) -> dict[str, str]:
    """The header of a session of the older protocol that `headers` open."""
    client = {"name": "t", "version": "1"}
    body = rpc("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    del body["params"]["_meta"]
    opened = await http.post(hub.name.path, json=body, headers=headers)
    return {"mcp-session-id": opened.headers["mcp-session-id"]}


OPENINGS = {
    "initialize": (LEGACY, "POST", rpc("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={})),
    "discover": (MODERN | {"mcp-method": "server/discover"}, "POST", rpc("server/discover")),
    "modern list": (MODERN | {"mcp-method": "tools/list"}, "POST", rpc("tools/list")),
    "legacy list": (LEGACY, "POST", rpc("tools/list")),
    "stream": (LEGACY, "GET", None),
    "end of session": (LEGACY, "DELETE", None),
    "not json": (LEGACY, "POST", "nonsense"),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize(
    ("person", "groups", "surface", "reason"),
    [
        ("gus", [], "cli", "group_not_granted"),
        ("sam", ["search-eng"], "cli", "group_not_granted"),
        ("ana", ["ads-eng"], "ide", "surface_not_granted"),
        ("ana", ["ads-eng"], "bot", "surface_not_granted"),
    ],
)
async def test_ungranted_caller_is_refused_whatever_the_request(
    hub: InMemoryHub, opening: str, person: str, groups: list[str], surface: str, reason: str
) -> None:
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers(person, groups, surface)) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert response.status_code == 403
    refusal = response.json()["error"]["data"]
    assert (refusal["layer"], refusal["reason"]) == ("server", reason)
    assert "platform in #desk" in refusal["what_to_do"]
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.who is not None
    assert (record.who.sub, record.reason) == (person, reason)


def _alg_none(hub: InMemoryHub) -> str:
    _, payload, _ = hub.token("ana", ["ads-eng"]).split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return f"{header}.{payload}."


def _key_confusion(hub: InMemoryHub) -> str:
    """HS256 signed with the public key's text as the secret, under the real key's id (RFC 8725 §2.1)."""
    header, payload, _ = hub.token("ana", ["ads-eng"]).split(".")
    kid = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    public = json.dumps(hub.standings.standing.tokens._verifier._keys[kid].as_dict(private=False))
    return jwt.encode({"alg": "HS256", "typ": TOKEN_TYPE, "kid": kid}, claims, OctKey.import_key(public))


def _forged(hub: InMemoryHub) -> str:
    _, payload, _ = hub.token("ana", ["ads-eng"]).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return Signer(new_private_key()).sign(claims, TOKEN_TYPE)


def _other_claims(hub: InMemoryHub) -> str:
    header, payload, signature = hub.token("fay", ["finance"]).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"groups": ["ads-eng"]}
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


def _with(**claims: object) -> Callable[[InMemoryHub], str]:
    return lambda hub: hub.token("ana", ["ads-eng"], **claims)


def _lived(issued: int, expires: int) -> Callable[[InMemoryHub], str]:
    """A token with these times, in seconds from now."""

    def mint(hub: InMemoryHub) -> str:
        now = int(time.time())
        return hub.token("ana", ["ads-eng"], iat=now + issued, exp=now + expires)

    return mint


BAD_TOKENS: dict[str, tuple[Callable[[InMemoryHub], str | None], str]] = {
    "none at all": (lambda hub: None, "token_missing"),
    "empty": (lambda hub: "", "token_invalid"),
    "not a token": (lambda hub: "abc", "token_invalid"),
    "forged with another key": (_forged, "token_invalid"),
    "claims changed after signing": (_other_claims, "token_invalid"),
    "alg none": (_alg_none, "token_invalid"),
    "key confusion": (_key_confusion, "token_invalid"),
    "wrong type": (lambda hub: hub._signer.sign({"sub": "ana"}, "JWT"), "token_invalid"),
    "expired": (_lived(-600, -6), "token_expired"),
    "from the future": (_lived(60, 120), "token_not_yet_valid"),
    "lives too long": (_lived(0, 3600), "token_bad_claims"),
    "another server's": (_with(aud="http://pegboard.test/mcp/dev/other"), "token_wrong_audience"),
    "the API's": (_with(aud="http://pegboard.test/api"), "token_wrong_audience"),
    "several audiences": (_with(aud=["http://pegboard.test/mcp/dev/desk", "x"]), "token_wrong_audience"),
    "wrong issuer": (_with(iss="http://elsewhere.test"), "token_wrong_issuer"),
    "groups as text": (_with(groups="ads-eng"), "token_bad_claims"),
    "unknown surface": (_with(surface="root"), "token_bad_claims"),
    "no subject": (_with(sub=""), "token_bad_claims"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
async def test_token_that_does_not_verify_is_refused_and_names_nobody(hub: InMemoryHub, case: str) -> None:
    mint, reason = BAD_TOKENS[case]
    headers = hub.headers("ana", ["ads-eng"]) | MODERN
    del headers["authorization"]
    if (token := mint(hub)) is not None:
        headers["authorization"] = f"Bearer {token}"
    async with hub.http(headers) as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"), headers={"mcp-method": "tools/list"})
    assert response.status_code == 401
    assert response.json()["error"]["data"]["reason"] == reason
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert (record.who, record.reason) == (None, reason)


SPOOFS: dict[str, list[tuple[str, str]]] = {
    "another user": [(USER_HEADER, "pat"), (GROUPS_HEADER, '["ads-eng"]'), (SURFACE_HEADER, "cli")],
    "more groups": [(USER_HEADER, "ana"), (GROUPS_HEADER, '["ads-eng","platform"]'), (SURFACE_HEADER, "cli")],
    "groups in another form": [(USER_HEADER, "ana"), (GROUPS_HEADER, "ads-eng"), (SURFACE_HEADER, "cli")],
    "another surface": [(USER_HEADER, "ana"), (GROUPS_HEADER, '["ads-eng"]'), (SURFACE_HEADER, "chat")],
    "user twice": [(USER_HEADER, "ana")] * 2 + [(GROUPS_HEADER, '["ads-eng"]'), (SURFACE_HEADER, "cli")],
    "odd case beside": [
        (USER_HEADER, "ana"),
        ("X-FORWARDED-USER", "pat"),
        (GROUPS_HEADER, '["ads-eng"]'),
        (SURFACE_HEADER, "cli"),
    ],
    "no user": [(GROUPS_HEADER, '["ads-eng"]'), (SURFACE_HEADER, "cli")],
    "none": [],
}


@pytest.mark.parametrize("case", SPOOFS)
async def test_headers_that_disagree_with_the_token_are_refused_and_counted(hub: InMemoryHub, case: str) -> None:
    headers = [("authorization", f"Bearer {hub.token('ana', ['ads-eng'])}"), *SPOOFS[case], *MODERN.items()]
    async with hub.http() as http:
        response = await http.post(
            hub.name.path, json=rpc("tools/list"), headers=[*headers, ("mcp-method", "tools/list")]
        )
    assert response.status_code == 403
    assert response.json()["error"]["data"]["code"] == "identity_mismatch"
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.code == "identity_mismatch"


async def test_names_beyond_ascii_agree_as_the_edge_writes_them(hub: InMemoryHub) -> None:
    groups = ["ads-eng", "équipe"]
    headers = [
        (b"authorization", f"Bearer {hub.token('zoë', groups)}".encode()),
        (USER_HEADER.encode(), "zoë".encode()),
        (GROUPS_HEADER.encode(), json.dumps(groups, ensure_ascii=False).encode()),
        (SURFACE_HEADER.encode(), b"cli"),
        *[(name.encode(), value.encode()) for name, value in MODERN.items()],
        (b"mcp-method", b"tools/list"),
    ]
    async with hub.http() as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"), headers=headers)
    assert response.status_code == 200


async def test_encoded_name_header_is_read_as_the_protocol_says(hub: InMemoryHub) -> None:
    """MCP 2026-07-28 wraps a name that is no plain ASCII in base64."""
    headers = hub.headers("ana", ["ads-eng"]) | MODERN
    name = "=?base64?" + base64.b64encode("wörd".encode()).decode() + "?="
    async with hub.http(headers | {"mcp-method": "tools/call", "mcp-name": name}) as http:
        response = await http.post(hub.name.path, json=rpc("tools/call", name="wörd"))
    assert response.status_code == 200
    assert "No tool wörd here for you" in response.json()["result"]["content"][0]["text"]


AMBIGUOUS: dict[str, tuple[dict[str, str], str, str]] = {
    "lying Mcp-Name": ({"mcp-name": "echo"}, json.dumps(rpc("tools/call", name="order")), "header_mismatch"),
    "lying Mcp-Name on a legacy call": (
        {"mcp-name": "echo", "mcp-protocol-version": "2025-11-25"},
        json.dumps(rpc("tools/call", name="order")),
        "header_mismatch",
    ),
    "lying Mcp-Method": ({"mcp-method": "tools/list"}, json.dumps(rpc("tools/call", name="echo")), "header_mismatch"),
    "duplicate method": (
        {},
        '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        "duplicate_keys",
    ),
    "duplicate name deep inside": (
        {},
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"order"}}',
        "duplicate_keys",
    ),
    "duplicate by escape": (
        {},
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","n\\u0061me":"order"}}',
        "duplicate_keys",
    ),
    "half a surrogate pair": (
        {},
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"\\ud800"}}}',
        "not_unicode",
    ),
    "batch": ({}, "[" + json.dumps(rpc("tools/list")) + "]", "not_one_message"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_request_with_two_readings_is_not_run(hub: InMemoryHub, case: str) -> None:
    extra, body, reason = AMBIGUOUS[case]
    headers = hub.headers("ana", ["ads-eng"]) | MODERN | {"content-type": "application/json"} | extra
    async with hub.http(headers) as http:
        response = await http.post(hub.name.path, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["data"]["reason"] == reason
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.reason == reason


async def test_body_beyond_the_limit_is_refused(hub: InMemoryHub) -> None:
    async with hub.http(hub.headers("ana", ["ads-eng"]) | MODERN) as http:
        response = await http.post(hub.name.path, content=b" " * (4 * 1024 * 1024 + 1))
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("person", "surface", "status"), [("ana", "cli", 200), ("fay", "cli", 404), ("ana", "chat", 404)]
)
async def test_legacy_session_belongs_to_one_person_on_one_surface(
    hub: InMemoryHub, person: str, surface: str, status: int
) -> None:
    async with hub.http() as http:
        session = await legacy_session(http, hub, hub.headers("ana", ["ads-eng"], "cli") | LEGACY)
        groups = {"ana": ["ads-eng"], "fay": ["finance"]}[person]
        user = hub.headers(person, groups, surface) | LEGACY | session
        response = await http.post(hub.name.path, json={"jsonrpc": "2.0", "id": 2, "method": "ping"}, headers=user)
    assert response.status_code == status


async def test_another_path_is_nowhere(hub: InMemoryHub) -> None:
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        assert (await http.post("/mcp/dev/other", json=rpc("tools/list"))).status_code == 404
        assert (await http.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [(BundleRefused("too old"), "bundle_unusable"), (StopsUnknown("too old"), "stops_unknown"), (None, "ok")],
)
async def test_it_is_ready_while_requests_are_let_through(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch, fault: BundleRefused | None, said: str
) -> None:
    def current(_now: float) -> Standing:
        if fault:
            raise fault
        return hub.standings.standing

    monkeypatch.setattr(hub.standings, "current", current)
    async with hub.http() as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()) == (503 if fault else 200, {"status": said})
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.post("/readyz")).status_code == 404
    assert hub.records == [], "it says what a call meets, and is none"
