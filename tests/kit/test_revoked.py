"""A server refuses what came of a sign-in that ended, a token that was revoked or a client that was blocked."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from pegboard.core.bundle import Bundle
from pegboard.core.jose import new_private_key, public_jwks
from pegboard.core.record import Denial
from pegboard.core.revoked import Revoked
from pegboard.core.token import TokenVerifier
from pegboard.testing import InMemoryHub
from pegboard.transport import streams
from tests.kit.test_gate import LEGACY, MODERN, OPENINGS, legacy_session, rpc
from tests.kit.test_stops import stream_ends

pytestmark = pytest.mark.anyio

LISTING = MODERN | {"mcp-method": "tools/list"}
METADATA = "http://pegboard.test/.well-known/oauth-protected-resource/mcp/dev/desk"
SAID = "Not signed in: the sign-in it came from has ended, or the token or its client was revoked."
ANA = {"sid": "s", "jti": "t", "client_id": "c"}
KINDS = {"sessions": "s", "tokens": "t", "clients": "c"}


def revoke(hub: InMemoryHub, **values: str) -> None:
    """Revoke one value of each kind, as the hub's next bundle does."""
    revoked = Revoked(**{kind: frozenset({value}) for kind, value in values.items()})
    hub.standings.standing = replace(hub.standings.standing, revoked=revoked)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_revoked_token_is_refused_whatever_the_request_and_told_where_to_sign_in(
    hub: InMemoryHub, opening: str, kind: str
) -> None:
    revoke(hub, **{kind: KINDS[kind]})
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers("ana", ["ads-eng"], **ANA)) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert response.status_code == 401
    found = response.json()["error"]["data"]
    assert (found["code"], found["reason"], found["message"]) == ("unauthenticated", "token_revoked", SAID)
    wanted = f'Bearer error="invalid_token", scope="tools", resource_metadata="{METADATA}"'
    assert response.headers["www-authenticate"] == wanted
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.who is not None
    assert (record.who.sub, record.reason) == ("ana", "token_revoked")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_voids_tokens_by_its_own_claim_alone(hub: InMemoryHub, kind: str) -> None:
    """A client that calls itself as somebody's session is named voids no session, and no session voids a client."""
    others = {"sessions": {"jti": "x", "client_id": "x"}, "tokens": {"sid": "x", "client_id": "x"}}
    claims = {**ANA, **others.get(kind, {"sid": "x", "jti": "x"})}
    revoke(hub, **{kind: "x"})
    async with hub.http(hub.headers("ana", ["ads-eng"], **claims)) as http:
        assert (await http.post(hub.name.path, json=rpc("tools/list"), headers=LISTING)).status_code == 200


async def test_a_token_without_a_session_is_not_void_for_a_session_without_a_name(hub: InMemoryHub) -> None:
    revoke(hub, sessions="")
    async with hub.http(hub.headers("ana", ["ads-eng"], sid=None)) as http:
        assert (await http.post(hub.name.path, json=rpc("tools/list"), headers=LISTING)).status_code == 200


async def test_a_request_without_a_token_is_told_no_error_code(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"), headers=LEGACY)
    assert response.headers["www-authenticate"] == f'Bearer scope="tools", resource_metadata="{METADATA}"'


async def test_a_legacy_session_ends_with_the_sign_in_and_goes_on_with_the_next(hub: InMemoryHub) -> None:
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    first, second = (hub.headers("ana", ["ads-eng"], sid=sid) | LEGACY for sid in ("first", "second"))
    async with hub.http() as http:
        session = await legacy_session(http, hub, first)

        async def status(headers: dict[str, str]) -> int:
            return (await http.post(hub.name.path, json=listing, headers=headers | session)).status_code

        assert await status(first) == 200
        revoke(hub, sessions="first")
        assert [await status(first), await status(second)] == [401, 200]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_ends_when_what_opened_it_is_revoked(
    hub: InMemoryHub, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    signed_in = hub.headers("ana", ["ads-eng"], **ANA)
    monkeypatch.setattr(hub, "headers", lambda *_: signed_in)
    await stream_ends(hub, lambda: revoke(hub, **{kind: KINDS[kind]}))


async def test_a_stream_ends_when_the_key_that_signed_its_token_is_withdrawn_and_not_when_one_is_added(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    other, now = public_jwks(new_private_key())["keys"], time.time()
    first = hub.standings.standing
    mine = public_jwks(hub._private_key)["keys"]
    caller = first.tokens.verify(hub.token("ana", ["ads-eng"]), now)

    def verified_with(keys: list[Any]) -> None:
        tokens = TokenVerifier({"keys": keys}, hub.public_url, first.access.resource_url)
        hub.standings.standing = replace(first, tokens=tokens)

    verified_with([*mine, *other])
    assert hub.standings.standing.tokens.believes(caller)
    await stream_ends(hub, lambda: verified_with(other))


def test_equal_lists_read_the_same_in_every_process() -> None:
    facts: dict[str, Any] = {"consumer": "edge", "version": 1, "issued_at": 1, "issuer": "i", "jwks": {"keys": []}}
    names = [f"session-{number}" for number in range(40)]
    first, second = (Bundle(**facts, servers=(), revoked=Revoked(frozenset(each))) for each in (names, names[::-1]))
    assert first.model_dump_json() == second.model_dump_json()
    assert Bundle.model_validate_json(first.model_dump_json()) == first
