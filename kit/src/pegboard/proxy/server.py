"""A project with a `[proxy]` as the kit's own `Server`: pinned tools, and what their owner says of them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult, ToolAnnotations

from pegboard.core.errors import DeclarationError
from pegboard.core.manifest import Manifest
from pegboard.core.pins import FILE_NAME, PinnedTool, Pins, read_pins
from pegboard.core.proxied import Proxy, ProxyTool
from pegboard.declare import authorize_tool, confirm, requires_approval, saves
from pegboard.proxy.backend import Backend
from pegboard.proxy.starting import Launch
from pegboard.proxy.tools import proxied_tool
from pegboard.server import DeclaredTool, Server

logger = logging.getLogger(__name__)

OWN_FOLDER: Final = "backend"
"""Folder, within the process' own working folder, that the backend may change."""


@dataclass(frozen=True, slots=True)
class PinnedDeclaration(DeclaredTool):
    """A pinned tool with what its owner says of it."""

    build: Callable[[], Tool]

    def sdk_tool(self) -> Tool:
        """The SDK's tool."""
        return self.build()


class ProxiedServer(Server):
    """A server whose tools are a backend's."""

    def __init__(self, folder: Path, manifest: Manifest, pins: Pins) -> None:
        """Declare the pinned tools. Nothing is started before the server runs.

        Raises:
            DeclarationError: manifest and pins do not fit each other.
        """
        super().__init__(instructions=pins.instructions, lifespan=self._running)
        assert manifest.proxy is not None  # noqa: S101 - callers look at it first
        self._folder = folder
        self._manifest = manifest
        self._pins = pins
        self._backend: Backend | None = None
        self.caller: Callable[[], Mapping[str, Any] | None] = lambda: None
        if problems := list(_problems(manifest.proxy, pins)):
            raise DeclarationError(*problems)
        for pinned in pins.tools:
            told = manifest.proxy.told(pinned.name)
            if told.serve:
                self.tools.append(self._declared(pinned, told, manifest.proxy))

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> ProxiedServer:
        """The server of the project in `folder`.

        Raises:
            ConfigurationError: there are no pins, or they cannot be read.
            DeclarationError: manifest and pins do not fit each other.
        """
        return cls(folder, manifest, read_pins(folder))

    def blocked(self, tool: str) -> str:
        """Why a tool is not called now though it is declared, in words that follow its name; empty where it is."""
        return self._backend.difference.blocked.get(tool, "") if self._backend is not None else ""

    def _declared(self, pinned: PinnedTool, told: ProxyTool, proxy: Proxy) -> DeclaredTool:
        hints = _hints(pinned, told)

        def build() -> Tool:
            return proxied_tool(pinned, hints, self._call, self._caller)

        function = _noted(pinned.name, told, proxy)
        return PinnedDeclaration(function, {"name": pinned.name}, build)

    async def _call(
        self, name: str, arguments: dict[str, Any], progress: ProgressFnT | None, meta: dict[str, Any] | None
    ) -> CallToolResult:
        if self._backend is None:
            raise ToolError(f"{name} was not run: this server is not running.")
        if why := self.blocked(name):  # also of whoever calls past the chain, as smoke calls do
            raise ToolError(f"{name} was not run: it {why}.")
        caller = self.caller() or {}
        return await self._backend.call(name, arguments, progress, meta, f"{caller.get('kind')} {caller.get('sub')}")

    def _caller(self) -> Any:
        assert self._manifest.proxy is not None  # noqa: S101 - since it was made
        return self.caller() if self._manifest.proxy.tell_caller else None

    @asynccontextmanager
    async def _running(self, _server: object) -> AsyncIterator[None]:
        launch = Launch(self._folder, Path.cwd() / OWN_FOLDER, _secrets(self._manifest))
        self._backend = Backend(self._manifest, self._pins, launch)
        try:
            async with self._backend.running():
                yield
        finally:
            self._backend = None


def _secrets(manifest: Manifest) -> dict[str, str]:
    return {name: os.environ[name] for name in manifest.secrets if name in os.environ}


def _hints(pinned: PinnedTool, told: ProxyTool) -> ToolAnnotations:
    def either(own: bool | None, theirs: bool | None) -> bool | None:
        return own if own is not None else theirs

    return ToolAnnotations(
        read_only_hint=either(told.read_only, pinned.read_only),
        destructive_hint=either(told.destructive, pinned.destructive),
        idempotent_hint=either(told.idempotent, pinned.idempotent),
        open_world_hint=either(told.open_world, pinned.open_world),
    )


def _noted(name: str, told: ProxyTool, proxy: Proxy) -> Callable[..., Any]:
    """A function that carries what decorators would have noted; it is never called."""

    async def tool() -> None:
        raise NotImplementedError

    tool.__name__ = tool.__qualname__ = name
    policy = told.policy or proxy.policy
    assert policy is not None  # noqa: S101 - a tool without one is a problem
    noted = saves(minutes=told.minutes_saved or 0)(authorize_tool(policy=policy)(tool))
    if told.approval is not None:
        asked = told.approval
        noted = requires_approval(
            by=asked.by or None, own=asked.own, expires=asked.expires_minutes * 60, why=asked.why
        )(noted)
    return confirm(told.confirm)(noted) if told.confirm else noted


def _problems(proxy: Proxy, pins: Pins) -> Iterator[str]:
    names = [tool.name for tool in pins.tools]
    for name in proxy.tools:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"pegboard.toml says something of tool {name!a}, which {FILE_NAME} does not have{hint}"
    for name in names:
        told = proxy.told(name)
        if told.serve and not (told.policy or proxy.policy):
            yield (
                f"tool {name!a} says nothing about access: name a policy in [proxy.tools.{name}] of pegboard.toml, "
                "or write serve = false there"
            )
