"""Generated Cedar policies, each part with its meaning beside it, written again in the plainest Python.

All of Pegboard decides with one function, so that all agree even where that function is wrong. The meaning here is a
second opinion: it shares nothing with the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

GROUPS = ("ads-eng", "finance", "search-eng")
SERVICES = ("spiffe://example.org/batch", "spiffe://example.org/reporting")
PARAMETERS = ("limit", "table", "sure", "tags")
"""The parameters of every tool; what types they have, `town.Desk` says."""


class Errs(Exception):
    """Cedar cannot evaluate this, so the call is refused."""


@dataclass(frozen=True)
class Seen:
    """What a policy may see of a call. `arguments` is None while listing, and where the policy declares none."""

    sub: str
    is_person: bool
    groups: tuple[str, ...]
    surface: str
    channel: str | None
    server: str
    tool: str
    action: str
    arguments: Mapping[str, Any] | None

    @property
    def namespace(self) -> str:
        return self.server.partition("/")[0]

    def argument(self, name: str, *kinds: type) -> Any:
        """An argument's value, which must be of one of these kinds if any are named."""
        if self.arguments is None or name not in self.arguments:
            raise Errs
        value = self.arguments[name]
        if kinds and type(value) not in kinds:
            raise Errs
        return value

    def has(self, name: str) -> bool:
        return self.arguments is not None and name in self.arguments


@dataclass(frozen=True)
class Said:
    """A piece of Cedar, and whether it holds."""

    text: str
    holds: Callable[[Seen], bool]


def _in_channel(seen: Seen, channel: str) -> bool:
    if seen.channel is None:
        raise Errs
    return seen.channel == channel


def _is_service(service: str) -> Said:
    return Said(f'principal == Service::"{service}"', lambda seen: not seen.is_person and seen.sub == service)


LEAVES = (
    Said('context.surface == "cli"', lambda seen: seen.surface == "cli"),
    Said('context.surface == "bot"', lambda seen: seen.surface == "bot"),
    Said('context.surface == "chat"', lambda seen: seen.surface == "chat"),
    Said('context.namespace == "prod"', lambda seen: seen.namespace == "prod"),
    Said('context has channel && context.channel == "airflow"', lambda seen: seen.channel == "airflow"),
    Said('context.channel == "#data-help"', lambda seen: _in_channel(seen, "#data-help")),
    Said('principal in Group::"finance"', lambda seen: "finance" in seen.groups),
    *map(_is_service, SERVICES),
    Said("context has args", lambda seen: seen.arguments is not None),
    Said(
        "context has args && context.args has limit && context.args.limit > 10",
        lambda seen: seen.has("limit") and seen.argument("limit", int) > 10,
    ),
    Said("context.args.limit > 10", lambda seen: seen.argument("limit", int) > 10),
    Said(
        "context has args && context.args has limit && context.args.limit == 7",
        lambda seen: seen.has("limit") and type(seen.argument("limit")) is int and seen.argument("limit") == 7,
    ),
    Said(
        'context has args && context.args has table && context.args.table like "secret*"',
        lambda seen: seen.has("table") and seen.argument("table", str).startswith("secret"),
    ),
    Said(
        'context has args && context.args has table && context.args.table == "secret"',
        lambda seen: seen.has("table") and seen.argument("table") == "secret",
    ),
    Said(
        "context has args && context.args has sure && context.args.sure",
        lambda seen: seen.has("sure") and seen.argument("sure", bool),
    ),
    Said(
        "context has args && context.args has sure && context.args.sure == true",
        lambda seen: seen.has("sure") and seen.argument("sure") is True,
    ),
    Said(
        'context has args && context.args has tags && context.args.tags.contains("pii")',
        lambda seen: seen.has("tags") and "pii" in seen.argument("tags", list),
    ),
    Said(
        'context has args && context.args has tags && context.args.tags == ["pii"]',
        lambda seen: seen.has("tags") and seen.argument("tags") == ["pii"],
    ),
)


def _not(one: Said) -> Said:
    return Said(f"!({one.text})", lambda seen: not one.holds(seen))


def _both(two: tuple[Said, Said]) -> Said:
    left, right = two
    return Said(f"({left.text}) && ({right.text})", lambda seen: left.holds(seen) and right.holds(seen))


def _either(two: tuple[Said, Said]) -> Said:
    left, right = two
    return Said(f"({left.text}) || ({right.text})", lambda seen: left.holds(seen) or right.holds(seen))


conditions = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(_not), st.tuples(inner, inner).map(_both), st.tuples(inner, inner).map(_either)
    ),
    max_leaves=3,
)

_ALL = Said("", lambda _seen: True)


def _is_in(group: str) -> Said:
    return Said(f'principal in Group::"{group}"', lambda seen: group in seen.groups)


def _is_action(action: str) -> Said:
    return Said(f'action == Action::"{action}"', lambda seen: seen.action == action)


PRINCIPALS = (
    Said("principal", _ALL.holds),
    Said("principal", _ALL.holds),
    *map(_is_in, GROUPS),
    Said('principal == Person::"ana"', lambda seen: seen.is_person and seen.sub == "ana"),
    # Callers of a world are many persons and two services: these matter as seldom as they are named.
    *map(_is_service, 2 * SERVICES),
)
ACTIONS = (Said("action", _ALL.holds), _is_action("list"), _is_action("call"), _is_action("call"))


def resources(server: str, tool: str) -> tuple[Said, ...]:
    """Ways to name a tool, and one that names those of prod alone."""
    namespace = server.partition("/")[0]
    return (
        Said("resource", _ALL.holds),
        Said(f'resource == Tool::"{server}/{tool}"', _ALL.holds),
        Said(f'resource in Server::"{server}"', _ALL.holds),
        Said(f'resource in Namespace::"{namespace}"', _ALL.holds),
        Said('resource in Namespace::"prod"', lambda seen: seen.namespace == "prod"),
    )


@dataclass(frozen=True)
class Statement:
    """One policy of a file."""

    permits: bool
    scope: tuple[Said, ...]
    unless: bool = False
    condition: Said = _ALL

    @property
    def text(self) -> str:
        """As Cedar."""
        scope = ", ".join(part.text for part in self.scope)
        condition = (
            f"\n  {'unless' if self.unless else 'when'} {{ {self.condition.text} }}" if self.condition.text else ""
        )
        return f"{'permit' if self.permits else 'forbid'} ({scope}){condition};"

    def applies(self, seen: Seen) -> bool:
        return all(part.holds(seen) for part in self.scope) and self.condition.holds(seen) is not self.unless


OPEN = Statement(True, (Said("principal", _ALL.holds), Said("action", _ALL.holds), Said("resource", _ALL.holds)))


@dataclass(frozen=True)
class PolicyFile:
    """The policy of one tool."""

    statements: tuple[Statement, ...]

    @property
    def reads(self) -> bool:
        """Whether it declares arguments."""
        return any("args" in statement.condition.text for statement in self.statements)

    @property
    def text(self) -> str:
        """As Cedar."""
        lines = [f'@arguments("{", ".join(PARAMETERS)}")'] if self.reads else []
        return "\n".join((*lines, *(statement.text for statement in self.statements)))

    def permits(self, seen: Seen) -> bool:
        """Deny by default; one that forbids beats all that permit; what cannot be evaluated is refused."""
        if not all(map(_can_be_judged, (seen.arguments or {}).values())):
            return False
        try:
            applying = [statement for statement in self.statements if statement.applies(seen)]
        except Errs:
            return False
        return bool(applying) and all(statement.permits for statement in applying)


def _can_be_judged(value: Any) -> bool:
    """Cedar has no fractions, no nothing, and whole numbers of 64 bits."""
    match value:
        case bool() | str():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case list():
            return all(map(_can_be_judged, value))
        case dict():
            return all(map(_can_be_judged, value.values()))
    return False


@st.composite
def policy_files(draw: st.DrawFn, server: str, tool: str) -> PolicyFile:
    """A policy for one tool."""

    def statement(permits: bool) -> Statement:
        parts = (PRINCIPALS, ACTIONS, resources(server, tool))
        scope = tuple(draw(st.sampled_from(part)) for part in parts)
        if draw(st.integers(0, 3)) == 0:
            return Statement(permits, scope)
        return Statement(permits, scope, draw(st.booleans()), draw(conditions))

    # Half are open but for what they forbid: behind a list that shows nothing there is no call to decide on.
    if draw(st.booleans()):
        return PolicyFile((OPEN, *(statement(False) for _ in range(draw(st.integers(0, 2))))))
    return PolicyFile((statement(True), *(statement(draw(st.booleans())) for _ in range(draw(st.integers(0, 2))))))
