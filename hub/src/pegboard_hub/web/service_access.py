"""What a service may get a token for: the rules of access, asked before there is a token."""

from __future__ import annotations

from collections.abc import Mapping

from pegboard.core.access import decide_access
from pegboard.core.caller import Caller
from pegboard.core.names import MCP_PREFIX, api_audience
from pegboard_hub.identity.leaks import leaked_kids
from pegboard_hub.identity.oauth.services import service_grant
from pegboard_hub.identity.oauth.token import SERVICE_GRANT, Grant
from pegboard_hub.telemetry import table
from pegboard_hub.web.parts import Parts


def more_grants(parts: Parts) -> Mapping[str, Grant]:
    """The token endpoint's grants for services; none where they may not call."""
    settings = parts.settings.services
    if settings is None:
        return {}

    def refused(error: str) -> None:
        parts.meter.count(table.SERVICE_TOKENS_REFUSED, error)

    return {
        SERVICE_GRANT: service_grant(
            parts.identity.issuer,
            settings,
            lambda caller: _why_not(parts, caller),
            refused,
            leaked=lambda: leaked_kids(parts.rotation.keys.home.keys),
        )
    }


async def _why_not(parts: Parts, caller: Caller) -> str:
    """Why a service gets no token; empty where it gets one.

    One that is not granted a server learns nothing of it, not even that there is one. One that is hears what else is
    in the way, as a refused caller would.
    """
    if caller.audience == api_audience(parts.public_url):
        may = await parts.publishing.may_submit(caller.sub)
        return "" if may else f"{caller.sub} is no publisher of any server; ask the owner of yours to name it"
    prefix = f"{parts.public_url}{MCP_PREFIX}"
    found = parts.registry.current.deployed(caller.audience.removeprefix(prefix))
    access = None
    if found is not None:
        rules = parts.rules.current.of(found.name).deny
        access = found.bundled().access(parts.public_url, parts.stops.current, rules)
    if access is None or access.resource_url != caller.audience or caller.sub not in access.services:
        return f"{caller.audience[:200]!r} is no server that is granted to {caller.sub}; ask its owner"
    refusal = decide_access(caller, access, "hub").refusal
    return refusal.message if refusal is not None else ""
