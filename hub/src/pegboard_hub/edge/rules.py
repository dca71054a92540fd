"""The coarse rules of `pegboard.core.access`, compiled to Envoy: one RBAC filter per rule, deny by default.

A rule compares the verified claims with the facts of the route, so its policies are shared by all servers: one per
name that is granted anywhere, whatever the number of servers. Changing who may use a server changes its route only.

A stop looks at no claim, so it is no filter but the route itself: it answers instead of going anywhere (`routes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pegboard.core.access import RULES, ServerAccess
from pegboard.core.names import SURFACES
from pegboard.core.scopes import SERVER_SCOPES
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


def compile_rule(name: str, granted: Iterable[ServerAccess]) -> Json:
    """The RBAC filter of one rule, for everything that is granted anywhere.

    Raises:
        KeyError: the edge has no such rule.
    """
    return rbac(name, COMPILERS[name](tuple(granted)))


def rbac(name: str, policies: Json) -> Json:
    """A filter that lets through what one of `policies` allows; without any it refuses everything."""
    return typed(RBAC, rules={"action": "ALLOW", "policies": policies}, rules_stat_prefix=f"{name}_")


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
    if access.stopped:
        facts["stopped"] = access.stopped
    return facts | {key: sorted(values) for key, values in lists.items() if values}


def _audience(_: tuple[ServerAccess, ...]) -> Json:
    claimed = cel.value("metadata.filter_metadata", JWT_METADATA, CLAIMS, "aud")
    resource = cel.value("xds.route_metadata.filter_metadata", ROUTE_METADATA, "resource")
    return {"bound": policy(condition=cel.equal(claimed, resource))}


def _scope(_: tuple[ServerAccess, ...]) -> Json:
    """Names stand between single spaces (RFC 6749 §3.3)."""
    named = f"(.* )?({'|'.join(map(re.escape, SERVER_SCOPES))})( .*)?"
    return {"named": policy(who=[_claims("scope", string_match={"safe_regex": {"regex": named}})])}


def _surface(_: tuple[ServerAccess, ...]) -> Json:
    return {name: policy([_granted("surfaces", name)], [_claims("surface", **exactly(name))]) for name in SURFACES}


def _channel(granted: tuple[ServerAccess, ...]) -> Json:
    names = sorted({name for access in granted for name in access.channels})
    bots = {f"bot:{n}": policy([_granted("channels", n)], [_claims("channel", **exactly(n))]) for n in names}
    return {"not-a-bot": policy(who=[{"not_id": _claims("surface", **exactly("bot"))}]), **bots}


def _group(granted: tuple[ServerAccess, ...]) -> Json:
    groups = sorted({name for access in granted for name in access.groups})
    services = sorted({name for access in granted for name in access.services})
    return {
        f"group:{n}": policy([_granted("groups", n)], [_person(), _claims("groups", **contains(n))]) for n in groups
    } | {
        f"service:{n}": policy(
            [_granted("services", n)], [_claims("sub_type", **exactly("service")), _claims("sub", **exactly(n))]
        )
        for n in services
    }


COMPILERS: dict[str, Callable[[tuple[ServerAccess, ...]], Json]] = {
    "audience": _audience,
    "scope": _scope,
    "surface": _surface,
    "channel": _channel,
    "group": _group,
}
"""Every rule of `core.access.RULES` that is a filter, by its name."""

IN_ROUTES = ("stop",)
"""Every other rule: it decides how a server's route answers, once all filters have let a request through."""

FILTERED = tuple(rule for rule in RULES if rule.name not in IN_ROUTES)
RULE_NAMES = tuple(rule.name for rule in FILTERED)
"""The order in which the filters stand."""


def policy(what: list[Json] | None = None, who: list[Json] | None = None, condition: Json | None = None) -> Json:
    """An RBAC policy. All of `what`, all of `who` and the condition must hold; what is not given is no condition."""
    rule: Json = {
        "permissions": [{"and_rules": {"rules": what}} if what else {"any": True}],
        "principals": [{"and_ids": {"ids": who}} if who else {"any": True}],
    }
    return rule | ({"condition": cel.numbered(condition)} if condition else {})


def _granted(key: str, name: str) -> Json:
    matcher = metadata_value(ROUTE_METADATA, key, **contains(name))
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "ROUTE"}}


def _claims(*path: str, **value: Any) -> Json:
    matcher = metadata_value(JWT_METADATA, CLAIMS, *path, **value)
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}


def _person() -> Json:
    return _claims("sub_type", **exactly("person"))
