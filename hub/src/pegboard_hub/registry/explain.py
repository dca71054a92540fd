"""May this caller use this server, or this tool? The answers are made by the core's one decide function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pegboard.core.access import Check, may_reach
from pegboard.core.caller import Caller
from pegboard.core.decide import Decision, decide
from pegboard.core.release import ToolDeclaration
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard_hub.registry.listing import LISTINGS, Asker
from pegboard_hub.registry.model import RegisteredServer


def bound_to(caller: Caller, server: RegisteredServer, public_url: str, scope: str = SCOPE_TOOLS) -> Caller:
    """The caller as if with a token for this server: a token for the API is bound to the API."""
    return replace(caller, audience=server.name.resource_url(public_url), scope=scope)


def reaches(caller: Caller, server: RegisteredServer, public_url: str) -> bool:
    """Whether the server can be called, and the coarse rules let this caller reach it, were it not stopped."""
    if not server.reachable:
        return False
    return may_reach(bound_to(caller, server, public_url), replace(server.access(public_url), stopped=""))


def visible_tools(caller: Caller, server: RegisteredServer, public_url: str) -> list[ToolDeclaration]:
    """The tools this caller would find listed were the server not stopped; none where it is out of reach."""
    return LISTINGS.tools(Asker(caller), server) if reaches(caller, server, public_url) else []


def explain(
    caller: Caller,
    server: RegisteredServer,
    tool: str | None,
    public_url: str,
    *,
    insider: bool,
    arguments: Mapping[str, Any] | None = None,
    scope: str = SCOPE_TOOLS,
) -> Decision:
    """What a call by this caller would meet.

    Args:
        caller: whose call it would be.
        server: a deployed server.
        tool: None asks for the server alone.
        public_url: the edge's origin.
        insider: whether the one who asks may know tools that the caller may not. Otherwise a hidden tool and one
            that does not exist are explained in the same words.
        arguments: the call's, by name; None leaves open what depends on them.
        scope: of the token that the call would come with.

    Raises:
        ValueError: the server is not deployed.
    """
    access = server.access(public_url)
    assert server.release is not None  # noqa: S101 - access() has raised
    bound = bound_to(caller, server, public_url, scope)
    decision = decide(bound, access, server.release.governed, tool, arguments)
    if decision.refusal is None:
        return decision
    if insider:
        return _in_full(decision)
    if decision.refusal.code != "tool_unavailable":
        return decision
    coarse = tuple(check for check in decision.checks if not check.rule.startswith(("tool", "policy:")))
    veiled = Check("tool", False, "it does not exist or you may not use it", "the pinned release and its policies")
    return Decision((*coarse, veiled), decision.refusal)


def _in_full(decision: Decision) -> Decision:
    """With all that the owner's log says of a policy that refused, for those who may read it."""
    *before, last = decision.checks
    if not last.rule.startswith("policy:"):
        return decision
    return replace(decision, checks=(*before, last._replace(fact=decision.detail)))
