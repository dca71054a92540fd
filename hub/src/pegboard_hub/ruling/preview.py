"""Who would gain what and who would lose what by another set of coarse rules, before it is in force.

The answer is the core's own, asked with both sets of everybody who is granted a server that a changed rule is about.
Servers that are granted alike and have the same rules are asked about once, and so are people in the same groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pegboard.core.access import SENSITIVE
from pegboard.core.caller import Caller
from pegboard.core.coarse import CoarseRule, Rules, RuleSet
from pegboard.core.names import PERSON_SURFACES, SERVICE, ServerName
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.model import RegisteredServer

MOST_CASES = 300_000
"""Callers, surfaces and methods that one preview decides on: some ten seconds."""

EVERYTHING = "everything"
"""What somebody gains or loses who gains or loses every method."""

OTHERS = "all other methods"


class TooManyCases(Exception):
    """A change is about more than can be compared while somebody waits."""


class Who(NamedTuple):
    """People in the same of the groups that decide, or a service."""

    groups: tuple[str, ...] = ()
    service: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What some gain and lose.

    Attributes:
        who: they are.
        people: those of them who are known here.
        surfaces: where they call from.
        servers: which servers.
        gains: methods that they may send then.
        loses: methods that they may send now.
    """

    who: Who
    people: tuple[PersonFacts, ...]
    surfaces: tuple[str, ...]
    servers: tuple[str, ...]
    gains: tuple[str, ...]
    loses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change comes to.

    Attributes:
        gaining: people known here who gain anything.
        losing: people known here who lose anything.
        exhaustive: whether there is nobody but them.
    """

    rows: tuple[Row, ...]
    gaining: int
    losing: int
    exhaustive: bool


class _Case(NamedTuple):
    """What some gain and lose from one surface."""

    who: Who
    people: tuple[PersonFacts, ...]
    surface: str
    gains: tuple[str, ...]
    loses: tuple[str, ...]


class _Group(NamedTuple):
    """Servers that one answer is for."""

    servers: list[RegisteredServer]
    old: Rules
    new: Rules


def preview(
    old: RuleSet,
    new: RuleSet,
    servers: Iterable[RegisteredServer],
    people: Sequence[PersonFacts],
    *,
    exhaustive: bool,
) -> Preview:
    """Who would gain and lose what.

    Args:
        old: the rules in force.
        new: those that would be.
        servers: all that can be called.
        people: everybody who is known here.
        exhaustive: whether there is nobody else.

    Raises:
        TooManyCases: it would take too long to tell.
    """
    found: dict[_Case, list[str]] = {}
    cases = 0
    sets = _people_by_groups(people)
    for group in _alike(old, new, servers):
        rules = (*group.old.deny, *group.new.deny)
        methods = sorted({method for rule in rules for method in rule.methods})
        granted, services = group.servers[0].granted, _services(group.servers[0])
        named = _groups_named(rules)
        names = [str(server.name) for server in group.servers]
        for who, known in _who(sets, set(granted.groups), named, services, exhaustive=exhaustive):
            places = (SERVICE,) if who.service else PERSON_SURFACES
            cases += len(places) * (len(methods) + 1)
            if cases > MOST_CASES:
                raise TooManyCases
            for surface in (place for place in places if place in granted.surfaces):
                gains, loses = _changed(group, _caller(who, surface), methods)
                if gains or loses:
                    found.setdefault(_Case(who, tuple(known), surface, gains, loses), []).extend(names)
    return _told(found, exhaustive=exhaustive)


def _alike(old: RuleSet, new: RuleSet, servers: Iterable[RegisteredServer]) -> Iterable[_Group]:
    """Servers that a changed rule is about, together where everything that decides is the same."""
    changed = set(old.rules) ^ set(new.rules)
    wide = [rule for rule in changed if rule.effect == "deny" and rule.general]
    named = {server for rule in changed if rule.effect == "deny" and not rule.general for server in rule.servers}
    groups: dict[object, _Group] = {}
    for server in servers:
        if str(server.name) not in named and not any(rule.is_about(server.name) for rule in wide):
            continue
        rules = [_about(rules, server.name) for rules in (old, new)]
        key = (server.granted.groups, server.granted.surfaces, _services(server), *rules)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group([], *(Rules(deny) for deny in rules))
        group.servers.append(server)
    return groups.values()


def _services(server: RegisteredServer) -> tuple[str, ...]:
    """Services that get there: to no sensitive server, whatever is granted."""
    return () if server.sensitivity in SENSITIVE else server.granted.services


def _about(rules: RuleSet, server: ServerName) -> tuple[CoarseRule, ...]:
    return tuple(rule for rule in rules.of(server).deny if rule.is_about(server))


def _groups_named(rules: Iterable[CoarseRule]) -> set[str]:
    return {name for rule in rules for name in (*rule.groups, *rule.except_groups)}


def _people_by_groups(people: Iterable[PersonFacts]) -> Mapping[frozenset[str], list[PersonFacts]]:
    found: dict[frozenset[str], list[PersonFacts]] = {}
    for person in people:
        found.setdefault(frozenset(person.groups), []).append(person)
    return found


def _who(
    sets: Mapping[frozenset[str], list[PersonFacts]],
    granted: set[str],
    named: set[str],
    services: Iterable[str],
    *,
    exhaustive: bool,
) -> Iterator[tuple[Who, list[PersonFacts]]]:
    """Everybody to whom the servers are granted, by what a rule can see of them."""
    classes: dict[Who, list[PersonFacts]] = {}
    for groups, people in sets.items():
        if not granted.isdisjoint(groups):
            # Rules see the groups that they name; the grant, that there is one of its own.
            classes.setdefault(Who(tuple(sorted(groups & (granted | named)))), []).extend(people)
    if not exhaustive:
        for group in sorted(granted):
            classes.setdefault(Who((group,)), [])
            for other in sorted(named - {group}):
                classes.setdefault(Who(tuple(sorted((group, other)))), [])
    yield from sorted(classes.items(), key=lambda each: each[0])
    for service in sorted(services):
        yield Who(service=service), []


def _caller(who: Who, surface: str) -> Caller:
    return Caller(
        sub=who.service or "\x00",
        sub_type="service" if who.service else "person",
        groups=who.groups,
        surface=surface,
        client_id="",
        audience="",
        expires_at=0,
        token_id="",
    )


def _changed(group: _Group, caller: Caller, methods: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The methods that a caller gains and loses; `OTHERS` stands for all that no rule names."""
    before, after = (_refused(rules, caller, methods) for rules in (group.old, group.new))
    every = (*methods, OTHERS)
    return _named(before - after, every), _named(after - before, every)


def _refused(rules: Rules, caller: Caller, methods: Sequence[str]) -> set[str]:
    matching = [rule for rule in rules.deny if rule.is_for(caller)]  # each is about all of these servers
    if any(not rule.methods for rule in matching):
        return {*methods, OTHERS}
    return {method for rule in matching for method in rule.methods}


def _named(methods: set[str], every: tuple[str, ...]) -> tuple[str, ...]:
    if len(methods) == len(every):
        return (EVERYTHING,)
    return tuple(method for method in every if method in methods)


def _told(found: Mapping[_Case, list[str]], *, exhaustive: bool) -> Preview:
    """The cases, with the surfaces together that come to the same."""
    merged: dict[tuple[_Case, tuple[str, ...]], list[str]] = {}
    for case, servers in found.items():
        merged.setdefault((case._replace(surface=""), tuple(servers)), []).append(case.surface)
    rows = [
        Row(case.who, case.people, tuple(surfaces), tuple(sorted(servers)), case.gains, case.loses)
        for (case, servers), surfaces in merged.items()
    ]
    gaining = {person.sub for row in rows if row.gains for person in row.people}
    losing = {person.sub for row in rows if row.loses for person in row.people}
    rows.sort(key=lambda row: (not row.gains, row.who, row.servers))
    return Preview(tuple(rows), len(gaining), len(losing), exhaustive)
