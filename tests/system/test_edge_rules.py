"""Coarse rules at the real Envoy: each refuses what it is about, in the core's words, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from pegboard.core.access import decide_access, decide_method
from pegboard.core.caller import Caller
from pegboard.core.coarse import CoarseRule, read_rules
from pegboard.core.rates import Limits
from pegboard.core.stops import Stops
from tests.system.edge_rig import PRESTO, ROBOT, SCRATCH, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system

WHY = 'grün "100 %" {falsch} <b>%REQ(authorization)%</b> \\ gerechnet'


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_edge(services=True) as found:
        yield found


def rule(name: str = "no-chat", **about: Any) -> CoarseRule:
    return CoarseRule(**{"name": name, "effect": "deny", "why": WHY, "ask": "security in #sec", **about})


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "surface": ({"surfaces": ["chat", "ide"]}, {"surface": "chat"}, {"surface": "cli"}),
    "group": ({"groups": ["finance"]}, {"groups": ["finance", "ads-eng"]}, {"groups": ["ads-eng"]}),
    "all but a group": ({"except_groups": ["finance"]}, {"groups": ["ads-eng"]}, {"groups": ["finance"]}),
    "namespace": ({"namespaces": ["prod"]}, {}, {"server": "dev/scratch"}),
    "server": ({"servers": ["prod/presto"]}, {}, {"server": "dev/scratch"}),
    "namespace and server": (
        {"namespaces": ["stage"], "servers": ["prod/presto"]},
        {},
        {"server": "dev/scratch"},
    ),
    "method": ({"methods": ["tools/call", "ping"]}, {}, {"method": "tools/list"}),
    "method of a server": ({"methods": ["tools/list"], "servers": ["prod/presto"]}, {"method": "tools/list"}, {}),
    "all of it": (
        {
            "surfaces": ["chat"],
            "servers": ["prod/presto"],
            "methods": ["tools/call"],
            "groups": ["finance"],
            "except_groups": ["platform"],
        },
        {"surface": "chat", "groups": ["finance"]},
        {"surface": "chat", "groups": ["finance", "platform"]},
    ),
}
"""What a rule is about, one call that it refuses, and one that it leaves alone."""


def call(edge: Rig, server: str = "prod/presto", method: str = "tools/call", **claims: Any) -> httpx2.Response:
    return edge.call(f"/mcp/{server}", edge.token(server, **claims), tool_call(method=method))


def publish(edge: Rig, *rules: CoarseRule, **more: Any) -> None:
    general = tuple(rule for rule in rules if rule.general)
    own = tuple(rule for rule in rules if not rule.general)
    edge.publish(PRESTO.model_copy(update={"rules": own}), SCRATCH, rules=general, **more)


def refused(edge: Rig, **about: Any) -> dict[str, Any]:
    response = until(lambda: (r := call(edge, **about)).status_code == 403 and r, "the rule refuses")
    return dict(response.json()["error"]["data"])


def open_again(edge: Rig) -> None:
    publish(edge)
    edge.everywhere(lambda: call(edge).status_code == 200, "no rule refuses")


@pytest.mark.parametrize("case", CASES)
def test_a_rule_refuses_what_it_is_about_in_the_cores_words_and_nothing_else(rig: Rig, case: str) -> None:
    about, hit, spared = CASES[case]
    publish(rig)
    for claims in (hit, spared):
        rig.everywhere(lambda claims=claims: call(rig, **claims).status_code == 200, "no rule refuses")  # type: ignore[misc]
    listener = (rig.home.edge / "lds.json").read_text()
    publish(rig, one := rule(**about))
    found = refused(rig, **hit)
    method = hit.get("method", "tools/call")
    sentence = one.told_of(method) if one.methods else one.told
    mend = "Ask those whom the rule names, and say which rule it was."
    assert found["message"] == f"{sentence}. {mend}"
    assert (found["code"], found["reason"], found["layer"]) == ("rule_denied", "rule_denied", "edge")
    assert found["what_to_do"] == mend
    assert call(rig, **spared).status_code == 200
    assert (rig.home.edge / "lds.json").read_text() == listener


def test_of_several_rules_edge_and_core_tell_the_same(rig: Rig) -> None:
    rules = [
        rule("b-method", methods=["tools/call"], surfaces=["cli"]),
        rule("c-server", servers=["prod/presto"], groups=["finance"]),
        rule("a-method", methods=["tools/call", "tools/list"], servers=["prod/presto"]),
        rule("z-general", surfaces=["chat"]),
        rule("m-general", namespaces=["prod"], groups=["data-infra"]),
    ]
    people = [
        {"surface": surface, "groups": groups}
        for surface in ("cli", "chat", "ide")
        for groups in (["ads-eng"], ["finance"], ["finance", "data-infra"])
    ]
    stops = ({}, {"stopped": "moved"})
    for stopped in stops:
        presto = PRESTO.model_copy(update={"rules": tuple(r for r in rules if not r.general), **stopped})
        general = tuple(r for r in rules if r.general)
        rig.publish(presto, SCRATCH, rules=general, stops=Stops(surfaces={"ide": "closed"}))
        access = presto.access(rig.public_url, Stops(surfaces={"ide": "closed"}), general)
        wanted = "server_stopped" if stopped else "rule_denied"
        rig.everywhere(
            lambda wanted=wanted: call(rig).json().get("error", {}).get("data", {}).get("reason") == wanted,
            "the world is in force",
        )
        for claims in people:
            for method in ("tools/call", "tools/list", "ping"):
                caller = Caller(
                    sub="ana",
                    sub_type="person",
                    groups=tuple(claims["groups"]),
                    surface=str(claims["surface"]),
                    client_id="pegboard-cli",
                    audience=access.resource_url,
                    expires_at=0,
                    token_id="",
                    scope="tools",
                )
                said = decide_access(caller, access, "edge").refusal
                said = said or decide_method(caller, access, method, "edge").refusal
                response = call(rig, method=method, **claims)
                answer = response.json().get("error", {}).get("data")
                found = {k: v for k, v in answer.items() if k != "request_id"} if answer else None
                expected = {k: v for k, v in said.as_json().items() if k != "request_id"} if said else None
                assert found == expected, (claims, method, stopped)


def test_a_rule_tells_nothing_to_whom_the_grant_refuses(rig: Rig) -> None:
    open_again(rig)
    publish(rig, rule(servers=["prod/presto"], why="the merger"))
    refused(rig)
    strangers: list[tuple[dict[str, Any], str]] = [
        ({"groups": ["search-eng"]}, "group_not_granted"),
        ({"surface": "web"}, "surface_not_granted"),
    ]
    for claims, reason in strangers:
        response = call(rig, **claims)
        assert response.json()["error"]["data"]["reason"] == reason
        assert "merger" not in response.text


def test_a_service_is_refused_by_a_rule_for_its_surface_on_its_own_listener(rig: Rig) -> None:
    open_again(rig)

    def ask() -> httpx2.Response:
        headers = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {rig.service_token(ROBOT)}",
        }
        with rig.service(rig.authority.mint(ROBOT)) as client:
            return client.post("/mcp/prod/presto", headers=headers, json=tool_call())

    assert ask().status_code == 200
    publish(rig, rule(surfaces=["service"]))
    until(lambda: ask().status_code == 403, "the rule refuses services")
    assert call(rig).status_code == 200


def test_a_legacy_stream_is_refused_by_a_rule_of_its_server_and_not_by_one_of_a_method(rig: Rig) -> None:
    open_again(rig)

    def stream() -> int:
        headers = {"authorization": f"Bearer {rig.token()}", "accept": "text/event-stream"}
        with rig.client() as client, client.stream("GET", "/mcp/prod/presto", headers=headers) as response:
            return response.status_code

    publish(rig, rule(methods=["tools/call"]))
    refused(rig)
    assert stream() == 200
    publish(rig, rule(servers=["prod/presto"]))
    until(lambda: stream() == 403, "the rule refuses the stream")


def test_limits_of_rules_count_whom_they_name_alone(rig: Rig) -> None:
    file = """
    [rules.few]
    effect = "limit"
    requests = 3
    seconds = 3600
    groups = ["finance"]
    except_groups = ["platform"]
    servers = ["prod/presto"]
    why = "a"
    ask = "b"
    """
    open_again(rig)
    rig.publish(PRESTO, SCRATCH, limits=Limits(rates=read_rules(file, "rules.toml").limits))
    assert until(lambda: call(rig, sub="cy", groups=["finance"]).status_code == 429, "the limit refuses")
    for claims in (
        {"sub": "cy", "groups": ["ads-eng"]},
        {"sub": "cy", "groups": ["finance", "platform"]},
        {"sub": "cy", "groups": ["finance"], "server": "dev/scratch"},
    ):
        assert call(rig, **claims).status_code == 200
