"""Deciding without a call: explain and access checks ask before there are arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pegboard.core.access import ServerAccess
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool, decide, decide_tool
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy
from tests.kit.conftest import POLICIES

DESK = ServerName("dev", "desk")
URL = "http://pegboard.test/mcp/dev/desk"
ACCESS = ServerAccess(DESK, "platform", "#desk", URL, frozenset({"ads-eng"}), frozenset({"cli"}))
ANA = Caller("ana", "person", ("ads-eng",), "cli", "pegboard-cli", URL, 0, "t", scope="tools")
LIST_ONLY = 'permit (principal, action == Action::"list", resource);'
TOOLS = {
    "order": GovernedTool("order", Policy("small-orders", POLICIES["small-orders"])),
    "look": GovernedTool("look", Policy("look", LIST_ONLY)),
}


def test_without_arguments_an_explanation_says_what_it_depends_on() -> None:
    decision = decide(ANA, ACCESS, TOOLS, "order")
    assert decision.allowed
    assert decision.checks[-1].fact == "depends on the argument amount of the call"
    assert decide_tool(ANA, ACCESS, TOOLS, "order", "call", {"amount": 1}).allowed
    assert not decide_tool(ANA, ACCESS, TOOLS, "order", "call", {}).allowed


def test_tool_that_may_be_seen_and_never_called_says_so_without_blaming_arguments() -> None:
    refusal = decide(ANA, ACCESS, TOOLS, "look").refusal
    assert refusal is not None
    assert refusal.message == "You may see look, but not call it. Ask platform in #desk."


def test_each_rule_names_its_own_source() -> None:
    sources = {check.rule: check.source for check in decide(ANA, ACCESS, TOOLS, "order").checks}
    assert sources["audience"] == "what the token says"
    assert sources["group"] == "the operator's grants"
    assert sources["policy:list"].startswith("policies/small-orders.cedar, version ")


ROBOT = "spiffe://example.org/report"
SERVED = replace(ACCESS, surfaces=frozenset({"cli", "service"}), services=frozenset({ROBOT}), sensitivity="internal")
SERVICE = Caller(ROBOT, "service", (), "service", ROBOT, URL, 0, "t", scope="tools:read")
EVERYBODY = Policy("everybody", "permit (principal, action, resource);")
SERVED_TOOLS = {"read": GovernedTool("read", EVERYBODY, read_only=True), "write": GovernedTool("write", EVERYBODY)}


def _reason(caller: Caller, access: ServerAccess, tool: str = "read") -> str:
    refusal = decide(caller, access, SERVED_TOOLS, tool).refusal
    return refusal.reason if refusal else ""


def test_a_service_calls_what_only_reads_and_is_granted_to_it() -> None:
    assert _reason(SERVICE, SERVED) == ""
    assert _reason(replace(SERVICE, sub="spiffe://example.org/other"), SERVED) == "group_not_granted"


@pytest.mark.parametrize("scope", ["tools", "tools:read"])
def test_a_tool_that_may_write_is_no_tool_for_a_service(scope: str) -> None:
    caller = replace(SERVICE, scope=scope)
    assert _reason(caller, SERVED, "write") == "tool_unavailable"
    assert _reason(caller, SERVED, "write") == _reason(caller, SERVED, "nothing")
    assert not decide_tool(caller, SERVED, SERVED_TOOLS, "write", "list").allowed


@pytest.mark.parametrize("sensitivity", ["public", "internal", "confidential", "restricted"])
def test_no_service_reaches_sensitive_data_and_people_do(sensitivity: Sensitivity) -> None:
    access = replace(SERVED, sensitivity=sensitivity)
    assert _reason(SERVICE, access) == ("" if sensitivity in ("public", "internal") else "sensitive_server")
    assert _reason(ANA, access) == ""


def test_a_service_has_a_surface_of_its_own_and_nobody_else_has_it() -> None:
    assert _reason(replace(SERVICE, surface="cli"), SERVED) == "surface_not_granted"
    assert _reason(replace(ANA, surface="service"), SERVED) == "surface_not_granted"


_CLAIMS = {"sub": ROBOT, "sub_type": "service", "groups": [], "surface": "service", "client_id": ROBOT} | {
    "aud": URL,
    "exp": 1,
    "jti": "t",
    "scope": "tools:read",
}


@pytest.mark.parametrize(
    "lie",
    [
        {"groups": ["ads-eng"]},
        {"sid": "s"},
        {"channel": "c"},
        *({"sub": sub} for sub in ("ana", "spiffe://example.org", "spiffe://example.org/../a", "spiffe://A.org/a")),
    ],
)
def test_claims_of_a_service_are_a_spiffe_id_and_no_more(lie: dict[str, Any]) -> None:
    assert Caller.from_claims(_CLAIMS).sub == ROBOT
    with pytest.raises(ValueError, match="service"):
        Caller.from_claims(_CLAIMS | lie)


@pytest.mark.parametrize("scope", ["tools", "tools:read"])
def test_a_stopped_tool_is_refused_as_that_whatever_the_token_may_do(scope: str) -> None:
    stopped = replace(SERVED, stopped_tools={"write": "it counts twice"})
    for access, layer in ((stopped, "server"), (replace(stopped, open_tools=("write",)), "edge")):
        refusal = decide(replace(ANA, scope=scope), access, SERVED_TOOLS, "write").refusal
        assert refusal is not None
        assert (refusal.reason, refusal.layer) == ("tool_stopped", layer)


def test_a_service_does_not_learn_of_a_stop_that_there_is_a_tool_which_writes() -> None:
    stopped = replace(SERVED, stopped_tools={"write": "it counts twice"})
    assert _reason(SERVICE, stopped, "write") == _reason(SERVICE, stopped, "no_such_tool") == "tool_unavailable"
