"""Requests as a server makes them for its callers, and people who decide, in process."""

from __future__ import annotations

import itertools
from typing import Any

from pegboard.core.approval import Action, Answer, Ask, Kind, Preview, Requirement
from pegboard_hub.approvals.model import Request
from pegboard_hub.ledger.channels import Channel
from tests.hub import approvals_rig
from tests.hub.approvals_rig import SERVER, seen
from tests.hub.company import PRESTO, Hub

DROP = {"table": "flights", "sql": "SELECT 1\n"}

_calls = itertools.count()


async def ask(
    hub: Hub,
    person: str = "ana",
    *arguments: dict[str, Any],
    by: str = "owner",
    own: bool = False,
    kind: Kind = "approval",
    preview: Preview | None = None,
    call_id: str = "",
    tool: str = "run_query",
    surface: str = "cli",
) -> Answer:
    """What prod/presto is told when a person's call needs a yes."""
    release = hub.parts.registry.current.servers[SERVER].release
    assert release is not None
    question = Ask(
        token=await hub.token(person, surface, resource=PRESTO),
        tool=tool,
        kind=kind,
        requirement=Requirement(by=by, own=own, why="it cannot be undone"),
        policy="granted",
        policy_version="1f0c",
        actions=tuple(Action(arguments=each, preview=preview) for each in arguments or (DROP,)),
        call_id=call_id or f"call-{next(_calls)}",
        process="process-1",
    )
    return await hub.parts.approvals.ask(Channel(server=SERVER, release=release.digest), question)


async def ids(hub: Hub, person: str = "ana", *arguments: dict[str, Any], **more: Any) -> list[str]:
    """The ids of what is asked for."""
    return [told.id for told in (await ask(hub, person, *arguments, **more)).actions]


async def look(hub: Hub, id_: str) -> Request:
    """A request as it is now."""
    return await seen(hub.parts.approvals, id_)


async def decide(hub: Hub, person: str, *ids: str, approve: bool = True, why: str = "as agreed") -> None:
    """Decide as a person in their browser does."""
    await approvals_rig.decide(hub.parts.approvals, person, *ids, approve=approve, why=why)
