"""May this caller use this server, or this tool? The answers are made by the core's one decide function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pegboard.core.access import Check, ServerAccess, may_reach
from pegboard.core.caller import Caller
from pegboard.core.coarse import Rules
from pegboard.core.decide import Decision, decide
from pegboard.core.refusal import Refusal
from pegboard.core.release import ToolDeclaration
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard.core.stops import Stops
from pegboard_hub.registry.approving import APPROVAL, needed
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
    stops: Stops,
    rules: Rules,
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
        stops: of callers, as the one who asks may know them.
        rules: coarse rules that can be about the server.
        arguments: the call's, by name; None leaves open what depends on them.
        scope: of the token that the call would come with.

    Raises:
        ValueError: the server is not deployed.
    """
    access = replace(server.access(public_url), stops=stops, rules=rules)
    assert server.release is not None  # noqa: S101 - access() has raised
    bound = bound_to(caller, server, public_url, scope)
    decision = decide(bound, access, server.release.governed, tool, arguments)
    if decision.refusal is None:
        return decision if tool is None else _with_approval(decision, bound, access, server, tool)
    if insider:
        return _in_full(decision)
    if decision.refusal.code != "tool_unavailable":
        return decision
    coarse = tuple(check for check in decision.checks if not check.rule.startswith(("tool", "policy:")))
    veiled = Check("tool", False, "it does not exist or you may not use it", "the pinned release and its policies")
    return Decision((*coarse, veiled), decision.refusal)


def _with_approval(
    decision: Decision, caller: Caller, access: ServerAccess, server: RegisteredServer, tool: str
) -> Decision:
    """What no rule refuses, and still never runs: a service does not wait for people, as the server itself says."""
    always = next((each for each in needed(server, tool) if each.always), None)
    if always is None or caller.sub_type == "person":
        return decision
    check = Check(APPROVAL, False, f"{always.told}; a service cannot wait for a person", always.source)
    message = f"{tool} must be approved by a person, and a service cannot wait for one. {access.ask}"
    refusal = Refusal("approval_impossible", message, "server", "approval_impossible", access.ask)
    return Decision((*decision.checks, check), refusal)


def _in_full(decision: Decision) -> Decision:
    """With all that the owner's log says of a policy that refused, for those who may read it."""
    *before, last = decision.checks
    if not last.rule.startswith("policy:"):
        return decision
    return replace(decision, checks=(*before, last._replace(fact=decision.detail)))
