"""What a message says: enough to know that one is wanted and where to look, and nothing that one could act with.

No argument of a call is in it, no reason, no preview: those are shown where the person is known who reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pegboard.core.approval import CALLER
from pegboard_hub.notify.settings import Event

MOST_NAMED: Final = 100
"""Requests that one message names; of more it says how many there are."""

PAGES: Final = "/approvals"

TEST: Final = "pegboard.test"


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of one request, and all that is.

    Attributes:
        id: of the request.
        state: as `core.approval.State` has it.
        person: who asked, by id; `person_name` as people know them, by their e-mail address where one is known.
        server: `namespace/name`.
        tool: that is to run.
        by: who decides: `caller`, `owner` or a group, as the requirement says.
        group: whose people decide; empty where the caller does.
        requested_at_ms, expires_at_ms: milliseconds since the epoch.
        decided_by: who decided, by id, and `decided_by_name`; empty before.
    """

    id: str
    state: str
    person: str
    server: str
    tool: str
    by: str
    group: str
    requested_at_ms: int
    expires_at_ms: int
    decided_by: str = ""
    person_name: str = ""
    decided_by_name: str = ""


def together(notices: Iterable[Notice]) -> list[list[Notice]]:
    """The notices of one act in the parts that are told as one: who asks what of whom, and who decided it how."""
    parts: dict[tuple[str, ...], list[Notice]] = {}
    for each in notices:
        key = (each.person, each.server, each.tool, each.by, each.group, each.state, each.decided_by)
        parts.setdefault(key, []).append(each)
    return list(parts.values())


def body(event: Event, notices: Sequence[Notice], at_ms: int, public_url: str) -> str:
    """The body of a message (Standard Webhooks, "Payload structure"), in ASCII whatever names are made of."""
    first = notices[0]
    data = {
        "count": len(notices),
        "requests": [each.id for each in notices[:MOST_NAMED]],
        "state": first.state,
        "server": first.server,
        "tool": first.tool,
        "person": first.person,
        "person_name": first.person_name or first.person,
        "asks": CALLER if first.by == CALLER else first.group,
        "requested_at": moment(min(each.requested_at_ms for each in notices)),
        "expires_at": moment(min(each.expires_at_ms for each in notices)),
        **(_decided(first) if first.decided_by else {}),
        "page": page(notices, public_url),
    }
    return _document(f"approval.{event}", at_ms, data)


def _decided(notice: Notice) -> dict[str, str]:
    return {"decided_by": notice.decided_by, "decided_by_name": notice.decided_by_name or notice.decided_by}


def trial(destination: str, at_ms: int, public_url: str) -> str:
    """The body of a message that tells of nothing."""
    return _document(TEST, at_ms, {"destination": destination, "page": public_url + PAGES})


def page(notices: Sequence[Notice], public_url: str) -> str:
    """Where people look, of several with the others beside the first: it asks whoever opens it who they are."""
    return f"{public_url}{PAGES}/{notices[0].id}"


def moment(at_ms: int) -> str:
    """A time in RFC 3339, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _document(kind: str, at_ms: int, data: object) -> str:
    return json.dumps({"type": kind, "timestamp": moment(at_ms), "data": data}, separators=(",", ":"))
