"""Stops of callers and of tools, refused by Envoy with their reason.

Envoy forgets which rule refused, before it writes the answer, and keeps which one let a request pass. So two filters
let everything pass, under the sentence of the stop that is for it: `revoked` looks at who calls, and `tool_stops` at
what is called. `grants` does the same for the rules of grants (`rules`), and two more for coarse rules (`coarse`).
Behind them `stopped` refuses whatever did not pass all as going. The sentence is text to Envoy and goes into the
answer escaped.

A tool is stopped here only where it is hidden from nobody who reaches its server: the edge cannot tell from whom it
is, and why it is stopped would tell them that it exists. The server itself stops every tool.
"""

from __future__ import annotations

from collections.abc import Iterable

from pegboard.core.access import ServerAccess
from pegboard.core.decide import tool_stop_told
from pegboard_hub.edge.coarse import GENERAL_RULES, SERVER_RULES, UNRULED
from pegboard_hub.edge.envoy import MCP_METADATA, ROUTE_METADATA, Json, exactly, metadata_value, typed
from pegboard_hub.edge.revoked import GOING, REVOKED
from pegboard_hub.edge.rules import GRANTS, HELD, PASSED_AS, RBAC, RBAC_METADATA, policy, rbac

TOOL_STOPS = "tool_stops"
"""Name of the filter that notes the stop of a tool, the last before `STOPPED`: for those who may call at all.

Envoy names a statistic by it, which `admin` reads, so it has no hyphen.
"""

STOPPED = "stopped"
"""Name of the filter that refuses."""

_LAST = f"~{GOING}"
"""Rules are tried in the order of their names, and no tool's begins with a tilde."""


def compile_tool_stops(granted: Iterable[ServerAccess]) -> Json:
    """The filter that notes which stop of a tool is for a call.

    Of a server that is stopped itself none is: its route says so, and that comes first (`core.decide`).
    """
    stops = {
        tool_stop_told(tool, access): policy([_calls(access, tool)])
        for access in granted
        if not access.stopped
        for tool in access.open_tools
        if tool in access.stopped_tools
    }
    return rbac(TOOL_STOPS, {**stops, _LAST: policy()})


def compile_stopped() -> Json:
    """The filter that refuses what a rule does not hold for, or a stop or a coarse rule is for."""
    unruled = [_passed(name, UNRULED) for name in (GENERAL_RULES, SERVER_RULES)]
    going = [_passed(GRANTS, HELD), _passed(REVOKED, GOING), *unruled, _passed(TOOL_STOPS, _LAST)]
    return typed(RBAC, rules={"action": "ALLOW", "policies": {GOING: policy(going)}}, rules_stat_prefix=f"{STOPPED}_")


def _calls(access: ServerAccess, tool: str) -> Json:
    """The body that the MCP filter read calls this tool of this server. That it read another allows nothing."""
    return {
        "and_rules": {
            "rules": [
                _metadata(ROUTE_METADATA, "server", value=str(access.server), source="ROUTE"),
                _metadata(MCP_METADATA, "method", value="tools/call"),
                _metadata(MCP_METADATA, "params", "name", value=tool),
            ]
        }
    }


def _passed(name: str, rule: str) -> Json:
    return _metadata(RBAC_METADATA, f"{name}_{PASSED_AS}", value=rule)


def _metadata(namespace: str, *path: str, value: str, source: str = "DYNAMIC") -> Json:
    matcher = metadata_value(namespace, *path, **exactly(value))
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": source}}
