"""What approvals need of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.approvals.model import Request

What = Literal["requested", "expiring", "decided", "unknown"]
"""`requested`: somebody is to decide; `expiring`: they are to hurry; `decided`: the state tells how; `unknown`:
nobody knows how the action ended."""


class Announcer(Protocol):
    """Tells people of requests."""

    async def announce(self, connection: AsyncConnection, what: What, requests: Sequence[Request], /) -> None:
        """Note what is to be told, in the transaction that makes it so: once an act, with all requests of it.

        Raises:
            DBAPIError: the database does not take it; then nothing of the act is done.
        """


class _Nobody:
    async def announce(self, connection: AsyncConnection, what: What, requests: Sequence[Request], /) -> None:
        """Tell nobody."""


NOBODY_IS_TOLD: Final[Announcer] = _Nobody()
