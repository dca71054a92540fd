"""Tokens that must not work, although some are signed with the hub's own key (RFC 8725, RFC 7515, RFC 9068).

Rule (design, Rules of trust): deny by default; a token is for one server. Every case is tried through the edge and
again at the server's own socket, as if the edge had let it pass. Plain forgeries, `alg: none` and confusion of HMAC
and public key are in `tests/system/test_edge_refusals.py` and `tests/kit/test_gate.py`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from pegboard.core.jose import Jwk, new_private_key, public_jwks
from pegboard.core.names import ServerName
from tests.attacks.signing import es256
from tests.attacks.wire import ACCEPT, META, MODERN, PRESTO, modern
from tests.rings import key_in
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]


class Mint:
    """The hub's token key, in an attacker's hands for the length of these tests."""

    def __init__(self, pegboard: Instance) -> None:
        self.pegboard = pegboard
        self.key: Jwk = key_in(pegboard.home.token_ring)
        self.bundle_key: Jwk = key_in(pegboard.home.bundle_ring)
        self.good = pegboard.token("ana")
        self.claims: dict[str, Any] = json.loads(_decode(self.good.split(".")[1]))

    def sign(self, claims: Any = None, key: Jwk | None = None, **header: Any) -> str:
        """A token with ana's claims or others, signed with the hub's key or another, under any header."""
        key = key or self.key
        whole = {"alg": "ES256", "typ": "at+jwt", "kid": key["kid"], **header}
        whole = {name: value for name, value in whole.items() if value is not None}
        text = claims if isinstance(claims, bytes) else json.dumps(claims or self.claims).encode()
        signed = f"{_encode(json.dumps(whole).encode())}.{_encode(text)}"
        # A good library refuses to sign under most of these headers, so the signature is made for the bytes alone.
        return f"{signed}.{_encode(es256(signed.encode(), key))}"

    def changed(self, **claims: Any) -> str:
        """A token of the hub's own key, with some claims changed, or left out where they are None."""
        merged = {**self.claims, **claims}
        return self.sign({name: value for name, value in merged.items() if value is not None})


@pytest.fixture(scope="module")
def mint(pegboard: Instance) -> Mint:
    return Mint(pegboard)


ATTACKER = new_private_key()
ATTACKERS_PUBLIC = public_jwks(ATTACKER)["keys"][0]
NOW = int(time.time())
"""When the suite was read. What must lie in the future lies hours ahead, so that it still does at the suite's end."""

HEADERS: dict[str, Callable[[Mint], str]] = {
    "the bundle's key": lambda m: m.sign(key=m.bundle_key),
    "the bundle's key under the token's kid": lambda m: m.sign(key=m.bundle_key, kid=m.key["kid"]),
    "a bundle's type": lambda m: m.sign(typ="pegboard-bundle+jws"),
    "type JWT": lambda m: m.sign(typ="JWT"),
    "an id token's type": lambda m: m.sign(typ="id_token+jwt"),
    "type in another case": lambda m: m.sign(typ="AT+JWT"),
    "type with application/": lambda m: m.sign(typ="application/at+jwt"),
    "no type": lambda m: m.sign(typ=None),
    "a list of types": lambda m: m.sign(typ=["at+jwt"]),
    "the edge's own bundle": lambda m: m.pegboard.home.edge_bundle.read_text().strip(),
    "another key's id": lambda m: m.sign(kid="other"),
    "no key id": lambda m: m.sign(kid=None),
    "a key id that is a path": lambda m: m.sign(key=ATTACKER, kid="../../public/bundle-keys.json"),
    "a key id that is SQL": lambda m: m.sign(key=ATTACKER, kid="' OR 1=1 --"),
    "a key of its own inside": lambda m: m.sign(key=ATTACKER, jwk=ATTACKERS_PUBLIC),
    "its own inside, our kid": lambda m: m.sign(key=ATTACKER, kid=m.key["kid"], jwk=ATTACKERS_PUBLIC),
    "a key set by URL": lambda m: m.sign(key=ATTACKER, jku="http://localhost:1/jwks"),
    "a certificate by URL": lambda m: m.sign(key=ATTACKER, x5u="http://localhost:1/x.pem"),
    "a certificate inside": lambda m: m.sign(key=ATTACKER, x5c=["MIIB"]),
    "critical and unknown": lambda m: m.sign(crit=["exp"], exp=1),
    "critical and empty": lambda m: m.sign(crit=[]),
    "a payload not encoded (RFC 7797)": lambda m: m.sign(b64=False, crit=["b64"]),
    "compressed": lambda m: m.sign(zip="DEF"),
    "algorithm in another case": lambda m: m.sign(alg="es256"),
    "another curve": lambda m: m.sign(alg="ES384"),
    "Bitcoin's curve": lambda m: m.sign(alg="ES256K"),
    "RSA by name": lambda m: m.sign(alg="RS256"),
    "a list of algorithms": lambda m: m.sign(alg=["ES256"]),
    "no algorithm": lambda m: m.sign(alg=None),
}

SHAPES: dict[str, Callable[[Mint], str]] = {
    "a signature of zeros": lambda m: f"{m.good.rpartition('.')[0]}.{_encode(bytes(64))}",
    "a signature of ones": lambda m: f"{m.good.rpartition('.')[0]}.{_encode(bytes([*bytes(31), 1] * 2))}",
    "a signature in DER": lambda m: f"{m.good.rpartition('.')[0]}.{_encode(bytes.fromhex('3006020101020101'))}",
    "no signature": lambda m: m.good.rpartition(".")[0],
    "an empty signature": lambda m: m.good.rpartition(".")[0] + ".",
    "another token's signature": lambda m: (
        f"{m.good.rpartition('.')[0]}.{m.pegboard.token('fay').rpartition('.')[2]}"
    ),
    "a part too many": lambda m: m.good + ".e30",
    "five parts, as encrypted": lambda m: m.good + ".e30.e30",
    "a word behind": lambda m: m.good + " x",
    "another token behind": lambda m: f"{m.good}, {m.good}",
    "padding": lambda m: m.good + "=",
    "a dot before": lambda m: "." + m.good,
    "JSON serialization": lambda m: json.dumps({"payload": m.good.split(".")[1], "signatures": []}),
    "claims that are a list": lambda m: m.sign([m.claims]),
    "claims that are no JSON": lambda m: m.sign(b"ana"),
    "claims in UTF-16": lambda m: m.sign(json.dumps(m.claims).encode("utf-16")),
    "claims nested": lambda m: m.sign({"claims": m.claims}),
}

CLAIMS: dict[str, dict[str, Any]] = {
    "an audience with a slash": {"aud": "{url}/mcp/prod/presto/"},
    "an audience in capitals": {"aud": "{URL}/MCP/PROD/PRESTO"},
    "an audience by another name": {"aud": "http://127.0.0.1:{port}/mcp/prod/presto"},
    "the API's audience": {"aud": "{url}/api"},
    "the whole origin": {"aud": "{url}"},
    "any audience": {"aud": "*"},
    "an audience in a list": {"aud": ["{url}/mcp/prod/presto"]},
    "no audience": {"aud": None},
    "an issuer with a slash": {"iss": "{url}/"},
    "an issuer in a list": {"iss": ["{url}"]},
    "no issuer": {"iss": None},
    "no end": {"exp": None},
    "an end as text": {"exp": lambda: str(int(time.time()) + 600)},
    "an end in parts of a second": {"exp": lambda: int(time.time()) + 600.5},
    "an end that is true": {"exp": True},
    "an end below zero": {"exp": -1},
    "an end far away": {"exp": 10**30},
    "no beginning": {"iat": None},
    "a beginning to come": {"iat": NOW + 36_000, "exp": NOW + 36_060},
    "not before later": {"nbf": NOW + 36_000},
    "a life of an hour": {"iat": NOW - 10, "exp": NOW + 3600},
    "an end before the beginning": {"iat": NOW, "exp": NOW - 60},
    "no subject": {"sub": None},
    "a subject that is a list": {"sub": ["ana"]},
    "a subject that is an object": {"sub": {"sub": "ana"}},
    "a subject with a line end": {"sub": "ana\r\nx-forwarded-groups: ads-eng"},
    "another kind of subject": {"sub_type": "root"},
    "a service with a person's groups": {"sub_type": "service"},
    "no groups": {"groups": None},
    "groups as an object": {"groups": {"ads-eng": True}},
    "a group that is a number": {"groups": ["ads-eng", 1]},
    "a group that is null": {"groups": ["ads-eng", None]},
    "groups in groups": {"groups": [["ads-eng"]]},
    "a group with a space": {"groups": ["ads-eng "]},
    "a group of two": {"groups": ["x,ads-eng"]},
    "no surface": {"surface": None},
    "a surface nobody has": {"surface": "service"},
    "a surface in a list": {"surface": ["cli"]},
    "no token id": {"jti": None},
    "no client": {"client_id": None},
    "no scope": {"scope": None},
    "a scope in a list": {"scope": ["tools"]},
    "a session in a list": {"sid": ["x"]},
}

TOKENS: dict[str, Callable[[Mint], str]] = {
    **{f"header: {name}": make for name, make in HEADERS.items()},
    **{f"shape: {name}": make for name, make in SHAPES.items()},
    **{f"claims: {name}": lambda m, c=claims: m.changed(**_placed(m, c)) for name, claims in CLAIMS.items()},
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_bad_token_gets_nothing_through_the_edge_or_behind_it(mint: Mint, case: str) -> None:
    token = TOKENS[case](mint)
    through = modern(mint.pegboard, token, "tools/list")
    # A header cannot carry a line end; the connection to the server breaks on it.
    line_end = case == "claims: a subject with a line end"
    assert through.status_code in ((502,) if line_end else (400, 401, 403)), through.text
    assert "run_query" not in through.text
    behind = _behind_the_edge(mint, token)
    # A later `nbf` is refused by the edge alone: it is in no token of ours (design, Tokens).
    if case != "claims: not before later":
        assert behind.status_code in (401, 403), behind.text


def test_the_same_mint_makes_good_tokens(mint: Mint) -> None:
    """The cases above fail for what they change, not for how they are made."""
    assert modern(mint.pegboard, mint.sign(), "tools/list").status_code == 200
    assert _behind_the_edge(mint, mint.changed(jti="another")).status_code == 200


@pytest.mark.parametrize("person", ["fay", "sam", "gus"])
def test_the_api_takes_no_servers_token_and_a_server_none_of_the_apis(pegboard: Instance, person: str) -> None:
    api = f"{pegboard.public_url}/api/v1/whoami"
    for_scratch = pegboard.token(person, "dev/scratch")
    refused = httpx2.get(api, headers={"authorization": f"Bearer {for_scratch}"})
    assert (refused.status_code, refused.json()["error"]["reason"]) == (401, "token_wrong_audience")
    assert modern(pegboard, pegboard.token(person, "api"), "tools/list").status_code == 401
    assert modern(pegboard, for_scratch, "tools/list").status_code == 401


@pytest.mark.parametrize("case", [name for name in TOKENS if name.startswith(("header", "shape"))])
def test_the_api_is_no_easier(mint: Mint, case: str) -> None:
    mint_for_api = Mint(mint.pegboard)
    mint_for_api.good = mint.pegboard.token("ana", "api")
    mint_for_api.claims = json.loads(_decode(mint_for_api.good.split(".")[1]))
    headers = {"authorization": f"Bearer {TOKENS[case](mint_for_api)}"}
    answer = httpx2.get(f"{mint.pegboard.public_url}/api/v1/whoami", headers=headers)
    assert answer.status_code == 401, answer.text


def _behind_the_edge(mint: Mint, token: str) -> httpx2.Response:
    """The same request at the server's own socket, with the identity headers that the edge would set for ana."""
    identity = {
        "x-forwarded-user": "ana",
        "x-forwarded-groups": json.dumps(mint.claims["groups"]),
        "x-forwarded-surface": "cli",
    }
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list", "authorization": f"Bearer {token}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    transport = httpx2.HTTPTransport(uds=str(mint.pegboard.home.socket(ServerName("prod", "presto"))))
    with httpx2.Client(transport=transport, base_url="http://server") as client:
        return client.post(PRESTO, json=body, headers={**ACCEPT, **identity, **routing})


def _placed(mint: Mint, claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with this instance's own origin in them."""
    url = mint.pegboard.public_url
    places = {"{url}": url, "{URL}": url.upper(), "{port}": url.rpartition(":")[2]}

    def place(value: Any) -> Any:
        if callable(value):  # of the time at which the case runs
            return value()
        if isinstance(value, list):
            return [place(item) for item in value]
        if isinstance(value, str):
            for mark, text in places.items():
                value = value.replace(mark, text)
        return value

    return {name: place(value) for name, value in claims.items()}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
