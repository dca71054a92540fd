"""The trace a request belongs to (W3C Trace Context, Level 1).

Everything that is written of one request, its record and log lines at edge, server and hub, carries one trace id: the
caller's where `traceparent` brought one, else the edge's request id without its dashes. That is a UUID and so has the
32 hexadecimal digits of a trace id; every layer comes to the same one without asking another.
"""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


def trace_id(traceparent: object, request_id: str) -> str:
    """The 32 hexadecimal digits of the trace; empty where neither tells.

    Args:
        traceparent: as it came, from a header or from `_meta`; may be anything.
        request_id: the edge's.
    """
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found:
        return found["trace"]
    return request_id.replace("-", "") if _UUID.fullmatch(request_id) else ""
