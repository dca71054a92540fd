"""An example of each shape of the API, for its document. A test holds every one against its model.

One that is named after a model and a status is the example of that answer alone.
"""

from __future__ import annotations

from typing import Any

_AT = 1_795_600_000_000
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_CURSOR = "c2FtcGxlIGN1cnNvciwgbWFkZSBieSB0aGUgaHVi"

REFUSED = {
    "code": "access_denied",
    "message": "Not for you: prod/presto is granted to ads-eng and finance, and you are in neither.",
    "layer": "edge",
    "reason": "group_not_granted",
    "what_to_do": "Ask platform in #data-platform.",
    "request_id": "6a1f0c9e-2d1b-4f4e-9a50-0f6f4a1c7d11",
}

_TOOL = {
    "name": "run_query",
    "title": "Run a query",
    "description": "Run one SQL query and give its rows.",
    "minutes_saved": 6.0,
    "stopped": "",
}
_HINTS = {"read_only": True, "destructive": False, "idempotent": True, "open_world": False}
_DETAIL = {
    **_TOOL,
    **_HINTS,
    "policy": "granted",
    "input_schema": {"type": "object", "properties": {"sql": {"type": "string"}}, "required": ["sql"]},
    "output_schema": None,
}
_RECORD = {
    "server": "prod/presto",
    "title": "Presto",
    "description": "Query the warehouse",
    "owner": "platform",
    "support_channel": "#data-platform",
    "sensitivity": "confidential",
}
_URL = "https://mcp.example.com/mcp/prod/presto"
_SUMMARY = {
    **_RECORD,
    "release": _DIGEST,
    "status": "live",
    "status_since": _AT,
    "status_why": "",
    "stopped": "",
    "resource_url": _URL,
    "tools": [_TOOL],
}
_ENTRY = {**_SUMMARY, "semver": "1.0.3", "lifecycle": "live", "lifecycle_why": "", "usable": True}
_GRANTED = {"groups": ["ads-eng", "finance"], "surfaces": ["chat", "cli"], "channels": None, "services": None}
_REQUESTED = {"groups": ["ads-eng"], "surfaces": ["cli"], "channels": [], "services": []}
_OUTCOME = {
    "kind": "security",
    "state": "approved",
    "opened_at": _AT,
    "decided_at": _AT + 3_600_000,
    "decided_by": "lea",
    "why": None,
    "conditions": None,
}
_YOU = {"usable": True, "owner": False, "insider": False, "may_edit": False}
_INSIDE = {"version": 7, "updated_at": _AT, "requested": _REQUESTED, "waiting": None}
_RELEASE = {
    "digest": _DIGEST,
    "semver": "1.0.3",
    "state": "deployed",
    "seen_at": _AT,
    "approved_at": _AT,
    "deployed_at": _AT,
}
_FIELD = {"field": "description", "before": "Query it", "after": "Query the warehouse"}
_CHANGE = {
    "seq": 41,
    "at": _AT,
    "server": "prod/presto",
    "version": 7,
    "actor": "pat",
    "actor_kind": "person",
    "action": "edit",
    "why": "say what it queries",
    "fields": [_FIELD],
}
_MISSED = {
    "version": 7,
    "at": _AT,
    "actor": "pat",
    "action": "edit",
    "why": "say what it queries",
    "fields": ["description"],
}
_MY_TOOL = {
    **_TOOL,
    "server": "prod/presto",
    "lifecycle": "live",
    "lifecycle_why": "",
    "policy": "granted",
    "read_only": True,
    "resource_url": _URL,
}
_VERDICT = {"claim": "release", "holds": True, "reason": f"1.0.3 ({_DIGEST}) is deployed"}
_VALIDATION = {
    "server": "prod/presto",
    "valid": True,
    "verdicts": [
        {"claim": "server", "holds": True, "reason": "prod/presto is registered here, owned by platform"},
        {"claim": "approved", "holds": True, "reason": "its release is approved and deployed"},
        _VERDICT,
    ],
}
_TEAM = {"team": "platform", "yours": False, "servers": 2, "support_channels": ["#data-platform"]}
_CHECK = {
    "rule": "group",
    "holds": True,
    "fact": "you are in ads-eng",
    "source": "the security review of prod/presto",
}
_ACCESS = {"server": "prod/presto", "allowed": True, "checks": [_CHECK], "refusal": None}
_STEP = {
    "layer": "edge",
    "rule": "group",
    "outcome": "holds",
    "fact": "you are in ads-eng",
    "source": "the security review of prod/presto",
    "ask": "",
}
_QUESTION = {"server": "prod/presto", "tool": "run_query", "surface": "chat"}
_TERMS = {"by": "owner", "own": False, "expires_s": 3600, "why": "a table was dropped by mistake"}
_ASKED = "its owners, platform, and not by whoever asks"
_NEEDED = {**_TERMS, "asked": _ASKED, "always": True, "source": "registry"}
_REQUIRED = {
    **_TERMS,
    "tool": "prod/presto/drop_tables",
    "asked": _ASKED,
    "required_by": "sam",
    "since": _AT,
    "notes": [],
}
_REQUIREMENT_EVENT = {
    "at": _AT,
    "tool": "prod/presto/drop_tables",
    "action": "require",
    "by": "sam",
    "why": _TERMS["why"],
    "before": None,
    "after": _TERMS,
}
_DECIDED: dict[str, Any] = {
    "server": "prod/presto",
    "tool": "run_query",
    "subject": "ana",
    "sub_type": "person",
    "surface": "chat",
    "channel": None,
    "allowed": True,
    "depends_on": [],
    "layer": None,
    "rule": None,
    "reason": None,
    "approvals": [],
    "refusal": None,
}
_CALL = {
    "id": "0193b1d2c4e87a10",
    "at": _AT,
    "server": "prod/presto",
    "release": _DIGEST,
    "tool": "run_query",
    "person": "ana",
    "surface": "cli",
    "channel": None,
    "client_id": "pegboard-cli",
    "act": None,
    "decision": "allowed",
    "layer": "server",
    "code": "",
    "reason": "",
    "detail": "",
    "policy": "granted",
    "policy_version": "1f0c",
    "status": "ok",
    "duration_ms": 12.5,
    "minutes_saved": 6.0,
    "request_id": "6a1f0c9e-2d1b-4f4e-9a50-0f6f4a1c7d11",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "approval": [],
}
_FOUND = {"count": 1, "denied": 0, "unfinished": 0, "back_to_ms": None}
_USER = {"sub": "ana", "name": "Ana", "connections": 1}
_CLIENT = {
    "software": "https://editor.example/client.json",
    "kind": "document",
    "name": "Editor",
    "redirect_uris": ["http://127.0.0.1/callback"],
    "uri": "https://editor.example",
    "surface": "ide",
    "standing": "unknown",
    "decided_by": None,
    "decided_at": None,
    "why": None,
    "users": [_USER],
    "connections": 1,
    "last_seen_at": _AT,
}

_APPROVAL_ID = "019abb5a1f4000001f0e2d3c4b5a6978"
_APPROVAL: dict[str, Any] = {
    "id": _APPROVAL_ID,
    "batch": _APPROVAL_ID,
    "kind": "approval",
    "state": "approved",
    "person": "ana",
    "act": None,
    "server": "prod/presto",
    "release": _DIGEST,
    "tool": "overwrite_table",
    "what": "replaces 1,204 rows of flights",
    "asks": "somebody of platform (which owns prod/presto)",
    "requested_at": _AT,
    "expires_at": _AT + 3_600_000,
    "decided_at": _AT + 60_000,
    "decided_by": "pat@example.com",
    "ended_at": None,
    "waits_for_you": False,
    "page": f"https://mcp.example.com/approvals/{_APPROVAL_ID}",
}
_BLOCK = {"title": "Rows", "kind": "diff", "text": "-1204\n+1198"}
_PREVIEW = {"what": "replaces 1,204 rows of flights", "cost": "0.4 GB", "blocks": [_BLOCK]}
_REQUIREMENT = {"by": "owner", "own": False, "expires_s": 3600, "source": "server", "why": "it cannot be undone"}
_EVENT = {
    "at": _AT + 60_000,
    "before": "requested",
    "after": "approved",
    "who": "pat@example.com",
    "why": "the rows are right",
    "door": "page",
    "shown": _DIGEST,
}


def _refusal(code: str, message: str, what_to_do: str) -> dict[str, Any]:
    told = {"code": code, "message": message, "what_to_do": what_to_do, "reason": code}
    return {"error": {**REFUSED, **told, "layer": "hub"}}


EXAMPLES: dict[str, Any] = {
    "AccessAnswer": _ACCESS,
    "AccessLists": _GRANTED,
    "AccessQuestion": _QUESTION,
    "AccessVerdict": _DECIDED,
    "AccessVerdicts": {"answers": [_DECIDED]},
    "ApprovalDetail": {
        **_APPROVAL,
        "arguments": {"table": "flights", "sql": "SELECT * FROM flights_new"},
        "arguments_digest": _DIGEST,
        "preview": _PREVIEW,
        "requirement": _REQUIREMENT,
        "policy": "granted",
        "policy_version": "1f0c",
        "surface": "cli",
        "client": "pegboard-cli",
        "why": "the rows are right",
        "claimed_at": None,
        "call_id": None,
        "beside": [],
        "events": [_EVENT],
    },
    "ApprovalEvent": _EVENT,
    "ApprovalSummary": _APPROVAL,
    "ApprovalsAnswer": {"approvals": [_APPROVAL], "next": None},
    "Block": _BLOCK,
    "ApprovalTerms": _TERMS,
    "CallEntry": _CALL,
    "CallLife": {
        **_CALL,
        "sub_type": "person",
        "method": "",
        "protocol": "2026-07-28",
        "arguments_digest": "5e88",
        "arguments_bytes": 31,
        "error_type": "",
        "result_digest": "1b4f",
        "result_bytes": 512,
        "steps_ms": {"authenticate": 0.2, "authorize": 0.1, "run": 12.0},
        "ended_at": _AT + 13,
        "received_at": _AT + 200,
        "outcome_received_at": _AT + 200,
        "unfinished": "",
    },
    "Calls": {"calls": [_CALL], "found": _FOUND, "next": None},
    "CatalogueEntry": _ENTRY,
    "CataloguePage": {"servers": [_ENTRY], "next": _CURSOR},
    "CheckResult": _CHECK,
    "ClientSummary": _CLIENT,
    "ClientUser": _USER,
    "ClientsAnswer": {"clients": [_CLIENT], "never_used": 3},
    "DraftChecked": {"server": "prod/weather"},
    "ExplainedStep": _STEP,
    "Explanation": {
        **_ACCESS,
        "person": "ana",
        "surface": "cli",
        "tool": "run_query",
        "steps": [_STEP],
        "approvals": [_NEEDED],
    },
    "FieldChange": _FIELD,
    "FoundCalls": _FOUND,
    "HistoryEntry": _CHANGE,
    "HistoryPage": {"entries": [_CHANGE], "shortened": False, "next": None},
    "Inside": _INSIDE,
    "MissedChange": _MISSED,
    "MyTool": _MY_TOOL,
    "MyTools": {"surface": "cli", "tools": [_MY_TOOL], "next": None},
    "Preview": _PREVIEW,
    "NeededApproval": _NEEDED,
    "Refusal": {"error": REFUSED},
    "Refusal 400": _refusal(
        "invalid_request",
        "cursor: It is not one that you were given for this list and this question.",
        "Begin again without a cursor.",
    ),
    "Refusal 401": _refusal(
        "unauthenticated", "Not signed in: the token has expired.", "Sign in again and use a token for the API."
    ),
    "Refusal 403": _refusal(
        "access_denied", "Clients and surfaces are looked after by people in: platform.", "Ask one of them."
    ),
    "Refusal 404": _refusal(
        "unknown_server",
        "No such server here for you: it does not exist, or you may not know of it.",
        "List the servers that there are, or ask the platform team.",
    ),
    "Refusal 409": _refusal("name_taken", "server: prod/weather is taken.", "Choose another name."),
    "Refusal 413": _refusal("too_large", "The body is longer than 65536 bytes.", "Send less at once."),
    "Refusal 422": _refusal(
        "invalid_request",
        "lifecycle: Extra inputs are not permitted.",
        "Mend what is named; /api/v1/openapi.json says what there is.",
    ),
    "Refusal 428": _refusal(
        "precondition_required",
        "If-Match: It is missing, so this change could undo somebody else’s.",
        "Send the ETag of what you are changing as If-Match.",
    ),
    "Refusal 500": _refusal(
        "internal_error",
        "Something went wrong here; it is in the hub's log under this request id.",
        "Try again; if it stays, tell the platform team the request id.",
    ),
    "Refusal 503": _refusal(
        "storage_unavailable",
        "The hub's database takes no writes now, as when its disk is full; nothing of this request was kept.",
        "Tell the platform team: `pegboard doctor` shows the disk.",
    ),
    "Refusal 412": {
        "error": {
            **REFUSED,
            "code": "precondition_failed",
            "message": "If-Match: prod/weather has changed since you got it: pat changed description.",
            "layer": "hub",
            "reason": "changed_since",
            "what_to_do": "Get it again, look at what has changed, and send your change with its new ETag.",
        },
        "changes": [_MISSED],
    },
    "RefusalBody": REFUSED,
    "ReleaseDetail": {**_RELEASE, "server": "prod/presto", "tools": [_DETAIL], "requested": _REQUESTED},
    "ReleaseEntry": _RELEASE,
    "Releases": {"releases": [_RELEASE], "next": None},
    "Requirement": _REQUIREMENT,
    "RequiredApproval": _REQUIRED,
    "RequiredApprovals": {"required": [_REQUIRED]},
    "RequirementEvent": _REQUIREMENT_EVENT,
    "RequirementHistory": {"events": [_REQUIREMENT_EVENT]},
    "ReviewOutcome": _OUTCOME,
    "ServerDetail": {
        **_RECORD,
        "links": {"docs": "https://wiki.example/presto"},
        "gallery": True,
        "uses_models": False,
        "lifecycle": "live",
        "lifecycle_why": "",
        "out_of_reach": "",
        "status": "live",
        "status_since": _AT,
        "status_why": "",
        "stopped": "",
        "release": _DIGEST,
        "semver": "1.0.3",
        "resource_url": _URL,
        "granted": _GRANTED,
        "reviews": [_OUTCOME],
        "first_live_at": _AT,
        "you": _YOU,
        "inside": None,
    },
    "Team": {**_TEAM, "owned": [{**_ENTRY, "tools": []}], "next": None},
    "TeamSummary": _TEAM,
    "Teams": {"teams": [_TEAM], "next": None},
    "ToolDetail": _DETAIL,
    "ToolList": {"server": "prod/presto", "release": _DIGEST, "tools": [_DETAIL], "tools_digest": _DIGEST},
    "ToolSummary": _TOOL,
    "Validation": _VALIDATION,
    "Verdict": _VERDICT,
    "WhoAmI": {
        "sub": "ana",
        "sub_type": "person",
        "email": "ana@example.com",
        "groups": ["ads-eng"],
        "surface": "cli",
        "channel": None,
        "client_id": "pegboard-cli",
        "act": None,
        "expires_at": _AT // 1000,
    },
    "YourPart": _YOU,
}
