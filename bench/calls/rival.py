"""What is compared: anything that answers a call of the tool `echo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ERAS = {"modern": MODERN, "legacy": LEGACY}
"""Protocol eras by the revision that stands for each: without sessions, and with them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send calls.

    Attributes:
        port: on loopback.
        path: of the MCP endpoint.
        tool: the name under which the rival offers `echo`; gateways add prefixes.
        headers: sent with every request, for example a token.
        host: what the Host header says.
    """

    port: int
    path: str = "/mcp"
    tool: str = "echo"
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = "localhost"


class Rival(Protocol):
    """One of those that are compared.

    Attributes:
        name: in results.
        label: in words, for readers.
        eras: keys of `ERAS` that it answers and that are measured.
        peer: the environment under `bench/peers/` that it needs; empty when the workspace's own is enough.
    """

    name: str
    label: str
    eras: tuple[str, ...]
    peer: str

    def start(self, folder: Path) -> None:
        """Start, with state in `folder`, and return once calls are answered."""
        ...

    def target(self) -> Target:
        """Where to call now; asked again before each measurement, because tokens end."""
        ...

    def processes(self) -> Mapping[str, list[int]]:
        """Root process ids by role. What a root starts counts with it, unless it is a root itself."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Versions of what it is made of."""
        ...

    def stop(self) -> None:
        """End every process that was started."""
        ...
