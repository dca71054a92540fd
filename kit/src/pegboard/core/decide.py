"""The one decide function: both layers' rules for a caller, a server and a tool, in the order a call meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pegboard.core.access import STOPS_SOURCE, Check, ServerAccess, decide_access, decide_method
from pegboard.core.caller import Caller
from pegboard.core.methods import CALL
from pegboard.core.policy import Action, Policy, PolicyDecision
from pegboard.core.refusal import Layer, Refusal, tool_unavailable
from pegboard.core.scopes import SCOPE_TOOLS, may_call


@dataclass(frozen=True, slots=True)
class GovernedTool:
    """A tool with the policy it names, ready to be decided on.

    Attributes:
        read_only: its author declares that it changes nothing.
    """

    name: str
    policy: Policy
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may go ahead, every rule looked at, and the refusal the caller would read.

    Attributes:
        detail: what the owner's log says beside the refusal.
        depends_on: arguments that were not given and decide; with them the call may still be refused.
    """

    checks: tuple[Check, ...]
    refusal: Refusal | None
    detail: str = ""
    depends_on: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """True when nothing refused."""
        return self.refusal is None


def decide_tool(
    caller: Caller,
    access: ServerAccess,
    tools: Mapping[str, GovernedTool],
    tool: str,
    action: Action,
    arguments: Mapping[str, Any] | None = None,
) -> Decision:
    """The fine rules alone, for a caller who has passed the coarse ones.

    A tool that is not listed for a caller cannot be called by that caller, whatever its policy says of `call`;
    so an unknown tool and a hidden one take the same path to the same answer.
    """
    checks: list[Check] = []
    depends_on: tuple[str, ...] = ()
    found = tools.get(tool)
    if found is None:
        checks.append(Check("tool", False, f"{access.server} has no tool {tool}", "the pinned release"))
        return Decision(tuple(checks), _unavailable(tool, access), "unknown tool")
    if caller.sub_type == "service" and not found.read_only:
        # As if there were no such tool: a service learns of what it may call, and nothing else.
        checks.append(Check("tool:service", False, _NOT_FOR_SERVICES, "what the release declares"))
        return Decision(tuple(checks), _unavailable(tool, access), _NOT_FOR_SERVICES)
    steps: tuple[Action, ...] = ("list",) if action == "list" else ("list", "call")
    for step in steps:
        if step == "call" and (why := access.stopped_tools.get(tool)):
            # Only here, past `list`: a stop and its reason are not for those from whom the tool is hidden. Before the
            # scope, which the edge does not know of a tool: it says of open tools the same (`edge/stops.py`).
            checks.append(Check("tool:stop", False, f"stopped: {why}", STOPS_SOURCE))
            return Decision(tuple(checks), stopped(tool_stop_told(tool, access), access), f"stopped: {why}")
        if step == "call" and not may_call(caller.scope, found.read_only):
            # Only here, past `list`: which tools change something is not for those from whom they are hidden.
            checks.append(Check("tool:scope", False, _too_narrow(caller), _TOKEN))
            return Decision(tuple(checks), insufficient_scope(tool, access), _too_narrow(caller))
        if step == "call" and arguments is None and found.policy.arguments:
            # Asked without arguments (explain): the policy cannot be evaluated, and a guess would contradict a call.
            depends_on = found.policy.arguments
            noun = "argument" if len(depends_on) == 1 else "arguments"
            fact = f"depends on the {noun} {' and '.join(depends_on)} of the call"
            checks.append(Check("policy:call", True, fact, _source(found.policy)))
            continue
        decision = found.policy.decide(caller, access.server, tool, step, arguments)
        checks.append(Check(f"policy:{step}", decision.allowed, decision.reason, _source(found.policy)))
        if not decision.allowed and step == "list":
            return Decision(tuple(checks), _unavailable(tool, access), _detail(decision))
        if not decision.allowed:
            return Decision(tuple(checks), _not_permitted(found, access), _detail(decision))
    return Decision(tuple(checks), None, depends_on=depends_on)


def decide(
    caller: Caller,
    access: ServerAccess,
    tools: Mapping[str, GovernedTool],
    tool: str | None,
    arguments: Mapping[str, Any] | None = None,
) -> Decision:
    """Coarse rules, then the tool's own: what a call by this caller would meet. `tool=None` asks for the server."""
    coarse = decide_access(caller, access, layer="edge")
    if coarse.refusal is not None or tool is None:
        return Decision(coarse.checks, coarse.refusal)
    method = decide_method(caller, access, CALL, layer="edge")
    if method.refusal is not None:
        return Decision(coarse.checks + method.checks, method.refusal)
    fine = decide_tool(caller, access, tools, tool, "call", arguments)
    refusal = fine.refusal
    if refusal is not None and refusal.reason == TOOL_STOPPED and tool in access.open_tools:
        refusal = stopped(tool_stop_told(tool, access), access, "edge")
    return replace(fine, checks=coarse.checks + method.checks + fine.checks, refusal=refusal)


def _unavailable(tool: str, access: ServerAccess) -> Refusal:
    return tool_unavailable(tool, access.owner, access.support_channel)


def _detail(decision: PolicyDecision) -> str:
    return ": ".join(filter(None, (decision.reason, decision.detail)))


def _source(policy: Policy) -> str:
    return f"policies/{policy.name}.cedar, version {policy.version}"


TOOL_STOPPED = "tool_stopped"
"""Reason of the refusal of a stopped tool."""

STEP_UP = f"Sign in again for the scope {SCOPE_TOOLS}."
"""What to do about a token that may only look."""

_NOT_FOR_SERVICES = "it is not declared read-only, and services get to no other tool"
_TOKEN = "what the token says"  # noqa: S105 - words


def _too_narrow(caller: Caller) -> str:
    return f"the token's scope is {caller.scope}, and the tool is not declared read-only"


def insufficient_scope(tool: str, access: ServerAccess) -> Refusal:
    """The refusal of a token that may only look, for a tool that its caller may use with a wider one."""
    return Refusal(
        code="insufficient_scope",
        message=f"Your token may only look, and {tool} of {access.server} is not declared read-only. {STEP_UP}",
        layer="server",
        reason="insufficient_scope",
        what_to_do=STEP_UP,
    )


def tool_stop_told(tool: str, access: ServerAccess) -> str:
    """What a caller of a stopped tool reads, without its full stop."""
    return f"{tool} of {access.server} is stopped: {access.stopped_tools[tool]}"


def stopped(missing: str, access: ServerAccess, layer: Layer = "server") -> Refusal:
    """The refusal of a stopped tool. `missing` is its sentence, without its full stop."""
    return Refusal(
        code="stopped",
        message=f"{missing}. {access.ask}",
        layer=layer,
        reason=TOOL_STOPPED,
        what_to_do=access.ask,
    )


def _not_permitted(tool: GovernedTool, access: ServerAccess) -> Refusal:
    how = "not with these arguments" if tool.policy.arguments else "not call it"
    return Refusal(
        code="call_not_permitted",
        message=f"You may {'use' if tool.policy.arguments else 'see'} {tool.name}, but {how}. {access.ask}",
        layer="server",
        reason="policy_denied",
        what_to_do=access.ask,
    )
