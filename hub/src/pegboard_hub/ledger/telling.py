"""What of a call is told to whom: rows of the ledger's tables as people may read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pegboard_hub.ledger.model import MOST_MINUTES, Call, Life
from pegboard_hub.ledger.questions import Reader, Unfinished

Row = Mapping[str, Any]

STILL_RUNNING = "It is still running: no outcome was written yet."
LOST = (
    "Nobody can say how it ended. The call was let through and its intent was written, but no outcome was: the "
    "server was ended in the middle of it, or could not write any more. It may or may not have done its work."
)


def call_of(row: Row, outcome: Row | None, minutes: float, reader: Reader, unfinished: Unfinished) -> Call:
    """One call as this reader may know it.

    Args:
        row: of `calls`.
        outcome: of `outcomes`, where there is one.
        minutes: what the tool saves by its pinned release; 0 where that declares nothing.
        reader: who asks.
        unfinished: what a call without an outcome means.
    """
    knows = reader.knows(row["server"])
    denied = row["kind"] != "intent"
    # Why a tool is unavailable, hidden or absent, is the owner's to know: the caller reads here what the answer said.
    veiled = _veiled(row, knows)
    status = "denied" if denied else row["status"] or _open(row, unfinished)
    return Call(
        **{name: row[name] for name in ("id", "at_ms", "server", "release", "tool", "sub", "surface", "channel")},
        **{name: row[name] for name in ("client_id", "act", "code", "request_id", "trace_id")},
        decision="denied" if denied else "allowed",
        layer="edge" if row["kind"] == "edge" else "server",
        reason=row["code"] if veiled else row["reason"],
        detail=row["detail"] if knows else "",
        policy="" if veiled else row["policy"],
        policy_version="" if veiled else row["policy_version"],
        status=status,
        duration_ms=outcome["duration_ms"] if outcome else None,
        minutes_saved=min(minutes, MOST_MINUTES) if status == "ok" else 0,
        approval=tuple(row["approval"] or ()),
    )


def life_of(row: Row, outcome: Row | None, minutes: float, reader: Reader, unfinished: Unfinished) -> Life:
    """One call's whole life as this reader may know it."""
    call = call_of(row, outcome, minutes, reader, unfinished)
    steps = (outcome["steps_ms"] if outcome else row["steps_ms"]) or {}
    return Life(
        call=call,
        **{name: row[name] for name in ("sub_type", "method", "protocol", "arguments_digest", "arguments_bytes")},
        error_type=outcome["error_type"] if outcome else "",
        result_digest=outcome["result_digest"] if outcome else "",
        result_bytes=outcome["result_bytes"] if outcome else None,
        # How long a step took could tell a hidden tool from none.
        steps_ms={} if _veiled(row, reader.knows(row["server"])) else steps,
        ended_at_ms=outcome["at_ms"] if outcome else None,
        received_at_ms=row["received_at_ms"],
        outcome_received_at_ms=outcome["received_at_ms"] if outcome else None,
        unfinished={"running": STILL_RUNNING, "unknown": LOST}.get(call.status, ""),
    )


def _veiled(row: Row, knows: bool) -> bool:
    return not knows and row["code"] == "tool_unavailable"


def _open(row: Row, unfinished: Unfinished) -> str:
    return "running" if unfinished.running(row["server"], row["at_ms"]) else "unknown"
