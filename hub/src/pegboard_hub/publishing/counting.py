"""How a release does beside the one before, counted from the ledger now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.manifest import Rollout
from pegboard_hub.publishing import watching
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.rollout import Deployment, Stage
from pegboard_hub.publishing.watching import Compared

COUNT_S: Final = 2.0
"""Seconds between two counts of one watch window."""


class Counting:
    """What was counted last of each server that is watched."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, Compared]] = {}

    async def compare(
        self,
        connection: AsyncConnection,
        now: Deployment,
        known: Mapping[str, Deployable],
        rollout: Rollout,
        at: int,
    ) -> Compared | None:
        """How the newer release does beside the older one; None where nobody watches.

        Args:
            connection: reads the ledger.
            now: the deployment.
            known: releases by submission.
            rollout: what its manifest allows.
            at: milliseconds since the epoch.
        """
        if now.stage not in (Stage.STEPPING, Stage.WATCHING):
            self._counted.pop(now.server, None)
            return None
        newer, older = (now.candidate, now.live) if now.stage is Stage.STEPPING else (now.live, now.previous)
        after, before = known.get(newer or ""), known.get(older or "")
        if after is None or before is None:
            return None
        counted_at, compared = self._counted.get(now.server, (0, None))
        if compared is not None and counted_at >= now.updated_at_ms and at - counted_at < COUNT_S * 1000:
            return compared
        since, lately = now.since_ms, now.since_ms - watching.BEFORE_MS
        until = at + 1 if now.stage is Stage.STEPPING else since
        compared = watching.compare(
            await watching.figures(connection, now.server, after.release, since, at + 1, at),
            await watching.figures(connection, now.server, before.release, lately, until, at),
            rollout,
            await watching.only_caller(connection, now.server, lately),
        )
        self._counted[now.server] = (at, compared)
        return compared
