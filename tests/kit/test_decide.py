"""Deciding without a call: explain and access checks ask before there are arguments."""

from __future__ import annotations

from pegboard.core.access import ServerAccess
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool, decide, decide_tool
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
