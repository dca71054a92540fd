"""A decision told as a walk: every layer that a call meets, in order, up to where it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pegboard.core.access import METHOD_CHECK, RULES, STOPS_SOURCE, Check
from pegboard.core.coarse import RULE_MEND, RULES_SOURCE
from pegboard.core.decide import STEP_UP, Decision
from pegboard.core.methods import CALL
from pegboard.core.refusal import Layer
from pegboard_hub.registry.approving import APPROVAL, needed
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import ServerState

Outcome = Literal["holds", "fails", "depends", "not reached"]


class Step(NamedTuple):
    """One step of the walk.

    Attributes:
        layer: who looks at it.
        rule: its name; that of a `Check` where the core decides it.
        outcome: `depends`: it cannot be said without the call: its token, arguments or approval; `not reached`: an
            earlier step fails, and nothing is told of this one.
        fact: what decided.
        source: where the rule comes from.
        ask: whom to ask, or what to do, where it fails.
    """

    layer: Layer
    rule: str
    outcome: Outcome
    fact: str = ""
    source: str = ""
    ask: str = ""


def walk(decision: Decision, server: RegisteredServer, tool: str | None, state: ServerState, url: str) -> list[Step]:
    """The steps of `decision`.

    Args:
        decision: what `explain` answered; it is already veiled for those who may not know.
        server: a deployed server.
        tool: None where the server alone was asked about.
        state: how its process is doing now.
        url: the server's own, which is also what a token must be bound to.
    """
    steps: list[Step] = []
    open_so_far = True
    for step in _all(decision, server, tool, state, url):
        steps.append(step if open_so_far else Step(step.layer, step.rule, "not reached"))
        open_so_far = open_so_far and step.outcome != "fails"
    return steps


def _all(
    decision: Decision, server: RegisteredServer, tool: str | None, state: ServerState, url: str
) -> Iterator[Step]:
    checks = {check.rule: check for check in decision.checks}
    bundled = server.bundled()
    ask = f"Ask {bundled.owner} in {bundled.support_channel}."
    release = f"the pinned release {bundled.release[:12]}"
    yield Step("edge", "route", "holds", f"{url} is a deployed server", release)
    yield Step("edge", "token", "depends", _TOKEN, "built in: MCP authorization", _SIGN_IN)
    for rule in RULES:
        yield _told("edge", rule.name, checks.get(rule.name), rule.mend or ask)
    if tool is not None:
        unruled = Check(METHOD_CHECK, True, f"no rule refuses {CALL}", RULES_SOURCE)
        yield _told("edge", METHOD_CHECK, checks.get(METHOD_CHECK, unruled), RULE_MEND)
    outcome, fact = _LIVENESS[state]
    yield Step("edge", "server", outcome, fact, "the reports of supervisor and prober", _PLATFORM)
    yield Step("server", "gate", "holds", _GATE, "built in: the server trusts the token, not the edge", ask)
    if tool is None:
        return
    named = Check("tool", True, f"{server.name} has {tool}", release)
    yield _told("server", "tool", checks.get("tool", named), ask)
    if "tool:service" in checks:
        yield _told("server", "tool:service", checks["tool:service"], ask)
    wide = Check("tool:scope", True, f"the token's scope lets {tool} be called", "what the token says")
    going = Check("tool:stop", True, f"{tool} is not stopped", STOPS_SOURCE)
    yield _told("server", "policy:list", checks.get("policy:list"), ask)
    where: Layer = "edge" if tool in bundled.open_tools else "server"
    yield _told(where, "tool:stop", checks.get("tool:stop", going), ask)
    yield _told("server", "tool:scope", checks.get("tool:scope", wide), STEP_UP)
    yield _told("server", "policy:call", checks.get("policy:call"), ask, open_yet=bool(decision.depends_on))
    if APPROVAL in checks:
        yield _told("server", APPROVAL, checks[APPROVAL], ask)
        return
    approvals = needed(server, tool)
    for each in approvals:
        yield Step("server", APPROVAL, "depends", each.told, each.source, _WAIT)
    if not approvals:
        yield Step("server", APPROVAL, "holds", f"no call of {tool} waits for an approval", release, ask)


def _told(layer: Layer, rule: str, check: Check | None, ask: str, open_yet: bool = False) -> Step:
    if check is None:
        return Step(layer, rule, "not reached")
    if not check.holds:
        return Step(layer, rule, "fails", check.fact, check.source, ask)
    return Step(layer, rule, "depends" if open_yet else "holds", check.fact, check.source, ask)


_TOKEN = "depends on the token sent: one of this instance's, for this server, that has not expired"  # noqa: S105
_SIGN_IN = "Sign in again; the edge's 401 says where."
_WAIT = "Make the call: the answer says where it is approved, and the same call again then runs."
_PLATFORM = "Ask the platform team: `pegboard status` shows every process."
_GATE = "the server verifies the token again and applies the rows above by its own signed bundle"

_LIVENESS: dict[ServerState, tuple[Outcome, str]] = {
    "live": ("holds", "its process is live"),
    "starting": ("depends", "its process is starting; calls wait or are answered 503"),
    "down": ("fails", "it is down; calls are answered 503, or not at all"),
    "flapping": ("depends", "it comes and goes; calls may be answered 503"),
    "unknown": ("depends", "depends on its process: nobody reports now how it is doing"),
    "not started": ("depends", "it was granted a moment ago and is about to be started"),
    "preparing": ("depends", "its release is being made; calls are answered 503 until it has started"),
    "failed": ("fails", "it could not be started; calls are answered 503"),
    "not deployed": ("fails", "it is not deployed"),
}
