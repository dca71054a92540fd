"""The names a policy may use. One that is spelled wrong is a fault, because Cedar itself is silent about it.

A `forbid` on a group type that does not exist never applies: what was meant to close a tool would leave it open. So
every entity type, action, context attribute, argument and annotation of a policy must be one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

ENTITY_TYPES = ("Person", "Service", "Group", "Tool", "Server", "Namespace", "Action")
ACTIONS = ("list", "call")
CONTEXT = ("surface", "namespace", "channel", "args")
ANNOTATIONS = ("arguments", "id", "reason")
"""`arguments` declares what a policy may see of a call; the other two are for readers."""

_CONTEXT = {"Var": "context"}
_ARGS = {".": {"left": _CONTEXT, "attr": "args"}}


def unknown_names(policies: Mapping[str, Any], arguments: Iterable[str]) -> list[str]:
    """What parsed policies (Cedar's JSON format) name and nobody has, one line for each; empty when all is known.

    Args:
        policies: the `staticPolicies` of a file.
        arguments: the call arguments the file declares.
    """
    declared = tuple(arguments)
    faults: list[str] = []
    for policy in policies.values():
        faults += [_fault("annotation", name, ANNOTATIONS) for name in policy.get("annotations", {})]
        for node in _nodes(policy):
            faults += _faults_of(node, declared)
    return list(dict.fromkeys(fault for fault in faults if fault))


def named_entities(policies: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Every entity that parsed policies name, as (type, id).

    A decision can tell two callers apart by these alone, beside where they call from and with what.
    """
    return frozenset(
        (node["type"], str(node["id"]))
        for policy in policies.values()
        for node in _nodes(policy)
        if node.keys() == {"type", "id"} and isinstance(node["type"], str)
    )


def constants_in(policies: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Every text and number that parsed policies compare something with, each once; of `like`, what is no star."""
    found: list[str | int] = []
    for policy in policies.values():
        for node in _nodes(policy.get("conditions", ())):
            if isinstance(value := node.get("Value"), str | int) and not isinstance(value, bool):
                found.append(value)
            if isinstance(like := node.get("like"), dict) and isinstance(pattern := like.get("pattern"), list):
                found.append("".join(each["Literal"] for each in pattern if isinstance(each, dict)))
    return tuple(dict.fromkeys(found))


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document. Without recursion: how deep a policy nests is its author's choice."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _faults_of(node: dict[str, Any], declared: tuple[str, ...]) -> Iterator[str]:
    if node.keys() == {"type", "id"} and isinstance(node["type"], str):
        yield _fault("entity type", node["type"], ENTITY_TYPES)
        if node["type"] == "Action":
            yield _fault("action", node["id"], ACTIONS)
    if isinstance(node.get("entity_type"), str):
        yield _fault("entity type", node["entity_type"], ENTITY_TYPES)
    for operator in (".", "has"):
        access = node.get(operator)
        if isinstance(access, dict) and isinstance(access.get("attr"), str):
            yield _attribute_fault(access["left"], access["attr"], declared)


def _attribute_fault(of: Any, name: str, declared: tuple[str, ...]) -> str:
    if of == _CONTEXT and name == "args" and not declared:
        return (
            'context.args is there only for arguments that are declared: add @arguments("…") to a policy of this file'
        )
    if of == _CONTEXT:
        return _fault("context attribute", name, CONTEXT)
    if of == _ARGS:
        return _fault("undeclared argument", name, declared, known="declared are")
    if of in ({"Var": "principal"}, {"Var": "resource"}):
        return f"{of['Var']}.{name}: persons, services and tools have no attributes; use groups and the context"
    return ""


def _fault(kind: str, name: Any, known_names: tuple[str, ...], known: str = "known are") -> str:
    if name in known_names:
        return ""
    near = get_close_matches(str(name), known_names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"{known} {', '.join(known_names)}"
    word = kind if kind.startswith("undeclared") else f"unknown {kind}"
    return f"{word} {name!r}; {hint}"
