"""What of a request is told to others: a notice has a closed list of fields, and arguments are none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import CALLER, OWNER
from pegboard_hub.approvals.model import Request
from pegboard_hub.approvals.ports import What
from pegboard_hub.notify.message import Notice
from pegboard_hub.notify.service import Notifying

NOT_TOLD: Final = frozenset({"requested", "expiring", "decided"})
"""Of a confirmation: it is between the caller and their client. That its end is unknown is told all the same."""


class Announcing:
    """Tells destinations of requests (`approvals.ports.Announcer`).

    Args:
        notifying: keeps and sends what is told.
        owner: the team that owns a server, as the registry says now; empty where none does.
    """

    def __init__(self, notifying: Notifying, owner: Callable[[str], str]) -> None:
        self._notifying = notifying
        self._owner = owner

    async def announce(self, connection: AsyncConnection, what: What, requests: Sequence[Request]) -> None:
        """Keep what is to be told of one act, in its transaction.

        Raises:
            DBAPIError: the database does not take it.
        """
        told = [self._notice(each) for each in requests if each.kind != "confirm" or what not in NOT_TOLD]
        if told:
            await self._notifying.note(connection, what, told)

    def _notice(self, request: Request) -> Notice:
        by = request.requirement.by
        return Notice(
            id=request.id,
            state=request.state,
            person=request.person,
            server=request.server,
            tool=request.tool,
            by=by,
            group="" if by == CALLER else self._owner(request.server) if by == OWNER else by,
            requested_at_ms=request.requested_at_ms,
            expires_at_ms=request.expires_at_ms,
            decided_by=request.decided_by,
            person_name=request.person_name,
            decided_by_name=request.decided_by_name,
        )
