"""Envoy's configuration as a function: what it must hold whatever the registry holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pegboard.core.access import RULES, ServerAccess
from pegboard.core.jose import new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.rates import Limits, LimitsSection, RateLimit, ServerLimit
from pegboard.core.revoked import Revoked
from pegboard.core.stops import NOTHING_STOPPED
from pegboard.core.token import REASONS
from pegboard_hub.edge.config import render
from pegboard_hub.edge.filters import FOR_SERVERS, REMOVED_PREFIXES
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.rates import RATE_NAMES, STATUS
from pegboard_hub.edge.refusals import CASES
from pegboard_hub.edge.refusals import PUBLIC_URL as PLACEHOLDER
from pegboard_hub.edge.revoked import CLAIM_HEADERS
from pegboard_hub.edge.rules import AUDIENCE, COMPILERS, GRANTS, HELD, IN_ROUTES, NOTED, OF_CALLERS, not_held
from pegboard_hub.edge.snapshot import EdgeServer, EdgeSnapshot, ServicesDoor
from pegboard_hub.edge.stops import STOPPED

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
        "revoked": Revoked(),
        "stops": NOTHING_STOPPED,
        "rules": (),
        "limits": Limits(),
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


def test_every_rule_of_the_core_is_decided_in_the_cores_order_and_then_the_routes_own() -> None:
    assert [*COMPILERS, *OF_CALLERS, *NOTED, *IN_ROUTES] == [rule.name for rule in RULES]
    filters = chain(render(snapshot(server())))
    assert filters.index("jwt") < filters.index("identity") < filters.index("mcp") < filters.index(GRANTS)
    assert filters.index(GRANTS) < filters.index(STOPPED)
    assert filters[0] == "strip"
    assert filters[-1] == "router"


def grants(documents: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = documents[f"ecds-{GRANTS}.json"]["resources"][0]["typed_config"]["rules"]["policies"]
    return found


def test_one_policy_alone_says_that_every_rule_holds_and_it_is_tried_first() -> None:
    """Envoy tries policies in the order of their names, and the request passes as the first that allows it."""
    policies = grants(render(snapshot(server())))
    assert sorted(policies) == [HELD, *(not_held(name) for name in COMPILERS if name != AUDIENCE), not_held(AUDIENCE)]
    (held,) = policies[HELD]["permissions"]
    rules = held["and_rules"]["rules"]
    assert len(rules) == len(COMPILERS) - 1
    assert "condition" in policies[HELD]
    for name, rule in zip((name for name in COMPILERS if name != AUDIENCE), rules, strict=True):
        assert policies[not_held(name)]["permissions"] == [{"and_rules": {"rules": [{"not_rule": rule}]}}]


def test_every_server_passes_every_filter() -> None:
    for route in routes_of(render(snapshot(server(1), server(2)))).values():
        assert "typed_per_filter_config" not in route
    assert set(FOR_SERVERS) == set(chain(render(snapshot()))) - {"strip", "retry-after", "rate_address", "router"}


def test_a_rule_without_grants_allows_nobody() -> None:
    policies = grants(render(snapshot(server(groups=frozenset()))))
    nobody = {"not_rule": {"any": True}}
    assert nobody in policies[HELD]["permissions"][0]["and_rules"]["rules"]
    assert policies[not_held("group")]["permissions"] == [{"and_rules": {"rules": [{"not_rule": nobody}]}}]


def test_the_listener_and_the_filters_do_not_grow_with_servers() -> None:
    ten, many = (render(snapshot(*map(server, range(count)))) for count in (10, 10_000))
    for name in ten.keys() - {"cds.json", "rds.json"}:
        assert ten[name] == many[name], name


def test_a_server_costs_few_bytes_of_routes() -> None:
    ten, hundred = (render(snapshot(*map(server, range(count)))) for count in (10, 100))
    assert (size(hundred, "rds.json") - size(ten, "rds.json")) / 90 <= 500


def test_changing_who_may_use_a_server_changes_routes_alone() -> None:
    before = render(snapshot(server(1), server(2)))
    after = render(snapshot(server(1, groups=frozenset({"finance"}), surfaces=frozenset({"cli"})), server(2)))
    assert {name for name in before if before[name] != after[name]} == {"rds.json"}


def test_a_name_that_was_never_granted_before_touches_its_rule_and_the_routes() -> None:
    before = render(snapshot(server(1)))
    after = render(snapshot(server(1, groups=frozenset({"new-team"}))))
    assert {name for name in before if before[name] != after[name]} == {"rds.json", "ecds-grants.json"}


def test_a_new_signing_key_touches_one_filter() -> None:
    before, after = render(snapshot(server())), render(snapshot(server(), jwks=public_jwks(new_private_key())))
    assert {name for name in before if before[name] != after[name]} == {"ecds-jwt.json"}


def test_expired_grants_leave_no_way_to_a_server() -> None:
    for route in routes_of(render(snapshot(server(1), server(2), expired=True))).values():
        assert route["direct_response"] == {"status": 599}
        assert "route" not in route
        assert "jwt" not in route["typed_per_filter_config"]


@settings(deadline=None)
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
    of_core = {rule.refused for rule in RULES if rule.code == "access_denied"} - {"token_wrong_audience"}
    assert rules == of_core | {"wrong_door"}
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


def test_a_rate_touches_the_filter_of_its_kind_alone() -> None:
    before = render(snapshot(server()))
    for per, name in RATE_NAMES.items():
        after = render(snapshot(server(), limits=Limits(rates=(RateLimit(per=per, requests=5),))))
        assert {name for name in before if before[name] != after[name]} == {f"ecds-{name}.json"}


def test_without_rates_no_filter_counts() -> None:
    documents = render(snapshot(server()))
    for name in RATE_NAMES.values():
        assert "filter_enabled" not in documents[f"ecds-{name}.json"]["resources"][0]["typed_config"]


def test_rates_stand_where_nobody_can_use_up_what_is_anothers() -> None:
    filters = chain(render(snapshot(server(), limits=LimitsSection().compiled())))
    place = {per: filters.index(name) for per, name in RATE_NAMES.items()}
    assert filters.index("retry-after") < place["address"] < filters.index("jwt")
    assert filters.index("revoked") < filters.index("identity") < place["person"] < filters.index("mcp")
    assert filters.index(GRANTS) < filters.index(STOPPED) < min(place["surface"], place["server"])


def test_what_a_rate_counts_by_is_verified_and_not_what_a_caller_wrote() -> None:
    for per, name in RATE_NAMES.items():
        limits = Limits(rates=(RateLimit(per=per, requests=5),))
        found = render(snapshot(limits=limits))[f"ecds-{name}.json"]["resources"][0]["typed_config"]
        for actions in (each["actions"] for each in found["rate_limits"]):
            assert "request_headers" not in json.dumps(actions)
            assert actions[-1].keys() <= {"metadata", "masked_remote_address"}


def test_each_kind_of_rate_is_told_apart_and_answered_with_429() -> None:
    cases = {case.refusal.reason: case for case in CASES if case.refusal.code == "rate_limited"}
    assert cases.keys() == {f"{per}_rate" for per in STATUS}
    assert {case.status for case in cases.values()} == {429}
    assert len(set(STATUS.values())) == len(STATUS)


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


def test_one_hub_and_a_server_are_asked_again_only_if_nothing_was_sent() -> None:
    documents = render(snapshot(server()))
    assert "health_checks" not in json.dumps(documents["cds.json"])
    found = json.dumps(documents["rds.json"]).count('"retry_on"')
    public = documents["rds.json"]["resources"][0]["virtual_hosts"][0]
    assert (found, public["retry_policy"]["retry_on"]) == (1, "connect-failure,reset-before-request")


def test_a_limit_of_one_server_touches_its_cluster_and_its_route_alone() -> None:
    before = render(snapshot(server(1), server(2)))
    given = {"prod/server-1": ServerLimit(calls=7), "prod/server-2": ServerLimit(timeout_s=1.5)}
    after = render(snapshot(server(1), server(2), limits=Limits(servers=given)))
    assert {name for name in before if before[name] != after[name]} == {"cds.json", "rds.json"}
    changed = [
        new
        for old, new in zip(*(each["cds.json"]["resources"] for each in (before, after)), strict=True)
        if old != new
    ]
    assert [(each["name"], each["circuit_breakers"]["thresholds"][0]["max_requests"]) for each in changed] == [
        ("mcp/prod/server-1", 7)
    ]
    public = after["rds.json"]["resources"][0]["virtual_hosts"][0]["matcher"]["matcher_tree"]["exact_match_map"][
        "map"
    ]
    assert public["/mcp/prod/server-1"]["action"]["typed_config"]["route"]["timeout"] == "0s"
    timed = public["/mcp/prod/server-2"]["matcher"]
    assert timed["on_no_match"]["action"]["typed_config"]["route"]["timeout"] == "1.5s"
    [stream] = timed["matcher_list"]["matchers"]
    assert stream["predicate"]["single_predicate"]["value_match"] == {"exact": "GET"}
    assert stream["on_match"]["action"]["typed_config"]["route"]["timeout"] == "0s"


def retried(on_match: dict[str, Any]) -> set[str]:
    """When a route's request is tried again."""
    return set(on_match["action"]["typed_config"]["route"]["retry_policy"]["retry_on"].split(","))


def test_the_listener_for_services_is_there_where_services_may_call_and_leaves_the_public_one_as_it_is() -> None:
    door = ServicesDoor(8443, Identity(Path("/home/edge/sds-edge.json"), Path("/home/edge/sds-trust.json")))
    without, together = render(snapshot(server())), render(snapshot(server(), services=door))
    assert without.keys() | {"rds-services.json"} == together.keys()
    (public,), (same, services) = (each["lds.json"]["resources"] for each in (without, together))
    assert public == same
    socket = services["filter_chains"][0]["transport_socket"]["typed_config"]
    assert socket["require_client_certificate"]
    assert socket["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_2"
    manager = services["filter_chains"][0]["filters"][0]["typed_config"]
    assert [each["name"] for each in manager["http_filters"]] == chain(without)


def test_the_listener_for_services_is_as_strict_and_as_patient_as_the_public_one() -> None:
    door = ServicesDoor(8443, Identity(Path("/s"), Path("/t")))
    listeners = render(snapshot(server(), services=door))["lds.json"]["resources"]
    public, services = (each["filter_chains"][0]["filters"][0]["typed_config"] for each in listeners)
    duration = services["common_http_protocol_options"].pop("max_connection_duration")
    assert duration == "600s"
    differing = {key for key in public.keys() | services.keys() if public.get(key) != services.get(key)}
    assert differing == {"stat_prefix", "rds", "http_filters", "access_log", "http1_safe_max_connection_duration"}
    differing = {
        one["name"]
        for one, other in zip(public["http_filters"], services["http_filters"], strict=True)
        if one != other
    }
    assert differing == {"identity", "door"}
    both = [each["filter_chains"][0]["transport_socket_connect_timeout"] for each in listeners]
    assert len(set(both)) == 1


def test_a_servers_way_is_the_same_for_people_and_services() -> None:
    door, limits = (
        ServicesDoor(8443, Identity(Path("/s"), Path("/t"))),
        Limits(servers={"prod/server-0": ServerLimit(timeout_s=5)}),
    )
    documents = render(snapshot(server(), server(1), services=door, limits=limits))
    (public,), (services,) = (documents[name]["resources"] for name in ("rds.json", "rds-services.json"))
    hosts = [each["virtual_hosts"][0] for each in (public, services)]
    assert hosts[0]["retry_policy"] == hosts[1]["retry_policy"]
    people, robots = (host["matcher"]["matcher_tree"]["exact_match_map"]["map"] for host in hosts)
    assert people.items() <= robots.items()


def test_the_listener_for_services_has_one_path_of_the_hubs() -> None:
    door = ServicesDoor(8443, Identity(Path("/s"), Path("/t")))
    (routes,) = render(snapshot(server(), services=door))["rds-services.json"]["resources"]
    known, foreign = routes["virtual_hosts"]
    assert known["domains"] == ["localhost", "localhost:8443"]
    assert foreign["domains"] == ["*"]
    text = json.dumps(known)
    assert text.count('"cluster": "hub"') == 1
    assert set(known["matcher"]["matcher_tree"]["exact_match_map"]["map"]) == {"/mcp/prod/server-0", "/oauth/token"}
