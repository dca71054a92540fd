"""Layer 1 keeps its promises on a real Envoy: what must not reach a server does not, and the answer says why."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx2
import pytest

from pegboard.core.access import decide_access
from pegboard.core.caller import Caller
from pegboard.core.jose import new_private_key, public_jwks
from pegboard.core.names import SURFACES
from pegboard.core.refusal import JSONRPC_CODE
from pegboard.core.stops import NOTHING_STOPPED
from tests.system.edge_rig import PRESTO, ROBOT, SCRATCH, SECRET, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge(services=True) as rig:
        yield rig


def refused(
    edge: Rig, response: httpx2.Response, status: int, reason: str, code: int = JSONRPC_CODE
) -> dict[str, Any]:
    """The refusal in a response, which must be complete and agree with its headers."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"jsonrpc", "id", "error"}
    assert (body["jsonrpc"], body["id"], body["error"]["code"]) == ("2.0", None, code)
    refusal = body["error"]["data"]
    assert refusal.keys() == {"code", "message", "layer", "reason", "what_to_do", "request_id"}
    assert (refusal["layer"], refusal["reason"]) == ("edge", reason)
    assert refusal["message"] == body["error"]["message"]
    assert refusal["request_id"] == response.headers["x-request-id"]
    challenge = response.headers.get("www-authenticate", "")
    assert challenge.startswith("Bearer ") == (status == 401 or reason == "insufficient_scope")
    return refusal


@pytest.fixture
def nothing_arrives(edge: Rig) -> Iterator[None]:
    """The upstreams hear nothing during the test. Every request of a test has its answer before this looks."""
    before = edge.arrived()
    yield
    assert edge.arrived() == before


class TestWithoutAGoodToken:
    pytestmark = pytest.mark.usefixtures("nothing_arrives")

    def test_a_request_without_a_token_is_told_where_to_sign_in(self, edge: Rig) -> None:
        response = edge.call()
        refused(edge, response, 401, "token_missing")
        metadata = f"{edge.public_url}/.well-known/oauth-protected-resource/mcp/prod/presto"
        assert response.headers["www-authenticate"] == f'Bearer scope="tools", resource_metadata="{metadata}"'

    def test_an_expired_token_is_refused_past_the_one_skew(self, edge: Rig) -> None:
        now = int(time.time())
        response = edge.call(token=edge.token(iat=now - 60, exp=now - 7))
        refused(edge, response, 401, "token_expired")
        assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token", scope="tools", ')

    def test_a_token_that_was_good_is_not_remembered_past_its_end(self, edge: Rig) -> None:
        token = edge.token(sub="short", exp=int(time.time()))  # good for the skew, some four seconds
        before = edge.arrived()
        assert edge.call(token=token).status_code == 200
        edge.presto.arrivals.pop()
        response = until(lambda: (r := edge.call(token=token)).status_code == 401 and r, "the token ends")
        refused(edge, response, 401, "token_expired")
        del edge.presto.arrivals[before - len(edge.scratch.arrivals) :]

    def test_a_token_of_another_key_under_our_kid_is_refused(self, edge: Rig) -> None:
        forged = {**new_private_key(), "kid": edge.key["kid"]}
        refused(edge, edge.call(token=edge.token(key=forged)), 401, "token_invalid")

    def test_a_changed_token_is_refused(self, edge: Rig) -> None:
        header, _, signature = edge.token().split(".")
        claims = edge.token(groups=["platform"]).split(".")[1]
        refused(edge, edge.call(token=f"{header}.{claims}.{signature}"), 401, "token_invalid")

    def test_alg_none_is_refused(self, edge: Rig) -> None:
        claims = edge.token().split(".")[1]
        for algorithm in ("none", "None", "NONE"):
            header = _base64({"alg": algorithm, "typ": "at+jwt", "kid": edge.key["kid"]})
            refused(edge, edge.call(token=f"{header}.{claims}."), 401, "token_invalid")

    def test_the_public_key_is_no_shared_secret(self, edge: Rig) -> None:
        public = public_jwks(edge.key)["keys"][0]
        secrets = [json.dumps(public, separators=(",", ":")).encode(), base64.urlsafe_b64decode(public["x"] + "==")]
        signed = f"{_base64({'alg': 'HS256', 'typ': 'at+jwt', 'kid': edge.key['kid']})}.{edge.token().split('.')[1]}"
        for secret in secrets:
            mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
            token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            refused(edge, edge.call(token=token), 401, "token_invalid")

    def test_a_token_for_another_server_is_refused(self, edge: Rig) -> None:
        response = edge.call(token=edge.token("dev/scratch"))
        refused(edge, response, 401, "token_wrong_audience")
        assert "/oauth-protected-resource/mcp/prod/presto" in response.headers["www-authenticate"]

    @pytest.mark.parametrize("audience", ["", "/api", "/mcp/prod/presto/", "/mcp/prod", "/MCP/prod/presto"])
    def test_only_the_servers_own_url_is_its_audience(self, edge: Rig, audience: str) -> None:
        token = edge.token(aud=edge.public_url + audience)
        refused(edge, edge.call(token=token), 401, "token_wrong_audience")

    def test_a_list_of_audiences_is_no_audience(self, edge: Rig) -> None:
        token = edge.token(aud=[f"{edge.public_url}/mcp/prod/presto", f"{edge.public_url}/mcp/dev/scratch"])
        refused(edge, edge.call(token=token), 401, "token_wrong_audience")

    def test_a_token_of_another_issuer_is_refused(self, edge: Rig) -> None:
        response = edge.call(token=edge.token(iss="https://elsewhere.example"))
        refused(edge, response, 401, "token_wrong_issuer")

    def test_a_token_that_lives_too_long_or_for_ever_is_refused(self, edge: Rig) -> None:
        refused(edge, edge.call(token=edge.token(exp=int(time.time()) + 3600)), 401, "token_invalid")
        refused(edge, edge.call(token=edge.token(exp=None)), 401, "token_invalid")

    @pytest.mark.parametrize("place", ["query", "cookie", "lower-case scheme", "basic", "twice"])
    def test_a_token_counts_only_as_one_bearer(self, edge: Rig, place: str) -> None:
        token = edge.token()
        requests: dict[str, tuple[str, list[tuple[str, str]]]] = {
            "query": (f"/mcp/prod/presto?access_token={token}", []),
            "cookie": ("/mcp/prod/presto", [("cookie", f"access_token={token}; Authorization={token}")]),
            "lower-case scheme": ("/mcp/prod/presto", [("authorization", f"token {token}")]),
            "basic": ("/mcp/prod/presto", [("authorization", f"Basic {token}")]),
            "twice": ("/mcp/prod/presto", [("authorization", "Bearer x"), ("authorization", f"Bearer {token}")]),
        }
        path, headers = requests[place]
        with edge.client() as client:
            response = client.post(path, headers=[*headers, *_json_headers()], content=json.dumps(tool_call()))
        assert response.status_code == 401, response.text


ACTING_WRONGLY: dict[str, dict[str, Any]] = {
    "chat, and nobody acts": {"surface": "chat", "act": None},
    "bot, and nobody acts": {"surface": "bot", "channel": "airflow", "act": None},
    "a terminal, and somebody acts": {"act": {"sub": "pegboard-cli"}},
    "an editor, and somebody acts, as text": {"surface": "ide", "act": "pegboard-cli"},
    "one for another": {"surface": "chat", "act": {"sub": "pegboard-cli", "act": {"sub": "other"}}},
}


class TestWhoActs:
    pytestmark = pytest.mark.usefixtures("nothing_arrives")

    @pytest.mark.parametrize("case", ACTING_WRONGLY)
    def test_what_no_token_of_ours_says_of_who_acts_is_no_token(self, edge: Rig, case: str) -> None:
        response = edge.call(token=edge.token(**ACTING_WRONGLY[case]))
        refusal = refused(edge, response, 401, "token_bad_claims")
        assert refusal["code"] == "unauthenticated"

    @pytest.mark.parametrize("act", [{"sub": "other"}, {}, {"sub": ["pegboard-cli"]}, "pegboard-cli", ["x"]])
    def test_nobody_acts_but_the_client_itself(self, edge: Rig, act: Any) -> None:
        response = edge.call(token=edge.token(surface="chat", act=act))
        assert response.status_code in (401, 403)

    def test_the_log_says_who_acts(self, edge: Rig) -> None:
        response = edge.call("/mcp/dev/scratch", edge.token("dev/scratch", surface="chat"))
        line = edge.logged(response.headers["x-request-id"])
        assert (line["sub"], line["act"]) == ("ana", "pegboard-cli")


class TestCoarseRules:
    pytestmark = pytest.mark.usefixtures("nothing_arrives")

    def test_a_surface_that_was_not_granted_is_refused_in_the_words_of_the_rule(self, edge: Rig) -> None:
        response = edge.call("/mcp/dev/scratch", edge.token("dev/scratch", surface="chat"))
        refusal = refused(edge, response, 403, "surface_not_granted")
        assert refusal["code"] == "access_denied"
        assert refusal["message"] == 'dev/scratch may not be used from chat. Ask platform in #data "platform" 100%.'
        assert refusal["what_to_do"] == 'Ask platform in #data "platform" 100%.'

    def test_a_group_that_was_not_granted_is_refused(self, edge: Rig) -> None:
        response = edge.call(token=edge.token(sub="sam", groups=["search-eng"]))
        refusal = refused(edge, response, 403, "group_not_granted")
        assert refusal["message"].startswith("prod/presto is not granted to any of your groups. Ask platform in")

    @pytest.mark.parametrize(
        "groups", [[], ["ads"], ["ads-eng-2"], ["ADS-ENG"], "ads-eng", ["[ads-eng]"], [["ads-eng"]]]
    )
    def test_only_the_exact_group_in_a_list_counts(self, edge: Rig, groups: Any) -> None:
        response = edge.call(token=edge.token(groups=groups))
        refused(edge, response, 403, "group_not_granted")

    def test_a_persons_groups_do_not_help_a_service(self, edge: Rig) -> None:
        other = f"{ROBOT}-2"
        with edge.service(edge.authority.mint(other)) as client:
            token = edge.service_token(other, groups=["ads-eng"])
            headers = {**dict(_json_headers()), "authorization": f"Bearer {token}"}
            response = client.post("/mcp/prod/presto", headers=headers, content=json.dumps(tool_call()))
        refused(edge, response, 403, "group_not_granted")

    @pytest.mark.parametrize("claims", [{}, {"channel": "general"}, {"channel": ["airflow"]}])
    def test_a_bot_is_held_to_its_channels(self, edge: Rig, claims: dict[str, Any]) -> None:
        response = edge.call(token=edge.token(surface="bot", **claims))
        refused(edge, response, 403, "channel_not_granted")

    def test_each_method_is_held_to_the_rules(self, edge: Rig) -> None:
        authorization = {"authorization": f"Bearer {edge.token(groups=['search-eng'])}"}
        with edge.client() as client:
            for method in ("GET", "DELETE"):
                response = client.request(method, "/mcp/prod/presto", headers=authorization)
                refused(edge, response, 403, "group_not_granted")

    def test_a_refusal_names_the_verified_caller_in_the_log_and_never_the_token(self, edge: Rig) -> None:
        token = edge.token("dev/scratch", surface="chat")
        response = edge.call("/mcp/dev/scratch", token)
        line = edge.logged(response.headers["x-request-id"])
        assert line["server"] == "dev/scratch"
        assert (line["sub"], line["surface"], line["client_id"]) == ("ana", "chat", "pegboard-cli")
        assert (line["mcp_method"], line["tool"]) == ("tools/call", "echo")
        assert (line["status"], line["reason"], line["upstream"]) == (403, "surface_not_granted", "")
        log = edge.home.edge_access_log.read_text()
        assert token not in log
        assert token.split(".")[1] not in log


class TestAgreementWithTheCore:
    def test_the_edge_decides_as_the_core_does(self, edge: Rig) -> None:
        """Every mix of what a token says that decides, on three servers. Two grant the service, one in vain."""
        outcomes = set()
        with edge.client() as people, edge.service(edge.authority.mint(ROBOT)) as services:
            for granted in (PRESTO, SCRATCH, SECRET):
                access = granted.access(edge.public_url, NOTHING_STOPPED, ())
                for surface, channel, groups, sub_type, scope in product(
                    SURFACES,
                    (None, "airflow", "other"),
                    ((), ("ads-eng",), ("search-eng", "x")),
                    ("person", "service"),
                    ("tools", "a tools:read", "toolsx"),
                ):
                    sub, client = ("someone", people) if sub_type == "person" else (ROBOT, services)
                    claims = {"surface": surface, "groups": list(groups), "sub_type": sub_type, "sub": sub}
                    claims["scope"] = scope
                    token = edge.token(granted.server, **claims, **({"channel": channel} if channel else {}))
                    bound = ("c", access.resource_url, 0, "t")
                    caller = Caller(sub, sub_type, groups, surface, *bound, channel=channel, scope=scope)
                    refusal = decide_access(caller, access, "edge").refusal
                    headers = {**dict(_json_headers()), "authorization": f"Bearer {token}"}
                    response = client.post(access.server.path, headers=headers, content=json.dumps(tool_call()))
                    assert response.headers.get("x-pegboard-refused", "") == (refusal.reason if refusal else ""), (
                        claims
                    )
                    assert response.status_code == (403 if refusal else 200)
                    outcomes.add(refusal.reason if refusal else "allowed")
        not_granted = {"surface_not_granted", "channel_not_granted", "group_not_granted"}
        assert outcomes == {"allowed", "insufficient_scope", "sensitive_server", *not_granted}


class TestAddresses:
    pytestmark = pytest.mark.usefixtures("nothing_arrives")

    def test_an_unknown_server_looks_like_a_known_one_to_a_stranger(self, edge: Rig) -> None:
        known, unknown = edge.call(), edge.call("/mcp/prod/nothing")
        refused(edge, unknown, 401, "token_missing")
        assert _without_id(known) == _without_id(unknown)
        assert known.headers["www-authenticate"].replace("presto", "nothing") == unknown.headers["www-authenticate"]

    def test_an_unknown_server_is_unknown_to_a_signed_in_caller(self, edge: Rig) -> None:
        response = edge.call("/mcp/prod/nothing", edge.token())
        assert refused(edge, response, 404, "unknown_server")["code"] == "unknown_server"

    @pytest.mark.parametrize(
        "path",
        [
            "/mcp/dev/../prod/presto",
            "/mcp/dev/%2e%2e/prod/presto",
            "/mcp/prod%2fpresto",
            "/mcp/prod%2Fpresto",
            "//mcp//prod//presto",
            "/mcp/./prod/presto",
            "/mcp/prod\\presto",
            "/x/..%2fmcp/prod/presto",
        ],
    )
    def test_every_spelling_of_a_path_is_the_same_server_with_the_same_rules(self, edge: Rig, path: str) -> None:
        refusal = edge.raw(_post(edge, path, edge.token(groups=["search-eng"])))
        assert b" 403 " in refusal.split(b"\r\n")[0]
        assert b"group_not_granted" in refusal

    @pytest.mark.parametrize(
        "path",
        [
            "/mcp/prod/presto/",
            "/mcp/prod/presto/x",
            "/mcp/prod/presto;x",
            "/mcp/prod/Presto",
            "/mcp/prod/presto%00",
            "/mcp/prod/presto%20",
            "/mcp/prod/presto?x=1",
            "/mcp/prod/presto%252f",
        ],
    )
    def test_what_is_not_exactly_a_servers_path_is_no_server(self, edge: Rig, path: str) -> None:
        answer = edge.raw(_post(edge, path, edge.token()))
        assert answer.split(b" ")[1] in (b"400", b"404"), answer

    def test_a_path_cannot_break_out_of_the_challenge(self, edge: Rig) -> None:
        answer = edge.raw(_post(edge, '/mcp/prod/x",resource_metadata="https://evil.example/', None))
        assert b" 404 " in answer.split(b"\r\n")[0]
        assert b"www-authenticate" not in answer.lower()
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert body["error"]["data"]["code"] == "unknown_server"

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1:{port}", "localhost.evil.example:{port}", "localhost:1"]
    )
    def test_only_the_public_name_is_served(self, edge: Rig, host: str) -> None:
        name = host.format(port=edge.port)
        refused(edge, edge.call(token=edge.token(), host=name), 421, "wrong_host")
        with edge.client() as client:
            response = client.get("/", headers={"host": name})
        assert response.status_code == 421
        assert response.json()["error"]["code"] == "wrong_host"

    def test_nothing_is_tunnelled_or_upgraded(self, edge: Rig) -> None:
        tunnel = edge.raw(b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n")
        assert tunnel.split(b" ")[1][:1] == b"4"
        upgrade = (
            f"GET /mcp/prod/presto HTTP/1.1\r\nHost: localhost:{edge.port}\r\n"
            f"Authorization: Bearer {edge.token()}\r\n"
            "Connection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert edge.raw(upgrade.encode()).split(b" ")[1] == b"400"

    def test_metrics_are_the_hubs_to_give_and_envoys_own_doors_are_shut(self, edge: Rig) -> None:
        with edge.client() as client:
            for path in ("/metrics", "/stats", "/stats/prometheus", "/config_dump"):
                assert client.get(path).json() == {"upstream": "hub"}


class TestAmbiguousRequests:
    pytestmark = pytest.mark.usefixtures("nothing_arrives")

    @pytest.mark.parametrize(
        "body",
        [
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"b"}}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"n\\u0061me":"a","name":"b"}}',
        ],
    )
    def test_duplicate_keys_are_refused(self, edge: Rig, body: str) -> None:
        refused(edge, edge.call(token=edge.token(), body=body), 400, "duplicate_keys")

    @pytest.mark.parametrize(
        "body",
        ['[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', "[]", "hello", "", '{"jsonrpc":', '{"a":1}', '"x"'],
    )
    def test_what_is_not_one_message_is_refused(self, edge: Rig, body: str) -> None:
        response = edge.call(token=edge.token(), body=body or " ")
        refused(edge, response, 400, "not_mcp")

    @pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", "2025-03-26", "1999-01-01", "2099-01-01", None])
    @pytest.mark.parametrize(
        "lie",
        [{"mcp_name": "other"}, {"mcp_method": "tools/list"}, {"mcp_method": "tools/call", "mcp_name": "other"}],
    )
    def test_a_lying_routing_header_is_refused_whatever_version_is_claimed(
        self, edge: Rig, version: str | None, lie: dict[str, str]
    ) -> None:
        truth = {"mcp_method": "tools/call", "mcp_name": "echo"} if version == "2026-07-28" else {}
        headers = {**truth, **lie} | ({"mcp_protocol_version": version} if version else {})
        meta = {"_meta": MODERN_META} if version == "2026-07-28" else {}
        response = edge.call(token=edge.token(), body=tool_call("echo", **meta), **headers)
        refused(edge, response, 400, "header_mismatch", code=-32020)

    def test_a_version_in_the_header_that_the_body_denies_is_refused(self, edge: Rig) -> None:
        meta = {**MODERN_META, "io.modelcontextprotocol/protocolVersion": "2025-11-25"}
        headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "echo"}
        response = edge.call(token=edge.token(), body=tool_call(_meta=meta), **headers)
        refused(edge, response, 400, "header_mismatch", code=-32020)

    def test_a_body_that_is_too_large_is_refused(self, edge: Rig) -> None:
        response = edge.call(token=edge.token(), body=tool_call("x" * 4_300_000))
        refused(edge, response, 413, "request_too_large")

    @pytest.mark.parametrize("depth", [10_000, 1_000_000])
    def test_depth_is_no_weapon(self, edge: Rig, depth: int) -> None:
        body = json.dumps(tool_call()).replace("{}", "[" * depth + "]" * depth)
        refused(edge, edge.call(token=edge.token(), body=body), 400, "not_mcp")

    def test_a_line_break_in_a_claim_does_not_become_a_header(self, edge: Rig) -> None:
        response = edge.call(token=edge.token(sub='x\r\nx-forwarded-groups: ["platform"]'))
        refused(edge, response, 502, "server_gone")

    def test_headers_with_underscores_are_refused(self, edge: Rig) -> None:
        request = _post(edge, "/mcp/prod/presto", edge.token(), "X_Forwarded_User: pat")
        answer = edge.raw(request)
        assert answer.split(b" ")[1] == b"400"
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert body["error"]["layer"] == "edge"
        assert body["error"]["request_id"] == ""  # it was not read, so it has none

    def test_other_methods_are_refused(self, edge: Rig) -> None:
        headers = {"authorization": f"Bearer {edge.token()}", **dict(_json_headers())}
        with edge.client() as client:
            for method in ("PUT", "PATCH", "OPTIONS", "HEAD"):
                response = client.request(method, "/mcp/prod/presto", headers=headers)
                assert response.status_code in (400, 404), (method, response.text)


class TestWhatArrives:
    def test_a_server_sees_the_verified_identity_and_no_other(self, edge: Rig) -> None:
        token = edge.token(groups=["ads-eng", "oncall"])
        lies = [
            ("X-Forwarded-User", "pat"),
            ("x-forwarded-USER", "gus"),
            ("X-FORWARDED-GROUPS", '["platform"]'),
            ("x-forwarded-groups", "platform"),
            ("X-Forwarded-Surface", "chat"),
            ("X-Forwarded-Email", "pat@example.com"),
            ("X-Remote-User", "pat"),
            ("X-Auth-Request-Groups", "platform"),
            ("X-Pegboard-Anything", "1"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Original-URL", "/mcp/dev/scratch"),
            ("X-Request-Id", "chosen-by-the-caller"),
            ("X-Envoy-Original-Path", "/x"),
            ("Cookie", "session=secret"),
        ]
        with edge.client() as client:
            headers = [*_json_headers(), ("authorization", f"Bearer {token}"), *lies]
            response = client.post("/mcp/prod/presto", headers=headers, content=json.dumps(tool_call()))
        assert response.status_code == 200
        arrival = edge.presto.arrivals[-1]
        assert arrival.values("x-forwarded-user") == ["ana"]
        assert [json.loads(value) for value in arrival.values("x-forwarded-groups")] == [["ads-eng", "oncall"]]
        assert arrival.values("x-forwarded-surface") == ["cli"]
        assert arrival.values("authorization") == [f"Bearer {token}"]
        assert arrival.values("x-request-id") == [response.headers["x-request-id"]] != ["chosen-by-the-caller"]
        dropped = {name.lower() for name, _ in lies} - {"x-request-id", "x-forwarded-user"}
        dropped -= {"x-forwarded-groups", "x-forwarded-surface"}
        assert dropped.isdisjoint(name for name, _ in arrival.headers)
        assert "set-cookie" not in response.headers

    def test_the_hub_keeps_its_cookies_and_gets_no_identity(self, edge: Rig) -> None:
        with edge.client() as client:
            response = client.get(
                "/", headers={"cookie": "a=b", "x-forwarded-user": "pat", "X-Forwarded-Groups": "x"}
            )
        assert response.json() == {"upstream": "hub"}
        assert response.headers["set-cookie"] == "stolen=1"
        arrival = edge.hub.arrivals[-1]
        assert arrival.values("cookie") == ["a=b"]
        assert arrival.values("x-forwarded-user") == arrival.values("x-forwarded-groups") == []

    def test_a_modern_call_that_tells_the_truth_passes_byte_for_byte(self, edge: Rig) -> None:
        body = json.dumps(tool_call("echo", _meta=MODERN_META)) + "  "
        headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "echo"}
        response = edge.call(token=edge.token(), body=body, **headers)
        assert response.status_code == 200
        assert edge.presto.arrivals[-1].body == body.encode()
        line = edge.logged(response.headers["x-request-id"])
        assert (line["protocol"], line["tool"], line["details"], line["reason"]) == (
            "2026-07-28",
            "echo",
            "via_upstream",
            "",
        )

    @pytest.mark.parametrize(
        "body",
        [
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}},
            {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}},
            {"jsonrpc": "2.0", "id": "a", "method": "ping"},
        ],
    )
    def test_every_kind_of_legacy_message_passes(self, edge: Rig, body: dict[str, Any]) -> None:
        response = edge.call(token=edge.token(), body=body, mcp_protocol_version="2025-11-25", mcp_session_id="s")
        assert response.status_code == 200
        assert json.loads(edge.presto.arrivals[-1].body) == body

    def test_a_large_body_passes(self, edge: Rig) -> None:
        assert edge.call(token=edge.token(), body=tool_call("x" * 3_900_000)).status_code == 200

    def test_a_bot_passes_in_its_channel(self, edge: Rig) -> None:
        assert edge.call(token=edge.token(surface="bot", channel="airflow")).status_code == 200

    def test_ending_a_legacy_session_passes(self, edge: Rig) -> None:
        with edge.client() as client:
            headers = {"authorization": f"Bearer {edge.token()}", "mcp-session-id": "s"}
            assert client.delete("/mcp/prod/presto", headers=headers).status_code == 200
        assert edge.presto.arrivals[-1].method == "DELETE"

    def test_a_server_that_is_down_is_named_with_its_owner(self, edge: Rig) -> None:
        response = edge.call("/mcp/dev/gone", edge.token("dev/gone"))
        refusal = refused(edge, response, 503, "server_unreachable")
        assert refusal["code"] == "server_unavailable"
        assert "the call did not run" in refusal["message"]
        assert 'Ask platform in #data "platform" 100%.' in refusal["what_to_do"]


def _base64(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _json_headers() -> list[tuple[str, str]]:
    return [("accept", "application/json, text/event-stream"), ("content-type", "application/json")]


def _post(edge: Rig, path: str, token: str | None, *headers: str) -> bytes:
    """A request whose path no client library has tidied up."""
    body = json.dumps(tool_call())
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: localhost:{edge.port}",
        *([f"Authorization: Bearer {token}"] if token else []),
        *(f"{name}: {value}" for name, value in _json_headers()),
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _without_id(response: httpx2.Response) -> Any:
    return json.loads(response.text.replace(response.headers["x-request-id"], ""))
