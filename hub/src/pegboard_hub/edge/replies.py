"""How Envoy says no: each case of `refusals` as a response, JSON-RPC under /mcp/ and plain JSON elsewhere.

Every answer of Envoy's own carries its reason in `REASON_HEADER`, which is where the access log takes it from.
"""

from __future__ import annotations

from dataclasses import replace

from pegboard.core.challenge import METADATA_PREFIX, Error, challenge
from pegboard.core.names import MCP_PREFIX
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard_hub.edge.envoy import REASON_HEADER, Json, literal
from pegboard_hub.edge.refusals import CASES, PUBLIC_URL, Case

REQUEST_ID = "%STREAM_ID%"
"""The id that Envoy gave the request."""

_UNDER_MCP: Json = {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": MCP_PREFIX}}}}
_ALWAYS: Json = {"not_health_check_filter": {}}


def local_replies(public_url: str) -> Json:
    """The connection manager's `local_reply_config`."""
    mappers = []
    for case in (_told(case, public_url) for case in CASES):
        if case.where != "hub":
            mappers.append(_mapper(case, _as_jsonrpc(case), public_url, [_UNDER_MCP]))
        if case.where != "mcp":
            mappers.append(_mapper(case, _as_json(case), public_url, []))
    return {"mappers": mappers}


def _told(case: Case, public_url: str) -> Case:
    what_to_do = case.refusal.what_to_do.replace(PUBLIC_URL, literal(public_url.rstrip("/")))
    return replace(case, refusal=replace(case.refusal, what_to_do=what_to_do))


def _mapper(case: Case, body: Json, public_url: str, conditions: list[Json]) -> Json:
    filters = [*conditions, *([case.when] if case.when else [])] or [_ALWAYS]
    headers = {REASON_HEADER: case.refusal.reason}
    if case.challenge is not None:
        headers["www-authenticate"] = _challenge(public_url, case.challenge)
    if case.retry_after_s is not None:
        headers["retry-after"] = str(case.retry_after_s)
    mapper: Json = {
        "filter": filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}},
        "body_format_override": {"json_format": body, "content_type": "application/json"},
        "headers_to_add": [_header(name, value) for name, value in headers.items()],
    }
    return mapper | ({"status_code": case.status} if case.status else {})


def _as_jsonrpc(case: Case) -> Json:
    body = case.refusal.for_request(REQUEST_ID).as_jsonrpc()
    body["error"]["code"] = case.code
    return body


def _as_json(case: Case) -> Json:
    return {"error": case.refusal.for_request(REQUEST_ID if case.identified else "").as_json()}


def _challenge(public_url: str, error: Error) -> str:
    """The path is safe inside the quotes: only a well-formed server's path asks for a token."""
    return challenge(f"{literal(public_url.rstrip('/'))}{METADATA_PREFIX}%PATH(NQ)%", SCOPE_TOOLS, error)


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
