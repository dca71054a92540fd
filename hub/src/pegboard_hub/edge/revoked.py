"""Tokens that are void before their time, refused by Envoy: one look into a table for each kind, however long it is.

The JWT filter writes the claims into headers of the request, because Envoy's tables are keyed by headers and not by
what a filter verified. No caller's header of these names gets as far as that, and none goes on to a server.
"""

from __future__ import annotations

from pegboard.core.revoked import Revoked
from pegboard_hub.edge.envoy import Json, header_input, typed
from pegboard_hub.edge.rules import RBAC

REVOKED = "revoked"
"""The filter's name. It stands right behind the JWT filter and lets through everything that it does not know."""

CLAIM_HEADERS = {"sid": "x-pegboard-sid", "jti": "x-pegboard-jti", "client_id": "x-pegboard-client-id"}
"""Claims by which tokens are revoked, and the headers in which they pass from the JWT filter to this one.

`filters.REMOVED_PREFIXES` has their prefix.
"""


def claims_to_headers() -> list[Json]:
    """The JWT provider's `claim_to_headers`."""
    return [{"header_name": header, "claim_name": claim} for claim, header in CLAIM_HEADERS.items()]


def removals() -> list[Json]:
    """Mutations that take the headers away again."""
    return [{"remove": header} for header in CLAIM_HEADERS.values()]


def compile_revoked(revoked: Revoked) -> Json:
    """The filter."""
    values = {"sid": revoked.sessions, "jti": revoked.tokens, "client_id": revoked.clients}
    otherwise = _action("ALLOW")
    for claim, header in reversed(CLAIM_HEADERS.items()):
        if values[claim]:
            otherwise = {"matcher": _table(header, values[claim], otherwise)}
    decides = {"matcher": otherwise["matcher"]} if "matcher" in otherwise else {"rules": {"action": "DENY"}}
    return typed(RBAC, **decides, rules_stat_prefix=f"{REVOKED}_")


def _table(header: str, values: frozenset[str], otherwise: Json) -> Json:
    refuse = _action("DENY")
    tree = {"input": header_input(header), "exact_match_map": {"map": dict.fromkeys(sorted(values), refuse)}}
    return {"matcher_tree": tree, "on_no_match": otherwise}


def _action(action: str) -> Json:
    name = f"{REVOKED}-{action.lower()}"
    return {"action": {"name": name, "typed_config": typed("envoy.config.rbac.v3.Action", name=name, action=action)}}
