"""Policies: they fit the schema that their tools make, and they decide something.

Whether one is always true is tried and not read: a condition can be true in ways that no pattern of text knows. A
*stranger*, in no group and with no name that the policy has, tries each tool from every surface, with the arguments
that the policy compares with, those beside them, and usual ones. What a policy lets strangers do in every case tried
it lets everybody do.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice, product
from typing import Any, Final, NamedTuple

from pegboard.core.caller import Caller
from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import PERSON_SURFACES, SERVICE, ServerName
from pegboard.core.policy import Action, Policy
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import ToolDeclaration

MOST_ARGUMENTS: Final = 48
"""Sets of arguments that one tool is tried with."""

MOST_TRIED: Final = 12_000
"""Cases that one check tries in all, each counted as often as its policy is long. It takes some three seconds."""

MOST_DEPTH: Final = 4
"""Objects and lists inside one another that an argument is told to Cedar with."""

_CLOSED: Final = ("confidential", "restricted")


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with the policies of a release."""
    trying = Trying(ServerName.parse(subject.server))
    for name in _unused(subject):
        yield RULES["PB306"].at(f"policies/{name}.cedar", f"no tool names policy {name!r}")
    for name, text in subject.declaration.policies.items():
        place = f"policies/{name}.cedar"
        try:
            policy = _parsed(name, text)
        except ConfigurationError as error:
            yield from (RULES["PB301"].at(place, problem) for problem in error.problems)
            continue
        tools = [tool for tool in subject.declaration.tools if tool.policy == name]
        yield from _misfits(policy, tools, place)
        try:
            yield from _decides(policy, tools, subject, place, trying)
        except TooMuch:
            yield RULES["PB309"].at(place, f"not every case of {_listed(tools)} was tried")


class TooMuch(Exception):
    """More would have to be tried than one check may."""


class Trying:
    """Asks policies, and counts what that costs.

    Args:
        server: that the tools are of.
    """

    def __init__(self, server: ServerName) -> None:
        self._server = server
        self._left = float(MOST_TRIED)

    def allows(
        self, policy: Policy, caller: Caller, tool: str, action: Action, arguments: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether the policy lets the caller do it.

        Raises:
            TooMuch: enough was tried.
        """
        self._left -= 1 + len(policy.text) / 3_000
        if self._left < 0:
            raise TooMuch
        return policy.decide(caller, self._server, tool, action, arguments).allowed


@lru_cache(maxsize=64)
def _parsed(name: str, text: str) -> Policy:
    return Policy(name, text)


def _unused(subject: Subject) -> Iterator[str]:
    for file in subject.files:
        folder, _, name = file.rpartition("/")
        stem, dot, _ = name.rpartition(".cedar")
        if folder == "policies" and dot and stem not in subject.declaration.policies:
            yield stem


def _misfits(policy: Policy, tools: Iterable[ToolDeclaration], place: str) -> Iterator[Finding]:
    told: set[str] = set()
    seen: set[str] = set()
    for tool in tools:
        schema = schema_for(tool, policy.arguments)
        if (key := json.dumps(schema)) in seen:
            continue
        seen.add(key)
        for problem in policy.misfits(schema) if schema is not None else ():
            what = problem.replace("`policy0`, ", "").removeprefix("[policy0] ").removeprefix("for policy ")
            if what in told:
                continue
            told.add(what)
            if "unable to guarantee safety" in problem:
                fix = "Ask first: `context.args has NAME && …`. As it is, a call that leaves it out is denied."
                yield RULES["PB302"].at(place, f"for {tool.name!r}: {what}", fix, Severity.WARNING)
            else:
                yield RULES["PB302"].at(place, f"for {tool.name!r}: {what}")


def schema_for(tool: ToolDeclaration, arguments: Iterable[str]) -> dict[str, Any] | None:
    """Cedar's schema for one tool, with the arguments that its policy reads as the tool declares them.

    None where Cedar has no type for one of them: a value that may be text or number, for one.
    """
    context: dict[str, Any] = {
        "surface": {"type": "String"},
        "namespace": {"type": "String"},
        "channel": {"type": "String", "required": False},
    }
    asked = {"type": "Record", "attributes": context}
    typed: dict[str, Any] = {}
    properties = tool.input_schema.get("properties")
    required = tool.input_schema.get("required", ())
    for name in arguments:
        described = properties.get(name) if isinstance(properties, dict) else None
        if (kind := _cedar_type(described, tool.input_schema, 0)) is None:
            return None
        typed[name] = {**kind, "required": isinstance(required, list) and name in required}
    with_arguments = dict(context)
    if typed:
        with_arguments["args"] = {"type": "Record", "attributes": typed}
    applies = {"principalTypes": ["Person", "Service"], "resourceTypes": ["Tool"]}
    return {
        "": {
            "entityTypes": {
                "Group": {},
                "Person": {"memberOfTypes": ["Group"]},
                "Service": {"memberOfTypes": ["Group"]},
                "Namespace": {},
                "Server": {"memberOfTypes": ["Namespace"]},
                "Tool": {"memberOfTypes": ["Server"]},
            },
            "actions": {
                "list": {"appliesTo": {**applies, "context": asked}},
                "call": {"appliesTo": {**applies, "context": {"type": "Record", "attributes": with_arguments}}},
            },
        }
    }


_SIMPLE: Final = {"string": "String", "integer": "Long", "number": "Long", "boolean": "Boolean"}


def _cedar_type(schema: Any, whole: Mapping[str, Any], depth: int) -> dict[str, Any] | None:
    schema = _resolved(schema, whole)
    if not isinstance(schema, dict) or depth > MOST_DEPTH:
        return None
    if isinstance(either := schema.get("anyOf"), list):
        kinds = [_cedar_type(each, whole, depth + 1) for each in either if _resolved(each, whole) != {"type": "null"}]
        return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None
    match schema.get("type"):
        case str() as name if name in _SIMPLE:
            return {"type": _SIMPLE[name]}
        case "array":
            element = _cedar_type(schema.get("items"), whole, depth + 1)
            return {"type": "Set", "element": element} if element else None
        case "object":
            properties = schema.get("properties")
            if not isinstance(properties, dict):
                return None
            inner = {name: _cedar_type(each, whole, depth + 1) for name, each in properties.items()}
            if not all(inner.values()):
                return None
            return {
                "type": "Record",
                "attributes": {name: {**kind, "required": False} for name, kind in inner.items() if kind},
            }
    choices = schema.get("enum")
    return {"type": "String"} if isinstance(choices, list) and all(isinstance(c, str) for c in choices) else None


def _resolved(schema: Any, whole: Mapping[str, Any]) -> Any:
    """A schema with its `$ref` into the tool's own definitions followed; one step is what pydantic writes."""
    if isinstance(schema, dict) and isinstance(ref := schema.get("$ref"), str):
        definitions = whole.get("$defs")
        return definitions.get(ref.removeprefix("#/$defs/")) if isinstance(definitions, dict) else None
    return schema


class Tried(NamedTuple):
    """What strangers were told when they tried one tool.

    Attributes:
        allowed, denied: of the cases tried.
        example: a case that was denied, in words; empty without one.
    """

    allowed: int
    denied: int
    example: str = ""


def _decides(
    policy: Policy, tools: list[ToolDeclaration], subject: Subject, place: str, trying: Trying
) -> Iterator[Finding]:
    asked = subject.declaration.manifest.requests.business_groups
    named = tuple(sorted(name for kind, name in policy.names if kind == "Group"))
    if unasked := [group for group in named if asked and group not in asked]:
        yield RULES["PB305"].at(place, f"the manifest does not ask for {', '.join(unasked)}")
    open_to_all, judged, closed = [], [], []
    seen: dict[str, tuple[Tried, bool, str]] = {}
    for tool in tools:
        alike = _alike(policy, tool)
        if alike not in seen:
            tried = strangers(policy, trying, tool)
            nobody = bool(tried.denied and not tried.allowed and asked) and not _anybody(policy, trying, tool, asked)
            seen[alike] = tried, nobody, _split(policy, trying, tool, named)
        tried, nobody, split = seen[alike]
        if not tried.denied:
            open_to_all.append(tool)
        elif tried.allowed:
            judged.append((tool, tried))
        elif nobody:
            closed.append(tool)
        if split:
            yield RULES["PB307"].at(place, f"{split} {tool.name!r}")
    yield from _always_true(policy, open_to_all, subject, place)
    for tool, tried in judged:
        what = f"strangers may use {tool.name!r} in {tried.allowed} of {tried.allowed + tried.denied} cases tried"
        yield RULES["PB308"].at(place, f"{what}; they may not {tried.example}")
    if closed:
        yield RULES["PB304"].at(place, f"nobody of {', '.join(asked)} may use {_listed(closed)}")


def _alike(policy: Policy, tool: ToolDeclaration) -> str:
    """What of a tool its policy can tell apart: tools that are alike in it are tried once."""
    properties = tool.input_schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    kinds = [_cedar_type(known.get(name), tool.input_schema, 0) for name in policy.arguments]
    named = tool.name if any(kind == "Tool" for kind, _ in policy.names) else ""
    return json.dumps([named, tool.read_only, kinds, [name for name in policy.arguments if name in known]])


def _always_true(policy: Policy, tools: list[ToolDeclaration], subject: Subject, place: str) -> Iterator[Finding]:
    if not tools:
        return
    rule = RULES["PB303"]
    what = f"it lets everybody use {_listed(tools)} who reaches the server"
    if policy.reasons:
        yield rule.at(place, f"{what}; its author says why: {policy.reasons[0][:200]}", "", Severity.NOTE)
        return
    sensitive = subject.declaration.manifest.sensitivity in _CLOSED
    writes = any(not tool.read_only for tool in tools)
    yield rule.at(place, what, severity=Severity.ERROR if sensitive or writes else None)


def _listed(tools: list[ToolDeclaration]) -> str:
    names = [tool.name for tool in tools]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


_STRANGER: Final = Caller(
    sub="stranger-84f1", sub_type="person", groups=(), surface="cli", client_id="", audience="", expires_at=0,
    token_id="",
)  # fmt: skip
_STRANGE_SERVICE: Final = replace(
    _STRANGER, sub="spiffe://stranger.example/84f1", sub_type="service", surface=SERVICE
)


def strangers(policy: Policy, trying: Trying, tool: ToolDeclaration) -> Tried:
    """Let strangers try one tool, from every surface and with many arguments."""
    allowed = denied = 0
    example = ""
    people = [
        replace(_STRANGER, surface=each, channel="#84f1" if each == "bot" else None) for each in PERSON_SURFACES
    ]
    callers = [*people, *([_STRANGE_SERVICE] if tool.read_only else [])]
    for caller in callers:
        for action, arguments in _cases(policy, tool):
            if trying.allows(policy, caller, tool.name, action, arguments):
                allowed += 1
            else:
                denied += 1
                example = example or f"{action} it from {caller.surface}{_with(arguments)}"
    return Tried(allowed, denied, example)


def _with(arguments: Mapping[str, Any]) -> str:
    return (
        f" with {', '.join(f'{name}={str(value)[:40]!r}' for name, value in arguments.items())}" if arguments else ""
    )


def _cases(policy: Policy, tool: ToolDeclaration) -> Iterator[tuple[Action, dict[str, Any]]]:
    yield "list", {}
    yield from (("call", arguments) for arguments in _arguments(policy, tool))


def _arguments(policy: Policy, tool: ToolDeclaration) -> list[dict[str, Any]]:
    """Sets of arguments that a policy may tell apart: each argument at each of its values, the others as usual."""
    if not policy.arguments:
        return [{}]
    properties = tool.input_schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    values = {
        name: _values(_cedar_type(known.get(name), tool.input_schema, 0), policy.constants)
        for name in policy.arguments
        if name in known
    }
    usual = {name: each[0] for name, each in values.items() if each}
    found = [usual, *({**usual, name: value} for name, each in values.items() for value in each[1:])]
    found += [{name: value for name, value in usual.items() if name != left} for left in usual]
    if 1 < len(values) <= 3:
        pairs = islice(product(*values.values()), MOST_ARGUMENTS)
        found += [dict(zip(values, pair, strict=True)) for pair in pairs]
    return found[:MOST_ARGUMENTS]


def _values(kind: dict[str, Any] | None, constants: tuple[str | int, ...]) -> list[Any]:
    texts = [each for each in constants if isinstance(each, str)]
    numbers = [each for each in constants if isinstance(each, int)]
    match kind:
        case {"type": "Long"}:
            beside = [near for each in numbers for near in (each, each - 1, each + 1)]
            return list(dict.fromkeys([1, 0, *beside, -1, 2**31]))
        case {"type": "Boolean"}:
            return [False, True]
        case {"type": "Set", "element": element}:
            inner = _values(element, constants)
            return [inner[:1], [], *([each] for each in inner[1:]), inner[:3]]
        case {"type": "Record", "attributes": attributes}:
            return [{name: _values(each, constants)[0] for name, each in attributes.items()}, {}]
    return list(dict.fromkeys(["anything", "", *texts, *(f"{each}x" for each in texts)]))


def _anybody(policy: Policy, trying: Trying, tool: ToolDeclaration, groups: tuple[str, ...]) -> bool:
    people = {name for kind, name in policy.names if kind == "Person"} | {_STRANGER.sub}
    services = {name for kind, name in policy.names if kind == "Service"}
    callers = [
        replace(_STRANGER, sub=sub, groups=groups, surface=surface, channel="#84f1" if surface == "bot" else None)
        for sub in sorted(people)[:20]
        for surface in PERSON_SURFACES
    ]
    callers += [replace(_STRANGE_SERVICE, sub=sub) for sub in sorted(services)[:20]]
    return any(
        trying.allows(policy, caller, tool.name, "call", arguments)
        for caller in callers
        for arguments in _arguments(policy, tool)
    )


def _split(policy: Policy, trying: Trying, tool: ToolDeclaration, groups: tuple[str, ...]) -> str:
    """Whether seeing and calling a tool fall apart for the people of a group, in words."""
    for group in ("", *groups[:20]):
        caller = replace(_STRANGER, groups=(group,) if group else ())
        by_surface: dict[str, list[bool]] = defaultdict(list)
        for surface in PERSON_SURFACES:
            there = replace(caller, surface=surface, channel="#84f1" if surface == "bot" else None)
            sees = trying.allows(policy, there, tool.name, "list")
            calls = any(
                trying.allows(policy, there, tool.name, "call", arguments) for arguments in _arguments(policy, tool)
            )
            by_surface["sees" if sees and not calls else "calls" if calls and not sees else ""].append(True)
        whom = f"people of {group}" if group else "strangers"
        if by_surface["sees"]:
            return f"{whom} see, and cannot call,"
        if by_surface["calls"]:
            return f"{whom} may call, and do not see,"
    return ""
