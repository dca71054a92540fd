"""Envoy's configuration as a function: what it must hold whatever the registry holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.core.access import RULES, ServerAccess
from pegboard.core.jose import new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.revoked import Revoked
from pegboard.core.token import REASONS
from pegboard_hub.edge.config import render
from pegboard_hub.edge.filters import FOR_SERVERS, REMOVED_PREFIXES
from pegboard_hub.edge.refusals import CASES
from pegboard_hub.edge.refusals import PUBLIC_URL as PLACEHOLDER
from pegboard_hub.edge.revoked import CLAIM_HEADERS
from pegboard_hub.edge.rules import COMPILERS, IN_ROUTES
from pegboard_hub.edge.snapshot import EdgeServer, EdgeSnapshot

PUBLIC_URL = "http://localhost:8400"
KEYS = public_jwks(new_private_key())


def server(number: int = 0, **granted: Any) -> EdgeServer:
    name = ServerName("prod", f"server-{number}")
    known: dict[str, Any] = {
        "owner": "platform",
        "support_channel": "#data-platform",
        "groups": frozenset({"ads-eng", "finance", "data-infra", "platform"}),
        "surfaces": frozenset({"cli", "chat", "ide"}),
    }
    access = ServerAccess(server=name, resource_url=name.resource_url(PUBLIC_URL), **{**known, **granted})
    return EdgeServer(access, Path(f"/home/of/pegboard/run/s/prod.server-{number}/mcp.sock"))


def snapshot(*servers: EdgeServer, **changed: Any) -> EdgeSnapshot:
    known: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "hosts": ("127.0.0.1", "::1"),
        "port": 8400,
        "issuer": PUBLIC_URL,
        "jwks": KEYS,
        "servers": servers,
        "hub_socket": Path("/home/run/hub.sock"),
        "access_log": Path("/home/log/edge-access.log"),
        "admin_socket": Path("/home/run/admin.sock"),
        "folder": Path("/home/edge"),
    }
    return EdgeSnapshot(**{**known, **changed})


def size(documents: dict[str, Any], name: str) -> int:
    return len(json.dumps(documents[name], separators=(",", ":")))


def chain(documents: dict[str, Any]) -> list[str]:
    manager = documents["lds.json"]["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return [http_filter["name"] for http_filter in manager["http_filters"]]


def routes_of(documents: dict[str, Any]) -> dict[str, Any]:
    public = documents["rds.json"]["resources"][0]["virtual_hosts"][0]["matcher"]
    return {
        path: found["action"]["typed_config"]
        for path, found in public["matcher_tree"]["exact_match_map"]["map"].items()
    }


def test_every_rule_of_the_core_is_a_filter_in_the_cores_order_and_then_the_routes_own() -> None:
    assert [*COMPILERS, *IN_ROUTES] == [rule.name for rule in RULES]
    names = list(COMPILERS)
    filters = chain(render(snapshot(server())))
    assert [name for name in filters if name in names] == names
    assert filters.index("jwt") < filters.index("identity") < filters.index("mcp") < filters.index(names[0])
    assert filters[0] == "strip"
    assert filters[-1] == "router"


def test_every_server_passes_every_filter() -> None:
    for route in routes_of(render(snapshot(server(1), server(2)))).values():
        assert "typed_per_filter_config" not in route
    assert set(FOR_SERVERS) == set(chain(render(snapshot()))) - {"strip", "router"}


def test_a_rule_without_grants_allows_nobody() -> None:
    documents = render(snapshot(server(groups=frozenset())))
    assert documents["ecds-group.json"]["resources"][0]["typed_config"]["rules"]["policies"] == {}


def test_the_listener_and_the_filters_do_not_grow_with_servers() -> None:
    ten, many = (render(snapshot(*map(server, range(count)))) for count in (10, 10_000))
    for name in ten.keys() - {"cds.json", "rds.json"}:
        assert ten[name] == many[name], name


def test_a_server_costs_few_bytes_of_routes() -> None:
    ten, hundred = (render(snapshot(*map(server, range(count)))) for count in (10, 100))
    assert (size(hundred, "rds.json") - size(ten, "rds.json")) / 90 <= 470


def test_changing_who_may_use_a_server_changes_routes_alone() -> None:
    before = render(snapshot(server(1), server(2)))
    after = render(snapshot(server(1, groups=frozenset({"finance"}), surfaces=frozenset({"cli"})), server(2)))
    assert {name for name in before if before[name] != after[name]} == {"rds.json"}


def test_a_name_that_was_never_granted_before_touches_its_rule_and_the_routes() -> None:
    before = render(snapshot(server(1)))
    after = render(snapshot(server(1, groups=frozenset({"new-team"}))))
    assert {name for name in before if before[name] != after[name]} == {"rds.json", "ecds-group.json"}


def test_a_new_signing_key_touches_one_filter() -> None:
    before, after = render(snapshot(server())), render(snapshot(server(), jwks=public_jwks(new_private_key())))
    assert {name for name in before if before[name] != after[name]} == {"ecds-jwt.json"}


def test_expired_grants_leave_no_way_to_a_server() -> None:
    for route in routes_of(render(snapshot(server(1), server(2), expired=True))).values():
        assert route["direct_response"] == {"status": 599}
        assert "route" not in route
        assert "jwt" not in route["typed_per_filter_config"]


@given(owner=st.text(max_size=60), channel=st.text(max_size=60))
def test_a_servers_text_stays_in_its_routes_facts(owner: str, channel: str) -> None:
    plain, documents = render(snapshot(server())), render(snapshot(server(owner=owner, support_channel=channel)))
    assert {name for name in plain if plain[name] != documents[name]} <= {"rds.json"}
    (route,) = routes_of(json.loads(json.dumps(documents))).values()
    facts = route["metadata"]["filter_metadata"]["pegboard"]
    assert (facts["owner"], facts["support"]) == (owner, channel)
    facts.update(owner="platform", support="#data-platform")
    assert route == next(iter(routes_of(plain).values()))


def test_the_access_log_names_no_header_that_carries_a_secret() -> None:
    text = json.dumps(render(snapshot(server()))["lds.json"])
    log = text[text.index('"log_format"') :]
    log = log[: log.index("}}")].lower()
    assert "authorization" not in log
    assert "cookie" not in log


def test_refusals_use_the_words_of_the_core() -> None:
    tokens = {case.refusal.reason for case in CASES if case.refusal.code == "unauthenticated"}
    assert tokens <= REASONS.keys()
    rules = {case.refusal.reason for case in CASES if case.refusal.code == "access_denied"}
    assert rules == {rule.refused for rule in RULES if rule.code == "access_denied"} - {"token_wrong_audience"}
    assert {case.refusal.layer for case in CASES} == {"edge"}


def test_who_comes_by_another_name_is_told_the_right_one() -> None:
    rendered = json.dumps(render(snapshot(public_url="https://pegboard.example.com")))
    assert "Use Pegboard's own address: https://pegboard.example.com\"" in rendered
    assert PLACEHOLDER not in rendered


def test_only_where_another_token_would_do_does_a_refusal_carry_a_challenge() -> None:
    for case in CASES:
        assert (case.status == 401) == (case.refusal.code == "unauthenticated")
        assert (case.challenge is not None) == (case.refusal.code in ("unauthenticated", "insufficient_scope"))


def test_what_is_revoked_touches_one_filter_right_behind_the_verification() -> None:
    before = render(snapshot(server()))
    revoked = Revoked(frozenset({"s"}), frozenset({"t"}), frozenset({"https://client.example/metadata.json"}))
    after = render(snapshot(server(), revoked=revoked))
    assert {name for name in before if before[name] != after[name]} == {"ecds-revoked.json"}
    filters = chain(after)
    assert filters.index("revoked") == filters.index("jwt") + 1
    assert all(header.startswith(REMOVED_PREFIXES) for header in CLAIM_HEADERS.values())


@pytest.mark.parametrize(
    ("public_url", "names"),
    [
        ("http://localhost:8400", ("localhost", "localhost:8400")),
        ("https://pegboard.example.com", ("pegboard.example.com", "pegboard.example.com:443")),
        ("http://[::1]:8400", ("[::1]", "[::1]:8400")),
    ],
)
def test_the_public_host_is_served_with_and_without_its_port(public_url: str, names: tuple[str, str]) -> None:
    assert snapshot(public_url=public_url).host_names == names


def test_envoys_administration_is_on_no_network() -> None:
    admin = render(snapshot())["bootstrap.json"]["admin"]
    assert admin["address"].keys() == {"pipe"}
    assert admin["address"]["pipe"]["mode"] == 0o600


def test_several_hubs_share_a_cluster_and_only_what_was_never_sent_is_written_again() -> None:
    second = Path("/home/run/hub-2.sock")
    documents = render(snapshot(more_hubs=(second,)))
    [hub] = [each for each in documents["cds.json"]["resources"] if each["name"] == "hub"]
    [found] = hub["load_assignment"]["endpoints"]
    sockets = [each["endpoint"]["address"]["pipe"]["path"] for each in found["lb_endpoints"]]
    assert sockets == ["/home/run/hub.sock", str(second)]
    assert hub["health_checks"][0]["http_health_check"]["path"] == "/healthz"
    public = documents["rds.json"]["resources"][0]["virtual_hosts"][0]["matcher"]
    way = public["on_no_match"]["matcher"]
    reads = {
        each["predicate"]["single_predicate"]["value_match"]["exact"]: retried(each["on_match"])
        for each in way["matcher_list"]["matchers"]
    }
    again = {"connect-failure", "refused-stream", "reset"}
    assert reads == {"GET": again, "HEAD": again}
    assert retried(way["on_no_match"]) == {"connect-failure", "refused-stream", "reset-before-request"}


def test_one_hub_is_asked_once() -> None:
    documents = render(snapshot())
    assert "health_checks" not in json.dumps(documents["cds.json"])
    assert "retry" not in json.dumps(documents["rds.json"])


def retried(on_match: dict[str, Any]) -> set[str]:
    """When a route's request is tried again."""
    return set(on_match["action"]["typed_config"]["route"]["retry_policy"]["retry_on"].split(","))
