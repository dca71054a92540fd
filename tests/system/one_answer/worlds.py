"""Generated worlds: people, services, grants and policies, and calls within them, in words that a person can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from pegboard.core.names import PERSON_SURFACES, SURFACES
from tests.system.one_answer.policies import GROUPS, SERVICES, PolicyFile, Seen, policy_files

CHANNELS = ("#data-help", "airflow", 'say "hi" 100%', "zürich")
PEOPLE = ("ana", "fay", "gus")
SERVERS = ("dev/atlas", "prod/atlas", "prod/ledger")
TOOLS = ("count", "erase", "look")
READ_ONLY = ("count", "look")
"""Those of the tools that are declared to change nothing."""

LIFECYCLES = ("live", "deprecated", "draft", "in review", "waiting", "approved", "retired")
"""Where a server can stand; `waiting`: in review, with the release that waits. Only the first two can be called."""

NO_TOOL = "no_such_tool"
SECURITY = "sec"
"""A person of every world who is in the group `security`, and so may ask about everybody."""


@dataclass(frozen=True)
class Grant:
    """What the operator grants one server, what is stopped of it, with why, and where it stands."""

    groups: tuple[str, ...]
    surfaces: tuple[str, ...]
    channels: tuple[str, ...]
    services: tuple[str, ...]
    stopped: str
    stopped_tools: tuple[str, ...]
    lifecycle: str
    sensitivity: str

    @property
    def reachable(self) -> bool:
        return self.lifecycle in LIFECYCLES[:2]


@dataclass(frozen=True)
class CoarseRule:
    """One rule of security's. What is empty holds everywhere; namespaces and servers are one list of places."""

    name: str
    surfaces: tuple[str, ...]
    namespaces: tuple[str, ...]
    servers: tuple[str, ...]
    methods: tuple[str, ...]
    groups: tuple[str, ...]
    except_groups: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rule as the file has it."""
        lists = {name: value for name, value in vars(self).items() if name != "name" and value}
        lines = [f"{name} = {json.dumps(value)}" for name, value in lines_of(lists)]
        return "\n".join((f"[rules.{self.name}]", 'effect = "deny"', *lines, f"why = {json.dumps(WHY)}", ASK, ""))

    def refuses(self, call: Call, groups: tuple[str, ...]) -> bool:
        """Whether it is about this call, as far as the method does not decide."""
        places = (*self.namespaces, *self.servers)
        return (
            (not self.surfaces or call.surface in self.surfaces)
            and (not places or call.server.partition("/")[0] in places or call.server in places)
            and (not self.groups or bool(set(groups) & set(self.groups)))
            and not set(groups) & set(self.except_groups)
        )


ASK = "ask = 'security in #sec \"help\" 100%'"


def lines_of(lists: Mapping[str, tuple[str, ...]]) -> list[tuple[str, list[str]]]:
    return [(name, list(values)) for name, values in lists.items()]


@dataclass(frozen=True, repr=False)
class Call:
    """One call. `person` and `service` exclude each other."""

    server: str
    tool: str
    arguments: Mapping[str, Any]
    surface: str
    person: str | None = None
    service: str | None = None
    channel: str | None = None
    scope: str = "tools"

    @property
    def sub(self) -> str:
        return str(self.person or self.service)

    def to(self, tool: str) -> Call:
        """The same call of another tool."""
        return replace(self, tool=tool)

    def __repr__(self) -> str:
        where = f"{self.surface} in {self.channel}" if self.channel else self.surface
        token = "" if self.scope == "tools" else f", with {self.scope!r},"
        return f"{self.sub} from {where}{token} calls {self.server} {self.tool} {json.dumps(self.arguments)}"


@dataclass(frozen=True, repr=False)
class World:
    """Everything that decides.

    Attributes:
        people: the groups of each person.
        grants: by server.
        policies: of each tool, by server and tool.
        calls: what is tried.
        rules: what security refuses.
    """

    people: Mapping[str, tuple[str, ...]]
    grants: Mapping[str, Grant]
    policies: Mapping[str, Mapping[str, PolicyFile]]
    calls: tuple[Call, ...]
    rules: tuple[CoarseRule, ...] = ()

    def __repr__(self) -> str:
        return f"a world of {len(self.grants)} servers and {len(self.calls)} calls"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """How Hypothesis shows a world that fails; what matters of it, `around` says."""
        printer.text(repr(self))

    def around(self, call: Call) -> str:
        """What of this world decides on one call, for a person to read."""
        groups = ", ".join(self.groups(call)) or "no group"
        policy = self.policies[call.server].get(call.tool)
        who, granted = f"{call.sub} is in {groups}", f"{call.server} has {self.grants[call.server]}"
        ruled = "\n".join(map(str, self.rules)) or "there are no rules"
        return "\n".join((str(call), who, granted, ruled, f"{call.tool}: {policy.text if policy else 'is no tool'}"))

    def groups(self, call: Call) -> tuple[str, ...]:
        """The groups of whoever calls."""
        return self.people.get(call.sub, ())

    def rules_out(self, call: Call, method: str) -> bool:
        """Whether a rule refuses a request of this method."""
        about = [rule for rule in self.rules if rule.refuses(call, self.groups(call))]
        return any(not rule.methods or method in rule.methods for rule in about)

    def reads_arguments(self, call: Call) -> bool:
        """Whether the policy of the called tool declares arguments."""
        policy = self.policies[call.server].get(call.tool)
        return policy is not None and policy.reads

    def answer(self, call: Call) -> str:
        """What the design says of this call: `allowed`, or a refusal's reason. It shares nothing with the product."""
        grant, policy = self.grants[call.server], self.policies[call.server].get(call.tool)
        if not grant.reachable:
            return "unknown_server"
        if not {"tools", "tools:read"} & set(call.scope.split(" ")):
            return "insufficient_scope"
        if call.surface not in grant.surfaces:
            return "surface_not_granted"
        if call.surface == "bot" and call.channel not in grant.channels:
            return "channel_not_granted"
        if not (set(grant.groups) & set(self.groups(call)) or call.service in grant.services):
            return "group_not_granted"
        if call.service and grant.sensitivity == "confidential":
            return "sensitive_server"
        if self.rules_out(call, "no method"):
            return "rule_denied"
        if grant.stopped:
            return "server_stopped"
        if self.rules_out(call, "tools/call"):
            return "rule_denied"
        if call.service and call.tool not in READ_ONLY:
            return "tool_unavailable"
        if policy is None or not policy.permits(self._seen(call, "list", None)):
            return "tool_unavailable"
        if call.tool in grant.stopped_tools:
            return "tool_stopped"
        if "tools" not in call.scope.split(" ") and call.tool not in READ_ONLY:
            return "insufficient_scope"
        arguments = {name: value for name, value in call.arguments.items() if value is not None}
        allowed = policy.permits(self._seen(call, "call", arguments if policy.reads else None))
        return "allowed" if allowed else "policy_denied"

    def _seen(self, call: Call, action: str, arguments: Mapping[str, Any] | None) -> Seen:
        who = (call.sub, call.person is not None, self.groups(call))
        return Seen(*who, call.surface, call.channel, call.server, call.tool, action, arguments)


def _some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=len(values)).map(
        lambda found: tuple(sorted(found))
    )


def _most(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """All, or all but a few: a world where nobody gets in says little of what is behind the door."""
    return st.integers(0, 3).flatmap(lambda n: _some(values) if n == 3 else st.just(values))


WHY = 'it costs 100% "too much" at night'
_stops = st.integers(0, 5).map(lambda n: WHY if n == 5 else "")
_stopped_tools = st.integers(0, 1).flatmap(lambda n: _some((*TOOLS, NO_TOOL)) if n == 1 else st.just(()))
_lifecycles = st.integers(0, 9).flatmap(lambda n: st.sampled_from(LIFECYCLES) if n > 6 else st.just("live"))
_sensitivities = st.sampled_from(("internal", "internal", "public", "confidential"))
_reached = (_most(GROUPS), _most(SURFACES), _most(CHANNELS), _most(SERVICES))
grants = st.builds(Grant, *_reached, _stops, _stopped_tools, _lifecycles, _sensitivities)

# Calls

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "limit": st.sampled_from((0, 7, 11, -1, 2**63 - 1, 2**63, 7.0, 10.5, "7", "11", True, None, [7])),
    "table": st.sampled_from(("public", "secret", "secret_x", "", 'a "b" \\', "zürich 🦉", 7, None)),
    "sure": st.sampled_from((True, False, "true", "yes", 1, 0, None)),
    "tags": st.sampled_from(([], ["pii"], ["a", "pii"], '["pii"]', "pii", [1], None, {"pii": True})),
}
_arguments = st.fixed_dictionaries({}, optional=_VALUES)


_scopes = st.sampled_from((*["tools"] * 4, "tools:read", "tools:read", "tools:read tools", "tools-x", "Tools"))


_places = st.sampled_from(("bot", *PERSON_SURFACES)).flatmap(
    lambda surface: st.tuples(st.just(surface), st.sampled_from((None, *CHANNELS)) if surface == "bot" else st.none())
)


@st.composite
def _call(draw: st.DrawFn) -> Call:
    server, arguments = draw(st.sampled_from(SERVERS)), draw(_arguments)
    tool, scope = draw(st.sampled_from((*TOOLS, *TOOLS, NO_TOOL))), draw(_scopes)
    if draw(st.integers(0, 3)) == 0:
        return Call(server, tool, arguments, "service", service=draw(st.sampled_from(SERVICES)), scope=scope)
    surface, channel = draw(_places)
    person = draw(st.sampled_from(PEOPLE))
    return Call(server, tool, arguments, surface, person=person, channel=channel, scope=scope)


@st.composite
def _rules(draw: st.DrawFn) -> tuple[CoarseRule, ...]:
    """Up to three in every other world, each about a few at most: else nobody gets anywhere."""
    if draw(st.booleans()):
        return ()
    rules = []
    for name in draw(st.lists(st.sampled_from(("aa", "bb", "no-chat", "no-chat-2")), unique=True, max_size=3)):
        some = [draw(st.lists(st.sampled_from(values), unique=True, max_size=2)) for values in _ABOUT]
        surfaces, namespaces, servers, methods, groups, spared = map(tuple, some)
        if not (surfaces or methods or groups):
            surfaces = ("chat",)
        if surfaces == ("service",):
            groups = ()
        rules.append(CoarseRule(name, surfaces, namespaces, servers, methods, groups, ()))
        rules[-1] = replace(rules[-1], except_groups=tuple(one for one in spared if one not in groups))
    return tuple(rules)


_ABOUT = (SURFACES, ("dev", "prod"), SERVERS, ("tools/call", "tools/list", "ping"), GROUPS, GROUPS)


@st.composite
def worlds(draw: st.DrawFn, calls: int) -> World:
    """A world with so many calls, an even number: each second one is the one before, changed in one respect."""
    people = {person: draw(_most(GROUPS)) for person in PEOPLE} | {SECURITY: ("security",)}
    granted = {server: draw(grants) for server in SERVERS}
    policies = {server: {tool: draw(policy_files(server, tool)) for tool in TOOLS} for server in SERVERS}
    first = draw(st.lists(_call(), min_size=calls // 2, max_size=calls // 2))
    tried = [made for call in first for made in (call, draw(_changed(call)))]
    return World(people, granted, policies, tuple(tried), draw(_rules()))


@st.composite
def _changed(draw: st.DrawFn, call: Call) -> Call:
    """From somewhere else, or with other arguments or scope: what was remembered must not decide on it."""
    if draw(st.integers(0, 3)) == 0:
        return replace(call, scope=draw(_scopes))
    if call.service or draw(st.integers(0, 2)) == 0:
        return replace(call, arguments=draw(_arguments))
    surface, channel = draw(_places)
    return replace(call, surface=surface, channel=channel)
