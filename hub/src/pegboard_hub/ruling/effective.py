"""What holds now for a surface, a server, a method and some groups, and where each part of it comes from."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pegboard.core.caller import Caller
from pegboard.core.coarse import CoarseRule
from pegboard.core.names import SERVICE
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.ruling.model import Kept

Verdict = Literal["allowed", "limited", "refused", "not granted"]


class Part(NamedTuple):
    """One thing that has a say.

    Attributes:
        what: a grant, or a rule with its name.
        allows: whether it lets the call pass.
        fact: in words.
        rule: the rule, where it is one.
        version: of the rules, that made the rule what it is; 0 of a grant.
    """

    what: str
    allows: bool
    fact: str
    rule: CoarseRule | None = None
    version: int = 0


class Effective(NamedTuple):
    """What holds, with every part that has a say in it."""

    verdict: Verdict
    parts: tuple[Part, ...]


def effective(kept: Kept, server: RegisteredServer, surface: str, method: str, groups: tuple[str, ...]) -> Effective:
    """What holds for callers in all of `groups`, or for services where the surface is theirs.

    A grant's other halves (channels, sensitivity, policies of tools) are for `explain` to tell.
    """
    granted = server.granted
    service = surface == SERVICE
    caller = Caller("", "service" if service else "person", groups, surface, "", "", 0, "")
    from_there = surface in granted.surfaces
    to_them = bool(granted.services) if service else not set(groups).isdisjoint(granted.groups)
    why = server.reason or "the operator's grants"
    parts = [
        Part("surface", from_there, f"granted are {_names(granted.surfaces)}; from: {why}"),
        Part("group", to_them, f"granted are {_names(granted.services if service else granted.groups)}; from: {why}"),
    ]
    for rule in kept.rules.rules:
        if rule.matches(caller, server.name) and (not rule.methods or method in rule.methods):
            fact = f"lets {rule.counted[1]} through in {rule.counted[2]} s for each {rule.counted[0]}"
            denies = rule.effect == "deny"
            told = f"refuses {method if rule.methods else 'every method'}" if denies else fact
            parts.append(Part(f"rule {rule.name}", not denies, told, rule, kept.since.get(rule.name, kept.version)))
    if not (from_there and to_them):
        return Effective("not granted", tuple(parts))
    if not all(part.allows for part in parts):
        return Effective("refused", tuple(parts))
    limited = any(part.rule is not None for part in parts)
    return Effective("limited" if limited else "allowed", tuple(parts))


def _names(values: tuple[str, ...]) -> str:
    return ", ".join(sorted(values)) or "none"
