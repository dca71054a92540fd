"""Registries in memory to search in, and the people who do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pegboard.core.caller import Caller
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release, Snapshot
from pegboard_hub.registry.query import Query
from pegboard_hub.registry.record import record_of
from pegboard_hub.registry.search import Catalogue, Found

URL = "http://localhost:8400"
EVERYBODY = "permit (principal, action, resource);"


def policy_of(*groups: str) -> str:
    """A policy that permits these groups."""
    return "\n".join(f'permit (principal in Group::"{group}", action, resource);' for group in groups)


def server(
    name: str,
    tools: Mapping[str, str] | Iterable[str] = (),
    policies: Mapping[str, str] | None = None,
    groups: tuple[str, ...] = ("everyone",),
    surfaces: tuple[str, ...] = ("cli", "chat"),
    channels: tuple[str, ...] = (),
    services: tuple[str, ...] = (),
    lifecycle: Lifecycle = Lifecycle.LIVE,
    **manifest: Any,
) -> RegisteredServer:
    """A deployed server. `tools` are names, with the policy that each names or `open`; `get…` only read."""
    of = dict(tools) if isinstance(tools, Mapping) else dict.fromkeys(tools, "open")
    said = {"entry": "m:s", "description": "Does something", "owner": "platform", "support_channel": "#x"} | manifest
    declaration = Declaration(
        manifest=Manifest(name=name.partition("/")[2], **said),
        tools=tuple(
            ToolDeclaration(name=tool, policy=policy, read_only=tool.startswith("get")) for tool, policy in of.items()
        ),
        policies={"open": EVERYBODY, **(policies or {})},
    )
    return RegisteredServer(
        name=ServerName.parse(name),
        source="s",
        granted=Access(groups, surfaces, channels, services),
        requested=Access(),
        reason="",
        release=Release.of(declaration),
        lifecycle=lifecycle,
        first_live_at_ms=None if lifecycle in (Lifecycle.DRAFT, Lifecycle.IN_REVIEW) else 1,
        **record_of(declaration.manifest),
    )


def snapshot(*servers: RegisteredServer) -> Snapshot:
    """A registry of these."""
    return Snapshot(servers={str(each.name): each for each in sorted(servers, key=lambda one: str(one.name))})


def caller(sub: str = "ana", *groups: str, surface: str = "cli", service: bool = False, **more: Any) -> Caller:
    """A person of these groups and of `everyone`, or a service."""
    return Caller(
        sub=sub,
        sub_type="service" if service else "person",
        groups=() if service else ("everyone", *groups),
        surface="service" if service else surface,
        client_id="c",
        audience=f"{URL}/api",
        expires_at=0,
        token_id="t",
        **more,
    )


def catalogue(*servers: RegisteredServer, **more: Any) -> Catalogue:
    """A catalogue of these servers."""
    registry = snapshot(*servers)
    return Catalogue(lambda: registry, **more)


def names(found: Found) -> list[str]:
    """What a page shows, in its order."""
    return [str(hit.server.name) for hit in found.items]


def every_page(of: Catalogue, who: Caller, query: Query) -> list[Found]:
    """All pages of a query, one after the other."""
    pages = [of.find(who, query)]
    while pages[-1].next is not None:
        assert len(pages) < 1000
        pages.append(of.find(who, replace(query, cursor=pages[-1].next)))
    return pages
