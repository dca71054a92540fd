"""The rates of `pegboard.core.rates`, compiled to Envoy: one token bucket for each one of a kind, in this process.

Each kind is a filter in a file of its own, so that a change touches neither the listener nor another kind's buckets.
Where they stand says who can use up what:

| kind      | stands                         | so that                                                     |
|-----------|--------------------------------|-------------------------------------------------------------|
| `address` | before a token is looked at    | a flood without a token costs nobody's allowance            |
| `person`  | behind the token's verification | nobody uses another's, whatever they write into headers     |
| `surface`, `server` | behind every rule and stop | a call that is refused uses up nothing that others share    |
"""

from __future__ import annotations

import re

from pegboard.core.names import MCP_PREFIX, NAME_PATTERN
from pegboard.core.rates import Limits, Per, RateLimit
from pegboard_hub.edge.envoy import CLAIMS, JWT_METADATA, REASON_HEADER, ROUTE_METADATA, Json, extension, typed

LOCAL_RATE = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

STATUS: dict[Per, int] = {"address": 429, "person": 428, "surface": 423, "server": 424}
"""Status with which each kind's filter answers, so that they are told apart; callers see 429."""

RATE_NAMES: dict[Per, str] = {per: f"rate_{per}" for per in STATUS}
"""The filters by their kinds."""

BEHIND_RULES: tuple[Per, ...] = ("surface", "server")

MOST_BUCKETS = 20_000
"""Buckets of one rate. With more people than that the one who asked longest ago begins anew."""

IPV6_NETWORK = 64
"""Bits of an IPv6 address that count: one machine may have all the addresses behind them."""

RESET = "x-ratelimit-reset"
"""Response header in which a filter says how many seconds it is until a token comes back."""

_ALWAYS: Json = {
    # Envoy lets an operator override the number at run time under this key; nothing sets it.
    "default_value": {"numerator": 100, "denominator": "HUNDRED"},
    "runtime_key": "pegboard.unused",
}
_MOST = 2**32 - 1
_NO_LIMIT: Json = {"max_tokens": _MOST, "tokens_per_fill": _MOST, "fill_interval": "1s"}
"""Envoy's bucket for requests that no rate is about."""


def rate_filters(limits: Limits) -> dict[str, Json]:
    """Every kind's filter, by name. One without rates lets everything through."""
    return {RATE_NAMES[per]: _filter(per, limits.kind(per)) for per in STATUS}


def retry_after() -> Json:
    """Tells in `Retry-After` how long it is until a token comes back (RFC 9110 §10.2.3), at least a second.

    It stands before the filters, so that on the way back it sees what they said. The first word is that of the
    filter that refused: others, which let the request through, come behind it.
    """
    waits = f"response.headers['{_FIRST}']"
    ours = f"response.code == 429 && '{REASON_HEADER}' in response.headers"
    said = f"%CEL({ours} ? ({waits} == '0' ? '1' : {waits}) : '')%"
    return extension(
        "retry-after",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "response_mutations": [
                _set(_FIRST, f"%RESP({RESET})%"),
                _set("retry-after", said),
                *({"remove": name} for name in (_FIRST, RESET, "x-ratelimit-limit", "x-ratelimit-remaining")),
            ]
        },
    )


_FIRST = "x-pegboard-reset"


def _set(name: str, value: str) -> Json:
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _filter(per: Per, rates: tuple[RateLimit, ...]) -> Json:
    on: Json = {"filter_enabled": _ALWAYS, "filter_enforced": _ALWAYS} if rates else {}
    return typed(
        LOCAL_RATE,
        stat_prefix=per,
        status={"code": STATUS[per]},
        token_bucket=_NO_LIMIT,
        always_consume_default_token_bucket=False,
        max_dynamic_descriptors=MOST_BUCKETS,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        descriptors=[_bucket(number, rate) for number, rate in enumerate(rates)],
        rate_limits=[actions for number, rate in enumerate(rates) for actions in _matched(number, rate)],
        **on,
    )


def _bucket(number: int, rate: RateLimit) -> Json:
    """An entry without a value stands for any: each value of it has a bucket of its own."""
    keys = [{"key": key} for key, _ in _KEYS[rate.per]]
    tokens = {"max_tokens": rate.requests, "tokens_per_fill": rate.requests, "fill_interval": f"{rate.seconds}s"}
    return {"entries": [{"key": "rate", "value": str(number)}, *keys], "token_bucket": tokens}


def _matched(number: int, rate: RateLimit) -> list[Json]:
    """When a request counts, and with which values. One that lacks something does not count."""
    keys = [action for _, action in _KEYS[rate.per]]
    return [{"actions": [_when(number, headers), *keys]} for headers in _conditions(rate)]


def _conditions(rate: RateLimit) -> list[list[Json]]:
    if rate.in_all:
        return [[]]
    if rate.per == "address":
        to_servers = {"name": ":path", "string_match": {"prefix": MCP_PREFIX}}
        no_token = {"name": "authorization", "string_match": {"prefix": "Bearer "}, "invert_match": True}
        no_token["treat_missing_header_as_empty"] = True
        return [[to_servers, no_token], [{**to_servers, "invert_match": True}]]
    headers: list[Json] = []
    if rate.surfaces:
        headers.append(_one_of("x-forwarded-surface", "|".join(map(re.escape, rate.surfaces))))
    if rate.namespaces or rate.servers:
        paths = [f"{re.escape(name)}/{NAME_PATTERN}" for name in rate.namespaces] + [*map(re.escape, rate.servers)]
        headers.append(_one_of(":path", f"{MCP_PREFIX}({'|'.join(paths)})"))
    if rate.groups:
        headers.append(_in_one_of(rate.groups))
    if rate.except_groups:
        headers.append({**_in_one_of(rate.except_groups), "invert_match": True})
    return [headers]


def _in_one_of(groups: tuple[str, ...]) -> Json:
    """The verified groups, which `identity` wrote as a JSON array: no name has a quote in it."""
    return _one_of("x-forwarded-groups", f'.*"({"|".join(map(re.escape, groups))})".*')


def _one_of(header: str, pattern: str) -> Json:
    return {"name": header, "string_match": {"safe_regex": {"regex": pattern}}}


def _when(number: int, headers: list[Json]) -> Json:
    if not headers:
        return {"generic_key": {"descriptor_key": "rate", "descriptor_value": str(number)}}
    matched = {"descriptor_key": "rate", "descriptor_value": str(number), "headers": headers}
    return {"header_value_match": matched}


def _metadata(key: str, source: str, namespace: str, *path: str) -> tuple[str, Json]:
    found = {"key": namespace, "path": [{"key": part} for part in path]}
    return key, {"metadata": {"descriptor_key": key, "metadata_key": found, "source": source}}


def _claim(name: str) -> tuple[str, Json]:
    return _metadata(name, "DYNAMIC", JWT_METADATA, CLAIMS, name)


_KEYS: dict[Per, list[tuple[str, Json]]] = {
    "address": [("masked_remote_address", {"masked_remote_address": {"v6_prefix_mask_len": IPV6_NETWORK}})],
    "person": [_claim("sub_type"), _claim("sub")],
    "surface": [_claim("surface")],
    "server": [_metadata("server", "ROUTE_ENTRY", ROUTE_METADATA, "server")],
}
"""What has a bucket of its own in each kind: verified claims and facts of the route, never what a caller wrote."""
