"""Coarse rules (`pegboard.core.coarse`), compiled to Envoy: two filters that note which rule refuses a request.

| filter         | holds                                                | stands in                     |
|----------------|------------------------------------------------------|-------------------------------|
| `rules`        | rules that are about more than servers they name     | a file of its own             |
| `server_rules` | rules that name servers, each in its servers' routes | the route, which overrides it |

So a call looks at the general rules and at its own server's, however many rules there are, and a change drains no
stream. Both let everything pass, under the sentence of the rule that refuses it: Envoy keeps that name, and the
filter `stopped` refuses by it (`edge/stops.py`). Names are tried in the order of their letters, which is the core's.

A rule of single methods looks at what the MCP filter read. It leaves a server that is stopped alone, whose own answer
comes first in the core's order as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from pegboard.core.coarse import CoarseRule
from pegboard_hub.edge.envoy import (
    MCP_METADATA,
    ROUTE_METADATA,
    Json,
    contains,
    exactly,
    metadata_value,
    typed,
)
from pegboard_hub.edge.rules import claims, policy, rbac

GENERAL_RULES = "rules"
SERVER_RULES = "server_rules"
"""Names of the filters. Envoy names statistics by them, which `admin` reads, so they have no hyphen."""

UNRULED = "~none"
"""What a request passes as that no rule refuses. No rule's sentence begins with a tilde."""

PER_ROUTE = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"


def compile_general(rules: Iterable[CoarseRule]) -> Json:
    """The filter of the general rules."""
    return rbac(GENERAL_RULES, {**_noted(rules, stopped=None), UNRULED: policy()})


def compile_no_server() -> Json:
    """The filter of servers' own rules, for a server that has none."""
    return rbac(SERVER_RULES, {UNRULED: policy()})


def of_route(rules: Iterable[CoarseRule], *, stopped: bool) -> Json:
    """`typed_per_filter_config` of the route of a server that rules name; empty for one that none names."""
    noted = _noted(rules, stopped=stopped)
    if not noted:
        return {}
    return {SERVER_RULES: typed(PER_ROUTE, rbac=_untyped(rbac(SERVER_RULES, {**noted, UNRULED: policy()})))}


def _untyped(message: Json) -> Json:
    return {key: value for key, value in message.items() if key != "@type"}


def _noted(rules: Iterable[CoarseRule], *, stopped: bool | None) -> Json:
    """The policies by the sentences that they note. `stopped`: of the route's server; None where it is not known."""
    policies: Json = {}
    for rule in rules:
        what, who = _where(rule), _whose(rule)
        if not rule.methods:
            policies[rule.told] = policy(what, who)
        elif not stopped:
            still = [_not_stopped()] if stopped is None else []
            policies |= {
                rule.told_of(method): policy([*what, *still, _method(method)], who) for method in rule.methods
            }
    return policies


def _where(rule: CoarseRule) -> list[Json]:
    if not rule.general or not (rule.namespaces or rule.servers):
        return []
    named = [_server(string_match={"prefix": f"{name}/"}) for name in rule.namespaces]
    return [{"or_rules": {"rules": named + [_server(**exactly(name)) for name in rule.servers]}}]


def _whose(rule: CoarseRule) -> list[Json]:
    found: list[Json] = []
    if rule.surfaces:
        found.append(_any(claims("surface", **exactly(name)) for name in rule.surfaces))
    if rule.groups:
        found.append(_any(claims("groups", **contains(name)) for name in rule.groups))
    if rule.except_groups:
        found.append({"not_id": _any(claims("groups", **contains(name)) for name in rule.except_groups)})
    return found


def _any(who: Iterable[Json]) -> Json:
    return {"or_ids": {"ids": list(who)}}


def _server(**value: object) -> Json:
    return _on_route("server", **value)


def _not_stopped() -> Json:
    return {"not_rule": _on_route("stopped", present_match=True)}


def _on_route(key: str, **value: object) -> Json:
    found = metadata_value(ROUTE_METADATA, key, **value)
    return {"sourced_metadata": {"metadata_matcher": found, "metadata_source": "ROUTE"}}


def _method(name: str) -> Json:
    """The body that the MCP filter read says so. That it read another allows nothing: the server reads it again."""
    found = metadata_value(MCP_METADATA, "method", **exactly(name))
    return {"sourced_metadata": {"metadata_matcher": found, "metadata_source": "DYNAMIC"}}
