"""What the API tells of a server, its tools and its history, for the caller who asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pegboard.core.caller import Caller
from pegboard.core.decide import Decision
from pegboard.core.release import ToolDeclaration
from pegboard_hub.registry.approving import needed
from pegboard_hub.registry.explain import reaches
from pegboard_hub.registry.history import Entry
from pegboard_hub.registry.listing import Asker
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.out_of_reach import out_of_reach
from pegboard_hub.registry.releases import Outcome, Pinned
from pegboard_hub.registry.status import Health
from pegboard_hub.registry.visibility import edits, insider, owns
from pegboard_hub.web.api.etag import Version
from pegboard_hub.web.api.registry_schema import (
    CatalogueEntry,
    FieldChange,
    HistoryEntry,
    Inside,
    MyTool,
    ReleaseEntry,
    ReviewOutcome,
    ServerDetail,
    ToolDetail,
    YourPart,
)
from pegboard_hub.web.api.schema import AccessLists, NeededApproval
from pegboard_hub.web.knowing import looks_after, stop_told
from pegboard_hub.web.parts import Parts


def approvals(server: RegisteredServer, tool: str | None, decision: Decision) -> list[NeededApproval]:
    """What a call waits for; nothing is told of a tool that may not be called."""
    if tool is None or not decision.allowed:
        return []
    return [
        NeededApproval(
            **each.requirement.model_dump(include={"by", "own", "expires_s", "source", "why"}),
            asked=each.asked,
            always=each.always,
        )
        for each in needed(server, tool)
    ]


def version_for(parts: Parts, caller: Caller, server: RegisteredServer) -> Version | None:
    """The server's version, for those who may see every change that it counts."""
    return Version(str(server.name), server.version) if looks_after(parts, caller, server) else None


def _told(parts: Parts, caller: Caller, server: RegisteredServer, health: Health) -> dict[str, Any]:
    """What a list and the whole of a server tell alike."""
    return {
        "server": str(server.name),
        "title": server.title,
        "description": server.description,
        "owner": server.owner,
        "support_channel": server.support_channel,
        "sensitivity": server.sensitivity,
        "release": server.release.digest if server.release else None,
        "semver": server.semver,
        "lifecycle": server.lifecycle.value,
        "lifecycle_why": server.lifecycle_why,
        "ends_at": server.ends_at_ms,
        "successor": server.successor,
        "status": health.state,
        "status_since": health.since_ms,
        "status_why": health.why,
        "stopped": stop_told(parts, caller, server),
        "resource_url": server.name.resource_url(parts.public_url),
    }


def entry(
    parts: Parts, asker: Asker, server: RegisteredServer, health: Health, *, usable: bool | None = None
) -> CatalogueEntry:
    """One server of a list, without its tools. `usable` is worked out where it is not told."""
    if usable is None:
        usable = reaches(asker.caller, server, parts.public_url)
    return CatalogueEntry(**_told(parts, asker.caller, server, health), usable=usable, tools=[])


def detail(parts: Parts, caller: Caller, server: RegisteredServer, reviews: Iterable[Outcome]) -> ServerDetail:
    """Everything of a server."""
    whole, health = looks_after(parts, caller, server), parts.status.read().standing(server)
    reviews = tuple(reviews)
    inside = Inside(
        version=server.version,
        updated_at=server.updated_at_ms,
        requested=lists(server.requested),
        waiting=server.waiting.digest if server.waiting else None,
    )
    return ServerDetail(
        **_told(parts, caller, server, health),
        out_of_reach=out_of_reach(server, reviews, parts.public_url),
        links=dict(server.links),
        gallery=server.gallery,
        uses_models=server.uses_models,
        granted=lists(server.granted, whole=whole),
        reviews=[_outcome(each, whole=whole) for each in reviews],
        first_live_at=server.first_live_at_ms,
        you=YourPart(
            usable=reaches(caller, server, parts.public_url),
            owner=owns(caller, server),
            insider=insider(caller, server),
            may_edit=edits(parts.reviewing.rights.roles, caller, server),
        ),
        inside=inside if whole else None,
    )


def lists(access: Access, *, whole: bool = True) -> AccessLists:
    """Access as JSON has it; only what everybody may know where it is not for the whole of it."""
    return AccessLists(
        groups=list(access.groups),
        surfaces=list(access.surfaces),
        channels=list(access.channels) if whole else None,
        services=list(access.services) if whole else None,
    )


def _outcome(outcome: Outcome, *, whole: bool) -> ReviewOutcome:
    return ReviewOutcome(
        kind=outcome.kind,
        state=outcome.state,
        opened_at=outcome.opened_at_ms,
        decided_at=outcome.decided_at_ms,
        decided_by=outcome.decided_by,
        why=outcome.why if whole else None,
        conditions=outcome.conditions if whole else None,
    )


def tool_in_list(tool: ToolDeclaration, server: RegisteredServer) -> dict[str, Any]:
    """The fields of a `ToolSummary`."""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "minutes_saved": tool.minutes_saved,
        "stopped": server.stopped_tools.get(tool.name, ""),
    }


def tool_detail(tool: ToolDeclaration, server: RegisteredServer) -> ToolDetail:
    """A tool with all that its author declared."""
    shown = {name: getattr(tool, name, None) for name in ToolDetail.model_fields if name != "stopped"}
    return ToolDetail(**shown, stopped=server.stopped_tools.get(tool.name, ""))


def my_tool(parts: Parts, tool: ToolDeclaration, server: RegisteredServer) -> MyTool:
    """A tool in a list across servers."""
    return MyTool(
        **tool_in_list(tool, server),
        policy=tool.policy,
        read_only=tool.read_only,
        server=str(server.name),
        lifecycle=server.lifecycle.value,
        lifecycle_why=server.lifecycle_why,
        ends_at=server.ends_at_ms,
        successor=server.successor,
        resource_url=server.name.resource_url(parts.public_url),
    )


def tools_digest(tools: Iterable[ToolDeclaration]) -> str:
    """What a client can make of what it was listed, to hear whether it is still so."""
    told = [
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        for tool in sorted(tools, key=lambda tool: tool.name)
    ]
    return hashlib.sha256(_canonical(told).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def release_entry(server: RegisteredServer, pinned: Pinned) -> ReleaseEntry:
    """One release of a server's list."""
    return ReleaseEntry(
        digest=pinned.digest,
        semver=pinned.semver,
        state=_state(server, pinned),
        seen_at=pinned.seen_at_ms,
        approved_at=pinned.approved_at_ms,
        deployed_at=pinned.deployed_at_ms,
    )


def _state(server: RegisteredServer, pinned: Pinned) -> Any:
    if server.release is not None and server.release.digest == pinned.digest:
        return "deployed"
    if server.waiting is not None and server.waiting.digest == pinned.digest:
        return "waiting"
    return "earlier" if pinned.deployed_at_ms is not None else "not approved"


def history_entry(parts: Parts, caller: Caller, server: RegisteredServer, told: Entry) -> HistoryEntry:
    """One change, of which `visibility.told_history` left what the caller may read."""
    knows = looks_after(parts, caller, server)
    return HistoryEntry(
        seq=told.seq,
        at=told.at_ms,
        server=told.server,
        version=told.version if knows else None,
        actor=told.actor,
        actor_kind=told.actor_kind,
        action=told.action,
        why=told.why if knows or told.why else None,
        fields=[FieldChange(field=name, before=was, after=now) for name, (was, now) in told.fields.items()],
    )
