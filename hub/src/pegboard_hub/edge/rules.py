"""The rules of `pegboard.core.access`, compiled to Envoy: one RBAC filter in which all of them must hold.

A rule compares the verified claims with the facts of the route, so it is shared by all servers: it has an
alternative for each name that is granted anywhere, whatever the number of servers. Changing who may use a server
changes its route only.

Each filter costs a call more than the rule in it does, and Envoy tells an answer nothing of a rule that refused. So
all rules are one filter, `GRANTS`. Its first policy is that every rule holds. Behind it stand policies for each rule
that does not, in the core's order, under which a request passes to be refused by name (`stops.compile_stopped`): what
passes as anything but `HELD`, or not at all, goes nowhere.

A stop looks at no claim, so it is no filter but the route itself: it answers instead of going anywhere (`routes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from pegboard.core.access import OPEN_TO_SERVICES, RULES, ServerAccess
from pegboard.core.names import SERVICE, SURFACES
from pegboard.core.scopes import SERVER_SCOPES
from pegboard.core.stops import CALLER_KINDS
from pegboard_hub.edge import cel
from pegboard_hub.edge.envoy import (
    CLAIMS,
    JWT_METADATA,
    ROUTE_METADATA,
    Json,
    contains,
    exactly,
    metadata_value,
    typed,
)

RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
RBAC_METADATA = "envoy.filters.http.rbac"
"""Namespace in which each RBAC filter leaves what it decided, under its rule's name."""

DECIDED = "enforced_engine_result"
"""Key, after the rule's name and an underscore, of a decision: `allowed` or `denied`."""

PASSED_AS = "enforced_effective_policy_id"
"""Key, after a filter's name and an underscore, of the policy under which a request passed it."""

GRANTS = "grants"
"""Name of the filter. Envoy names a statistic by it, which `admin` reads, so it has no hyphen."""

HELD = "00_held"
"""What a request passes as for which every rule holds. Policies are tried in the order of their names."""

Alternatives = list[list[Json]]
"""A rule: all matchers of one of these must hold. Without any it never holds."""


def compile_grants(granted: Iterable[ServerAccess]) -> Json:
    """The filter of all rules, for everything that is granted anywhere."""
    servers = tuple(granted)
    holds = {name: _any(rule(servers)) for name, rule in COMPILERS.items()}
    # Only an expression can compare two values, and none can be turned round: one that fails is false either way.
    # So the rule that needs one is what is left when it is in none of the other policies.
    others = {name: held for name, held in holds.items() if name != AUDIENCE}
    policies = {HELD: policy(list(others.values()), condition=_audience())}
    policies |= {not_held(name): policy([{"not_rule": held}], condition=_audience()) for name, held in others.items()}
    return rbac(GRANTS, {**policies, not_held(AUDIENCE): policy()}, track_per_rule_stats=True)


def not_held(name: str) -> str:
    """What a request passes as for which a rule does not hold, and every one before it does.

    Envoy tries policies in the order of their names, as text.
    """
    place = len(COMPILERS) if name == AUDIENCE else [*COMPILERS].index(name)
    return f"{place:02}_{name}"


def rbac(name: str, policies: Json, **more: bool) -> Json:
    """A filter that lets through what one of `policies` allows; without any it refuses everything."""
    return typed(RBAC, rules={"action": "ALLOW", "policies": policies}, rules_stat_prefix=f"{name}_", **more)


def route_facts(access: ServerAccess) -> Json:
    """What a server's route carries for the rules to compare with, and for refusals to name."""
    facts: Json = {
        "server": str(access.server),
        "resource": access.resource_url,
        "owner": access.owner,
        "support": access.support_channel,
    }
    lists = {"groups": access.groups, "surfaces": access.surfaces, "channels": access.channels}
    lists["services"] = access.services
    lists["shelves"] = frozenset(map(_shelf, access.groups))
    if access.services:
        facts["sensitivity"] = access.sensitivity  # of no other server does a rule ask it
    if access.stopped:
        facts["stopped"] = access.stopped
    return facts | {key: sorted(values) for key, values in lists.items() if values}


def _audience() -> Json:
    claimed = cel.value("metadata.filter_metadata", JWT_METADATA, CLAIMS, "aud")
    resource = cel.value("xds.route_metadata.filter_metadata", ROUTE_METADATA, "resource")
    return cel.equal(claimed, resource)


def _bound(_: tuple[ServerAccess, ...]) -> Alternatives:
    """By the expression that stands in every other policy."""
    return [[_ANYTHING]]


def _scope(_: tuple[ServerAccess, ...]) -> Alternatives:
    """Names stand between single spaces (RFC 6749 §3.3)."""
    named = f"(.* )?({'|'.join(map(re.escape, SERVER_SCOPES))})( .*)?"
    return [[claims("scope", string_match={"safe_regex": {"regex": named}})]]


def _surface(_: tuple[ServerAccess, ...]) -> Alternatives:
    return [
        [
            claims("surface", **exactly(name)),
            claims("sub_type", **exactly(_kind_of(name))),
            _granted("surfaces", name),
        ]
        for name in SURFACES
    ]


def _kind_of(surface: str) -> str:
    return "service" if surface == SERVICE else "person"


def _channel(granted: tuple[ServerAccess, ...]) -> Alternatives:
    names = sorted({name for access in granted for name in access.channels})
    bots = [[claims("channel", **exactly(n)), _granted("channels", n)] for n in names]
    return [[{"not_rule": claims("surface", **exactly("bot"))}], *bots]


def _group(granted: tuple[ServerAccess, ...]) -> Alternatives:
    """Groups stand on shelves, and only a server's own shelves are looked through for its groups."""
    shelves: dict[str, Alternatives] = {}
    for name in sorted({name for access in granted for name in access.groups}):
        shelves.setdefault(_shelf(name), []).append([_granted("groups", name), claims("groups", **contains(name))])
    services = sorted({name for access in granted for name in access.services})
    return [[_granted("shelves", shelf), _person(), _any(on_it)] for shelf, on_it in sorted(shelves.items())] + [
        [claims("sub", **exactly(n)), claims("sub_type", **exactly("service")), _granted("services", n)]
        for n in services
    ]


SHELVES = 32
"""Of a thousand groups a call looks at some 150 instead of all."""


def _shelf(group: str) -> str:
    return str(crc32(group.encode()) % SHELVES)


def _sensitivity(_: tuple[ServerAccess, ...]) -> Alternatives:
    return [[_person()], *([_fact("sensitivity", **exactly(level))] for level in OPEN_TO_SERVICES)]


AUDIENCE = "audience"

COMPILERS: dict[str, Callable[[tuple[ServerAccess, ...]], Alternatives]] = {
    AUDIENCE: _bound,
    "scope": _scope,
    "surface": _surface,
    "channel": _channel,
    "group": _group,
    "sensitivity": _sensitivity,
}
"""Every rule of `core.access.RULES` that is decided by claims and route, in the core's order."""

NOTED = ("rule",)
"""Coarse rules: they are noted behind the other rules, and refused where stops are (`edge/coarse.py`)."""

IN_ROUTES = ("stop",)
"""It decides how a server's route answers, once all filters have let a request through."""

OF_CALLERS = tuple(f"{kind}-stop" for kind in CALLER_KINDS)
"""Stops of callers: they are noted where void tokens are refused, and refused behind all rules (`edge/stops.py`)."""

FILTERED = tuple(rule for rule in RULES if rule.name not in (*NOTED, *IN_ROUTES, *OF_CALLERS))
RULE_NAMES = tuple(rule.name for rule in FILTERED)


def policy(what: list[Json] | None = None, who: list[Json] | None = None, condition: Json | None = None) -> Json:
    """An RBAC policy. All of `what`, all of `who` and the condition must hold; what is not given is no condition."""
    rule: Json = {
        "permissions": [{"and_rules": {"rules": what}} if what else {"any": True}],
        "principals": [{"and_ids": {"ids": who}} if who else {"any": True}],
    }
    return rule | ({"condition": cel.numbered(condition)} if condition else {})


_ANYTHING: Json = {"any": True}


def _any(alternatives: Alternatives) -> Json:
    """One of them, as a permission."""
    if not alternatives:
        return {"not_rule": _ANYTHING}
    return {"or_rules": {"rules": [{"and_rules": {"rules": matchers}} for matchers in alternatives]}}


def _granted(key: str, name: str) -> Json:
    return _fact(key, **contains(name))


def _fact(key: str, **value: Any) -> Json:
    matcher = metadata_value(ROUTE_METADATA, key, **value)
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "ROUTE"}}


def claims(*path: str, **value: Any) -> Json:
    """A principal, and a permission as well: the verified claim at `path` matches `value`."""
    matcher = metadata_value(JWT_METADATA, CLAIMS, *path, **value)
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}


def _person() -> Json:
    return claims("sub_type", **exactly("person"))
