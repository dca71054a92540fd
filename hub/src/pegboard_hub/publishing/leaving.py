"""A server leaves the pipeline: the operator's file names a folder for it, and that is what serves from now on.

What was live or on its way ends, in the transaction in which the server begins to be followed. Should its releases be
submitted again one day, nothing of before comes up by itself: the first release of then begins with nothing live, and
no release of before is one to go back to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pegboard.core.publishing import State
from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing.deployment_store import FOLLOWED
from pegboard_hub.publishing.rollout import DRAIN_S, Deployment
from pegboard_hub.publishing.transitions import move
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.model import RegisteredServer

WHAT: Final = "the operator’s grants file names a folder, which is followed from now on"

_ENDS: Final = (State.LIVE, State.DEPLOYING, State.APPROVED, State.IN_REVIEW)


async def leave(changing: Changing, server: RegisteredServer) -> list[str]:
    """End what runs, and what is to, of a server whose releases are not submitted; gives the submissions that moved.

    Asked again, or of a server that never was in the pipeline, it does nothing.
    """
    connection, name, at = changing.connection, str(server.name), changing.now_ms
    now = await store.find(connection, name)
    if now.version and (now.live or now.candidate or now.previous):
        after = replace(
            Deployment(name, replicas_min=now.replicas_min, replicas_max=now.replicas_max, turn=now.turn),
            since_ms=at,
            leaving=now.live or now.candidate,
            leaving_until_ms=at + int(DRAIN_S * 1000),
        )
        await store.change(connection, now, after, at)
    if server.endpoints:
        await changing.place(name, ())
    moved = []
    for id_, state in await store.in_states(connection, name, _ENDS):
        if await move(connection, id_, state, State.SUPERSEDED, FOLLOWED, at, what=WHAT):
            moved.append(id_)
    return moved
