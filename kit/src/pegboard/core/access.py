"""The coarse rules: may this caller reach this server at all? Edge, gate, access check and explain share them.

Each rule is a row: a name, what it looks at, and how its refusal reads. A decision is the list of rows that
were looked at, in order, up to and including the first that failed. All of them must hold; an unknown server,
an empty grant and an unknown caller fail. The edge enforces the same rows compiled to Envoy's RBAC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from pegboard.core.approval import Requirement
from pegboard.core.caller import Caller
from pegboard.core.coarse import NO_RULES, RULE_MEND, RULES_SOURCE, Rules
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import ACTING_SURFACES, SERVICE, ServerName
from pegboard.core.refusal import Layer, Refusal
from pegboard.core.scopes import SCOPE_TOOLS, SERVER_SCOPES, has_server_scope
from pegboard.core.stops import ASK, CALLER_KINDS, NOTHING_STOPPED, CallerKind, Stops, told

SENSITIVE: frozenset[Sensitivity] = frozenset({"confidential", "restricted"})
"""Servers of these sensitivities refuse services, and everybody once nobody can tell whether they were stopped
(`core.bundle`)."""

OPEN_TO_SERVICES: tuple[Sensitivity, ...] = tuple(level for level in get_args(Sensitivity) if level not in SENSITIVE)
"""All other sensitivities."""


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """What edge and gate must know of one server: where it is, whose it is, what was granted, and what is stopped.

    Attributes:
        sensitivity: of its data, as its release declares; unknown counts as the highest.
        reason: who granted and why.
        stopped: why nobody may use it now; empty while it is not stopped.
        stopped_tools: tools that nobody may call now, each with why.
        open_tools: those of them that are hidden from nobody who reaches the server, so that the edge may tell why.
        stops: surfaces, people, clients and services that may call nothing now.
        rules: coarse rules that can be about it.
        approvals: what the registry requires before a tool runs, by tool. No rule of access: it refuses nobody, and a
            server asks for it behind all of them (`core.required`). The edge is not told.
    """

    server: ServerName
    owner: str
    support_channel: str
    resource_url: str
    groups: frozenset[str] = frozenset()
    surfaces: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    reason: str = field(default="", compare=False)
    sensitivity: Sensitivity = "restricted"
    stopped: str = ""
    stopped_tools: Mapping[str, str] = field(default_factory=dict, hash=False)
    open_tools: tuple[str, ...] = ()
    stops: Stops = field(default=NOTHING_STOPPED, compare=False)
    rules: Rules = NO_RULES
    approvals: Mapping[str, Requirement] = field(default_factory=dict, hash=False)

    @property
    def sensitive(self) -> bool:
        """Whether it refuses while stops cannot reach it."""
        return self.sensitivity in SENSITIVE

    @property
    def open_to_services(self) -> bool:
        """Whether a service may get there at all, if it is granted."""
        return not self.sensitive

    @property
    def ask(self) -> str:
        """Whom to ask, in words."""
        return f"Ask {self.owner} in {self.support_channel}."


class Check(NamedTuple):
    """One rule, looked at: what it said, the fact that decided, and where the rule comes from."""

    rule: str
    holds: bool
    fact: str
    source: str


class Rule(NamedTuple):
    """A coarse rule, and how its refusal reads.

    Attributes:
        missing: the sentence a refused caller reads, without its full stop.
        refused: the refusal's `reason`.
        code: the refusal's `code`.
        source: where the rule comes from; None is the grant's own reason.
        mend: what a refused caller can do; None is to ask the server's owner.
    """

    name: str
    holds: Callable[[Caller, ServerAccess], bool]
    fact: Callable[[Caller, ServerAccess], str]
    missing: Callable[[Caller, ServerAccess], str]
    refused: str
    code: str = "access_denied"
    source: str | None = None
    mend: str | None = None


def _may_by_identity(caller: Caller, access: ServerAccess) -> bool:
    if caller.sub_type == "service":
        return caller.sub in access.services
    return not access.groups.isdisjoint(caller.groups)


def _on_its_surface(caller: Caller) -> bool:
    """A service calls from `service`, and nobody else does."""
    return (caller.sub_type == "service") == (caller.surface == SERVICE)


def _acting(caller: Caller) -> str:
    """Who acts for a person, in words."""
    return f", where {caller.act} acts for {caller.sub}" if caller.act and caller.surface in ACTING_SURFACES else ""


def _names(values: frozenset[str] | tuple[str, ...]) -> str:
    return ", ".join(sorted(values)) or "none"


_OR = " or "


def _caller_stop(kind: CallerKind) -> Rule:
    """The rule that a stop of this kind is: it looks at the caller alone, whatever the server."""

    def fact(caller: Caller, access: ServerAccess) -> str:
        why = access.stops.why(kind, caller)
        return f"stopped: {why}" if why else f"no stop of a {kind} is for this caller"

    return Rule(
        f"{kind}-stop",
        lambda caller, access: not access.stops.why(kind, caller),
        fact,
        lambda caller, access: told(kind, access.stops.why(kind, caller)),
        f"{kind}_stopped",
        code="stopped",
        source=STOPS_SOURCE,
        mend=ASK,
    )


def _no_rule_refuses(caller: Caller, access: ServerAccess) -> bool:
    return not access.rules.deny or access.rules.refusing(caller, access.server) is None


def _rule_fact(caller: Caller, access: ServerAccess) -> str:
    rule = access.rules.refusing(caller, access.server)
    return f"rule {rule.name} refuses it: {rule.why}" if rule else "no rule refuses it whatever the method"


def _rule_told(caller: Caller, access: ServerAccess) -> str:
    rule = access.rules.refusing(caller, access.server)
    return rule.told if rule else ""


RULE_DENIED = "rule_denied"
"""Code and reason of the refusal by a coarse rule."""

STOPS_SOURCE = "the list of stops"
"""Where a stop is from, in words: somebody stopped it, or the operator's grants file says so."""

RULES: tuple[Rule, ...] = (
    Rule(
        "audience",
        lambda caller, access: caller.audience == access.resource_url,
        lambda caller, access: f"the token is bound to {caller.audience}",
        lambda caller, access: f"Your token is bound to another server than {access.server}",
        "token_wrong_audience",
        source="what the token says",
    ),
    Rule(
        "scope",
        lambda caller, _: has_server_scope(caller.scope),
        lambda caller, _: f"the token's scope is {caller.scope or 'empty'}; servers want {_OR.join(SERVER_SCOPES)}",
        lambda _, access: f"Your token's scope does not let it use {access.server}",
        "insufficient_scope",
        code="insufficient_scope",
        source="what the token says",
        mend=f"Sign in again for the scope {SCOPE_TOOLS}.",
    ),
    Rule(
        "surface",
        lambda caller, access: caller.surface in access.surfaces and _on_its_surface(caller),
        lambda caller, access: (
            f"called from {caller.surface}{_acting(caller)}; granted are {_names(access.surfaces)}"
            if _on_its_surface(caller)
            else f"a {caller.sub_type} does not call from {caller.surface}"
        ),
        lambda caller, access: f"{access.server} may not be used from {caller.surface}",
        "surface_not_granted",
    ),
    Rule(
        "channel",
        lambda caller, access: caller.surface != "bot" or caller.channel in access.channels,
        lambda caller, access: (
            f"channel is {caller.channel or 'none'}; granted to bots are {_names(access.channels)}"
        ),
        lambda caller, access: f"{access.server} may not be used by bots in channel {caller.channel or 'none'}",
        "channel_not_granted",
    ),
    Rule(
        "group",
        _may_by_identity,
        lambda caller, access: (
            f"{caller.sub} is in {_names(caller.groups)}; granted are {_names(access.groups)}"
            if caller.sub_type == "person"
            else f"service {caller.sub}; granted services are {_names(access.services)}"
        ),
        lambda caller, access: f"{access.server} is not granted to any of your groups",
        "group_not_granted",
    ),
    # A call without a human in the loop is for data that is no secret within the company (decision 34).
    Rule(
        "sensitivity",
        lambda caller, access: caller.sub_type != "service" or access.open_to_services,
        lambda caller, access: (
            "it does not matter for people"
            if caller.sub_type != "service"
            else f"its data is {access.sensitivity}; services get to {' and '.join(OPEN_TO_SERVICES)} data alone"
        ),
        lambda caller, access: f"{access.server} has sensitive data, to which no service gets",
        "sensitive_server",
        source="what its release declares",
    ),
    # After what is granted: who may use nothing here learns no more of it than before.
    *(_caller_stop(kind) for kind in CALLER_KINDS),
    # What security refuses of that which was granted; rules of single methods come with the request's body
    # (`decide_method`).
    Rule(
        "rule",
        _no_rule_refuses,
        _rule_fact,
        _rule_told,
        RULE_DENIED,
        code=RULE_DENIED,
        source=RULES_SOURCE,
        mend=RULE_MEND,
    ),
    # The last: why a server is stopped is for those who could use it otherwise.
    Rule(
        "stop",
        lambda caller, access: not access.stopped,
        lambda caller, access: f"stopped: {access.stopped}" if access.stopped else "it is not stopped",
        lambda caller, access: f"{access.server} is stopped: {access.stopped}",
        "server_stopped",
        code="stopped",
        source=STOPS_SOURCE,
    ),
)
"""The table. The edge compiles the rows by these names (`pegboard_hub.edge.rules`); a test holds both to it."""


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Whether a caller may reach a server, with every rule that was looked at."""

    checks: tuple[Check, ...]
    refusal: Refusal | None

    @property
    def allowed(self) -> bool:
        """True when every rule holds."""
        return self.refusal is None


def decide_access(caller: Caller, access: ServerAccess, layer: Layer = "server") -> AccessDecision:
    """Apply the coarse rules in order; the first that does not hold refuses."""
    granted = access.reason or "the operator's grants"
    checks: list[Check] = []
    for rule in RULES:
        holds = rule.holds(caller, access)
        checks.append(Check(rule.name, holds, rule.fact(caller, access), rule.source or granted))
        if not holds:
            return AccessDecision(tuple(checks), refusal_by(rule, caller, access, layer))
    return AccessDecision(tuple(checks), None)


def may_reach(caller: Caller, access: ServerAccess) -> bool:
    """`decide_access` without the words, for the path of every call."""
    return all(rule.holds(caller, access) for rule in RULES)


def refusal_by(rule: Rule, caller: Caller, access: ServerAccess, layer: Layer) -> Refusal:
    """The refusal that says that `rule` does not hold."""
    missing, mend = rule.missing(caller, access), rule.mend or access.ask
    return Refusal(
        code=rule.code,
        message=f"{missing}. {mend}",
        layer=layer,
        reason=rule.refused,
        what_to_do=mend,
    )


def decide_method(caller: Caller, access: ServerAccess, method: str, layer: Layer = "server") -> AccessDecision:
    """May a caller who passed the rows above send a request of this method of MCP?"""
    rule = access.rules.refusing_method(caller, access.server, method)
    if rule is None:
        return AccessDecision((Check(METHOD_CHECK, True, f"no rule refuses {method}", RULES_SOURCE),), None)
    check = Check(METHOD_CHECK, False, f"rule {rule.name} refuses {method}: {rule.why}", RULES_SOURCE)
    return AccessDecision((check,), refused_method(rule.told_of(method), layer))


METHOD_CHECK = "method"
"""Name of the check of `decide_method`."""


def refused_method(told: str, layer: Layer) -> Refusal:
    """The refusal of a method, in this sentence without its full stop."""
    return Refusal(RULE_DENIED, f"{told}. {RULE_MEND}", layer, RULE_DENIED, RULE_MEND)
