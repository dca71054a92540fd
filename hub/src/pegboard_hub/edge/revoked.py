"""Tokens that are void before their time, and callers who are stopped: a look into a table for each kind of either.

A void token is refused here. A stop is only noted, in the name of the rule that lets the request pass, which Envoy
keeps: its reason can then stand in the answer, which nothing of a rule that refuses can. `edge/stops.py` refuses it.

The JWT filter writes the claims into headers of the request, because Envoy's tables are keyed by headers and not by
what a filter verified. No caller's header of these names gets as far as that, and none goes on to a server.
"""

from __future__ import annotations

from collections.abc import Mapping

from pegboard.core.revoked import Revoked
from pegboard.core.spiffe import SCHEME
from pegboard.core.stops import CallerKind, Stops, told
from pegboard_hub.edge.envoy import Json, header_input, typed
from pegboard_hub.edge.rules import RBAC

REVOKED = "revoked"
"""The filter's name. It stands right behind the JWT filter and lets through everything that it does not know."""

CLAIM_HEADERS = {
    "sid": "x-pegboard-sid",
    "jti": "x-pegboard-jti",
    "client_id": "x-pegboard-client-id",
    "sub": "x-pegboard-sub",
    "surface": "x-pegboard-surface",
}
"""Claims by which tokens are revoked and callers stopped, and the headers in which they pass from the JWT filter on.

`filters.REMOVED_PREFIXES` has their prefix.
"""


def claims_to_headers() -> list[Json]:
    """The JWT provider's `claim_to_headers`."""
    return [{"header_name": header, "claim_name": claim} for claim, header in CLAIM_HEADERS.items()]


def removals() -> list[Json]:
    """Mutations that take the headers away again."""
    return [{"remove": header} for header in CLAIM_HEADERS.values()]


GOING = "going"
"""What the rule is called that lets a request pass of which nothing is stopped."""


def compile_revoked(revoked: Revoked, stops: Stops) -> Json:
    """The filter."""
    otherwise = _action("ALLOW", GOING)
    for claim, told_of in reversed(_stopped(stops)):
        if told_of:
            actions = {name: _action("ALLOW", words) for name, words in sorted(told_of.items())}
            otherwise = _table(CLAIM_HEADERS[claim], actions, otherwise)
    refuse = _action("DENY", f"{REVOKED}-deny")
    values = {"sid": revoked.sessions, "jti": revoked.tokens, "client_id": revoked.clients}
    for claim, void in reversed(values.items()):
        if void:
            otherwise = _table(CLAIM_HEADERS[claim], dict.fromkeys(sorted(void), refuse), otherwise)
    matcher = otherwise.get("matcher") or {"on_no_match": otherwise}
    return typed(RBAC, matcher=matcher, rules_stat_prefix=f"{REVOKED}_")


def _stopped(stops: Stops) -> list[tuple[str, dict[str, str]]]:
    """The claim that each kind of stop looks at, with the sentence for each of its values, in the rules' order.

    People and services share a claim. No person's id is a SPIFFE ID, and no service's is anything else.
    """
    people = {name: why for name, why in stops.people.items() if not name.startswith(SCHEME)}
    services = {name: why for name, why in stops.services.items() if name.startswith(SCHEME)}
    return [
        ("surface", _sentences("surface", stops.surfaces)),
        ("client_id", _sentences("client", stops.clients)),
        ("sub", _sentences("person", people) | _sentences("service", services)),
    ]


def _sentences(kind: CallerKind, stopped: Mapping[str, str]) -> dict[str, str]:
    return {name: told(kind, why) for name, why in stopped.items()}


def _table(header: str, actions: Json, otherwise: Json) -> Json:
    tree = {"input": header_input(header), "exact_match_map": {"map": actions}}
    return {"matcher": {"matcher_tree": tree, "on_no_match": otherwise}}


def _action(action: str, name: str) -> Json:
    return {"action": {"name": name, "typed_config": typed("envoy.config.rbac.v3.Action", name=name, action=action)}}
