"""From where a caller asks, and what the answers to questions about servers share."""

from __future__ import annotations

from dataclasses import replace

from pegboard.core.caller import Caller
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import Health, RuntimeStatus
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.web.parts import Parts

LONGEST_TEXT = 200


def at(caller: Caller, surface: str | None) -> Caller:
    """The caller as if they called from a surface; a service calls from its own alone."""
    if surface is None or surface == caller.surface or caller.sub_type != "person":
        return caller
    return replace(caller, surface=surface, channel=None)


def roles_of(parts: Parts) -> Roles:
    """Who looks after the instance and who reviews, as the operator's files say now."""
    return Roles.of(parts.identity.clients.rules.operators, parts.registry.reviews)


def health_of(status: RuntimeStatus, server: RegisteredServer) -> Health:
    """How a server is doing; one that cannot be called is not deployed, whatever still runs."""
    return status.health(server) if server.reachable else Health("not deployed", None, "", None)
