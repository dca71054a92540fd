"""Bounds on legacy sessions, so that no caller can use up what a server keeps for all.

The SDK keeps legacy sessions in memory, binds each to the one who opened it, reaps idle ones and bounds their number.
What it lacks is a bound for each caller. It decides on a new session in one place, which is replaced here.
"""

from __future__ import annotations

from typing import Any

from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

MAX_SESSIONS = 1_000
"""Legacy sessions one process keeps, some 45 KB each; modern calls need none. Further ones are told to come again."""

MAX_SESSIONS_OF_ONE = 20
"""Legacy sessions that one caller on one surface keeps at one server. A further one replaces its oldest idle one."""

SESSION_IDLE_S = 600.0
"""A legacy session that nobody uses is closed after so long; its client opens another."""


def bound_per_caller(manager: StreamableHTTPSessionManager) -> None:
    """Let no caller have more than `MAX_SESSIONS_OF_ONE` sessions of `manager`.

    With that many, the caller's oldest session that has no request under way ends as if idle for too long:
    its client is told 404 and opens another, as the protocol says. Where all are busy, no further one is opened.
    """
    admit = manager._admit_session

    def admit_within_bounds(requestor: Any) -> StreamableHTTPServerTransport | None:
        own = [session for session, owner in manager._session_owners.items() if owner == requestor]
        if len(own) >= MAX_SESSIONS_OF_ONE and not _end_oldest_idle(manager, own):
            return None
        return admit(requestor)

    manager._admit_session = admit_within_bounds  # type: ignore[method-assign]


def _end_oldest_idle(manager: StreamableHTTPSessionManager, sessions: list[str]) -> bool:
    """End the first of `sessions`, oldest first, that serves no request; false when all do."""
    for session in sessions:
        transport = manager._server_instances.get(session)
        if transport is None or transport._requests_in_flight or transport.idle_scope is None:
            continue
        # As the SDK's own reaper does: the session's task ends and cleans up behind itself.
        transport.idle_scope.cancel()
        manager._server_instances.pop(session, None)
        manager._session_owners.pop(session, None)
        return True
    return False
