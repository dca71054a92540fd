"""Whether, and from where, a server is open to the person who looks."""

from __future__ import annotations

from dataclasses import replace

from pegboard.core.access import decide_access
from pegboard.core.caller import Caller
from pegboard_hub.registry.explain import bound_to
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.knowing import listed
from pegboard_hub.web.pages.frame import Frame
from pegboard_hub.web.parts import Parts


def refusal(parts: Parts, frame: Frame, server: RegisteredServer, surfaces: tuple[str, ...]) -> str:
    """Why a server is not open to somebody; empty where it is, where nobody looks, and where it is open to nobody."""
    if frame.viewer is None or surfaces or not server.reachable:
        return ""
    unstopped = replace(server.access(parts.public_url), stopped="")
    refused = decide_access(bound_to(frame.caller, server, parts.public_url), unstopped).refusal
    return refused.message if refused else ""


def listed_anywhere(
    parts: Parts, caller: Caller, server: RegisteredServer, surfaces: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """From which of `surfaces` each tool is listed; without those that are listed nowhere."""
    found: dict[str, tuple[str, ...]] = {}
    for surface in surfaces:
        for tool in listed(parts, caller, server, surface):
            found[tool.name] = (*found.get(tool.name, ()), surface)
    return found
