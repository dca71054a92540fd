"""Generated worlds: people, services, grants and policies, and calls within them, in words that a person can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from pegboard.core.names import PERSON_SURFACES, SURFACES

GROUPS = ("ads-eng", "finance", "search-eng")
CHANNELS = ("#data-help", "airflow", 'say "hi" 100%', "zürich")
SERVICES = ("spiffe://example.org/batch", "spiffe://example.org/reporting")
PEOPLE = ("ana", "fay", "gus")
SERVERS = ("dev/atlas", "prod/atlas", "prod/ledger")
TOOLS = ("count", "erase", "look")
NO_TOOL = "no_such_tool"
SECURITY = "sec"
"""A person of every world who is in the group `security`, and so may ask about everybody."""

PARAMETERS = ("limit", "table", "sure", "tags")
"""The parameters of every tool; what types they have, `town.Desk` says."""


@dataclass(frozen=True)
class Grant:
    """What the operator grants one server."""

    groups: tuple[str, ...]
    surfaces: tuple[str, ...]
    channels: tuple[str, ...]
    services: tuple[str, ...]


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

    @property
    def sub(self) -> str:
        return str(self.person or self.service)

    def to(self, tool: str) -> Call:
        """The same call of another tool."""
        return replace(self, tool=tool)

    def __repr__(self) -> str:
        where = f"{self.surface} in {self.channel}" if self.channel else self.surface
        return f"{self.sub} from {where} calls {self.server} {self.tool} {json.dumps(self.arguments)}"


@dataclass(frozen=True, repr=False)
class World:
    """Everything that decides.

    Attributes:
        people: the groups of each person.
        grants: by server.
        policies: the Cedar text of each tool, by server and tool.
        calls: what is tried.
    """

    people: Mapping[str, tuple[str, ...]]
    grants: Mapping[str, Grant]
    policies: Mapping[str, Mapping[str, str]]
    calls: tuple[Call, ...]

    def __repr__(self) -> str:
        return f"a world of {len(self.grants)} servers and {len(self.calls)} calls"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """How Hypothesis shows a world that fails; what matters of it, `around` says."""
        printer.text(repr(self))

    def around(self, call: Call) -> str:
        """What of this world decides on one call, for a person to read."""
        groups = ", ".join(self.people.get(call.sub, ())) or "no group"
        policy = self.policies[call.server].get(call.tool, "there is no such tool")
        return (
            f"{call}\n{call.sub} is in {groups}\n{call.server} has {self.grants[call.server]}\n{call.tool}:\n{policy}"
        )

    def reads_arguments(self, call: Call) -> bool:
        """Whether the policy of the called tool declares arguments."""
        return "@arguments" in self.policies[call.server].get(call.tool, "")


def _some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=len(values)).map(
        lambda found: tuple(sorted(found))
    )


def _most(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """All, or all but a few: a world where nobody gets in says little of what is behind the door."""
    return st.one_of(st.just(values), _some(values))


grants = st.builds(Grant, _most(GROUPS), _most(SURFACES), _some(CHANNELS), _some(SERVICES))

# Policies

_LEAVES = (
    'context.surface == "cli"',
    'context.surface == "bot"',
    'context.namespace == "prod"',
    'context has channel && context.channel == "airflow"',
    'context.channel == "#data-help"',  # errs where there is no channel
    'principal in Group::"finance"',
    f'principal == Service::"{SERVICES[0]}"',
    "context has args",
    "context has args && context.args has limit && context.args.limit > 10",
    "context.args.limit > 10",  # errs while listing, and on a value of another type
    "context has args && context.args has limit && context.args.limit == 7",
    'context has args && context.args has table && context.args.table like "secret*"',
    'context has args && context.args has table && context.args.table == "secret"',
    "context has args && context.args has sure && context.args.sure",
    "context has args && context.args has sure && context.args.sure == true",
    'context has args && context.args has tags && context.args.tags.contains("pii")',
    'context has args && context.args has tags && context.args.tags == ["pii"]',
)
_conditions = st.recursive(
    st.sampled_from(_LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, st.sampled_from(("&&", "||")), inner).map(lambda three: "({}) {} ({})".format(*three)),
    ),
    max_leaves=3,
)
_PRINCIPALS = (
    "principal",
    "principal",
    *(f'principal in Group::"{group}"' for group in GROUPS),
    'principal == Person::"ana"',
    f'principal == Service::"{SERVICES[1]}"',
)
_ACTIONS = ("action", "action", 'action == Action::"list"', 'action == Action::"call"')


@st.composite
def _policy(draw: st.DrawFn, server: str, tool: str) -> str:
    namespace, _, _ = server.partition("/")
    resources = (
        "resource",
        f'resource == Tool::"{server}/{tool}"',
        f'resource in Server::"{server}"',
        f'resource in Namespace::"{namespace}"',
        'resource in Namespace::"prod"',
    )

    def statement(effects: tuple[str, ...]) -> str:
        effect, principal = draw(st.sampled_from(effects)), draw(st.sampled_from(_PRINCIPALS))
        action, resource = draw(st.sampled_from(_ACTIONS)), draw(st.sampled_from(resources))
        clauses = draw(st.lists(st.tuples(st.sampled_from(("when", "unless")), _conditions), max_size=1))
        tail = "".join(f"\n  {word} {{ {condition} }}" for word, condition in clauses)
        return f"{effect} ({principal}, {action}, {resource}){tail};"

    statements = [statement(("permit",))]
    statements += [statement(("permit", "forbid")) for _ in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        # Without one that is open there is little behind the list.
        statements.insert(0, "permit (principal, action, resource);")
    text = "\n".join(statements)
    return f'@arguments("{", ".join(PARAMETERS)}")\n{text}' if "context.args" in text or "has args" in text else text


# Calls

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "limit": st.sampled_from((0, 7, 11, -1, 2**63 - 1, 2**63, 7.0, 10.5, "7", "11", True, None, [7])),
    "table": st.sampled_from(("public", "secret", "secret_x", "", 'a "b" \\', "zürich 🦉", 7, None)),
    "sure": st.sampled_from((True, False, "true", "yes", 1, 0, None)),
    "tags": st.sampled_from(([], ["pii"], ["a", "pii"], '["pii"]', "pii", [1], None, {"pii": True})),
}
_arguments = st.fixed_dictionaries({}, optional=_VALUES)


@st.composite
def _call(draw: st.DrawFn, grants: Mapping[str, Grant], tools: Mapping[str, tuple[str, ...]]) -> Call:
    server = draw(st.sampled_from(tuple(grants)))
    tool = draw(st.sampled_from((*tools[server], *tools[server], NO_TOOL)))
    arguments = draw(_arguments)
    if draw(st.integers(0, 5)) == 0:
        return Call(server, tool, arguments, "service", service=draw(st.sampled_from(SERVICES)))
    surface = draw(st.sampled_from(PERSON_SURFACES))
    channel = draw(st.one_of(st.none(), st.sampled_from(CHANNELS))) if surface == "bot" else None
    return Call(server, tool, arguments, surface, person=draw(st.sampled_from(PEOPLE)), channel=channel)


@st.composite
def worlds(draw: st.DrawFn, calls: int) -> World:
    """A world with so many calls."""
    people = {person: draw(_some(GROUPS)) for person in PEOPLE} | {SECURITY: ("security",)}
    granted = {server: draw(grants) for server in SERVERS}
    policies = {server: {tool: draw(_policy(server, tool)) for tool in TOOLS} for server in SERVERS}
    tools = dict.fromkeys(SERVERS, TOOLS)
    tried = draw(st.lists(_call(granted, tools), min_size=calls, max_size=calls))
    return World(people, granted, policies, tuple(tried))
