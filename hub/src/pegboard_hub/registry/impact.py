"""Who would gain what: everybody whose tools a proposed change of a server adds or takes away, before it is approved.

The answer is made by the core's one decide function, asked before and after; there is no second rule engine. People
are told apart by what a decision can see of them: which of the groups that grants and policies name they are in, and
whether a policy names them. So each combination of groups is decided once, whoever many are in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal, NamedTuple

from pegboard.core.access import ServerAccess
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool, decide
from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.model import REACHABLE, Access, Lifecycle, RegisteredServer, Release

MOST_CASES = 200_000
"""Of groups, places and policies that one answer decides and compares: they take some ten seconds."""

MOST_NAMED = 20
"""People of one row who are named; the rest are counted."""


Words = Literal["nothing", "list", "call, depending on arguments", "call"]


class Level(IntEnum):
    """What somebody may do with a tool. Each level includes those below it."""

    NOTHING = 0
    LIST = 1
    DEPENDS = 2
    CALL = 3

    @property
    def words(self) -> Words:
        """For pages and the API."""
        return _WORDS[self]


_WORDS: dict[Level, Words] = {
    Level.NOTHING: "nothing",
    Level.LIST: "list",
    Level.DEPENDS: "call, depending on arguments",
    Level.CALL: "call",
}


class Place(NamedTuple):
    """Where a call comes from."""

    surface: str
    channel: str | None = None

    def __str__(self) -> str:
        return f"{self.surface} in {self.channel}" if self.channel else self.surface


class ToolChange(NamedTuple):
    """What becomes of one tool for somebody."""

    tool: str
    before: Level
    after: Level


class Who(NamedTuple):
    """People whom no rule of this server tells apart, or one service.

    Attributes:
        groups: those of their groups that grants or policies name; all of them are in exactly these.
        person: the id of one whom a policy names; empty otherwise.
        service: SPIFFE ID; empty for people.
    """

    groups: tuple[str, ...] = ()
    person: str = ""
    service: str = ""


class Row(NamedTuple):
    """What some people, or a service, gain and lose from some places.

    Attributes:
        named: those people, in order of name, at most `MOST_NAMED`.
        people: how many are known; 0 for a service, and for a group in which nobody is signed in.
        gains: tools of which they may do more than before.
        loses: tools of which they may do less.
    """

    who: Who
    named: tuple[PersonFacts, ...]
    people: int
    places: tuple[Place, ...]
    gains: tuple[ToolChange, ...]
    loses: tuple[ToolChange, ...]


@dataclass(frozen=True)
class Impact:
    """The whole answer.

    Attributes:
        before: sensitivity of the data now.
        after: sensitivity of the data then.
        rows: in order of group, then of service; one for each set of places with the same outcome.
        gaining: how many known people gain something.
        losing: how many known people lose something.
        keeping: how many known people may use at least one tool both before and after.
        exhaustive: whether everybody is known; otherwise a company's login alone knows who else is in a group.
        stopped: why it is stopped now, which the answer leaves out of account; empty while it is not.
    """

    server: str
    before: Sensitivity
    after: Sensitivity
    rows: tuple[Row, ...]
    gaining: int
    losing: int
    keeping: int
    exhaustive: bool
    stopped: str = ""


@dataclass(frozen=True)
class People:
    """Who is known.

    Attributes:
        known: everybody, once each.
        exhaustive: whether there is nobody else.
    """

    known: tuple[PersonFacts, ...] = ()
    exhaustive: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that is thought of. What is None stays as it is.

    Attributes:
        granted: who may reach it, all kinds of it.
        policies: new texts of policies, by name; those of the release that stay are left out.
        release: another release in place of the deployed one.
    """

    granted: Access | None = None
    sensitivity: Sensitivity | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
    release: Release | None = None
    lifecycle: Lifecycle | None = None


def proposed(server: RegisteredServer, proposal: Proposal) -> RegisteredServer:
    """The server as it would be. One that is not approved yet is shown as it would be once it is.

    Raises:
        ConfigurationError: a policy is not Cedar, or is no policy of the release.
    """
    release = proposal.release or server.release
    if proposal.policies:
        release = _with_policies(release, proposal.policies)
    if release is not None:
        _ = release.governed  # parses the policies: what cannot be decided with is told now
    lifecycle = proposal.lifecycle or server.lifecycle
    if proposal.lifecycle is None and lifecycle in _ON_THE_WAY:
        lifecycle = Lifecycle.LIVE
    sensitivity = proposal.sensitivity or (proposal.release.manifest.sensitivity if proposal.release else None)
    return replace(
        server,
        granted=server.granted if proposal.granted is None else proposal.granted,
        sensitivity=sensitivity or server.sensitivity,
        release=release,
        lifecycle=lifecycle,
    )


_ON_THE_WAY = frozenset({Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.APPROVED})


def once_approved(server: RegisteredServer, granted: Access | None = None) -> RegisteredServer:
    """The server with the release that waits and with what is asked for, or `granted` in place of that."""
    asked = server.requested if granted is None else granted
    return proposed(server, Proposal(granted=asked, release=server.waiting))


def _with_policies(release: Release | None, texts: Mapping[str, str]) -> Release:
    known = release.policies if release else {}
    for name in texts:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(f"policies.{name[:64]}", [f"the release has no such policy; it has {listed}"])
    assert release is not None  # noqa: S101 - it has the policy
    return Release(release.digest, release.manifest, release.tools, {**known, **texts})


class TooManyCases(PegboardError):
    """So many people, places and policies differ that nobody could wait for the answer."""

    def __init__(self, cases: int) -> None:
        super().__init__(
            f"{cases:,} cases of groups, places and policies would be to decide, and {MOST_CASES:,} are the most"
        )


def impact(before: RegisteredServer, after: RegisteredServer, people: People, public_url: str) -> Impact:
    """Everybody whose tools differ between two states of a server, as if nothing of it were stopped.

    Raises:
        TooManyCases: it would take too long.
    """
    was, will = _Side(before, public_url), _Side(after, public_url)
    named = was.names | will.names
    places = _places(before.granted, after.granted)
    _check_cases(people, named, {*before.granted.groups, *after.granted.groups}, len(places), was.kinds + will.kinds)
    compared: dict[Who, _Compared] = {}

    def of(who: Who) -> _Compared:
        if who not in compared:
            compared[who] = _compare(was, will, who, _places_of(who, places))
        return compared[who]

    rows: list[Row] = []
    gaining = losing = keeping = 0
    for who, members in _sorted(people, named, before.granted, after.granted):
        merged, keeps = of(who)
        gaining += len(members) * any(gains for _, gains, _ in merged)
        losing += len(members) * any(loses for _, _, loses in merged)
        keeping += len(members) * keeps
        if not members and any(of(Who((group,))).merged == merged for group in who.groups if who != Who((group,))):
            continue  # nobody known, and one of the groups alone has said it
        shown = sorted(members, key=lambda member: (member.name, member.sub))[:MOST_NAMED] if merged else []
        rows += [Row(who, tuple(shown), len(members), at, gains, loses) for at, gains, loses in merged]
    return Impact(
        server=str(before.name),
        before=before.sensitivity,
        after=after.sensitivity,
        rows=tuple(rows),
        gaining=gaining,
        losing=losing,
        keeping=keeping,
        exhaustive=people.exhaustive,
        stopped=before.stopped,
    )


class _Side:
    """One state of the server, and what it lets whom do; each thing that differs for a decision is decided once."""

    def __init__(self, server: RegisteredServer, public_url: str) -> None:
        self._resource_url = server.name.resource_url(public_url)
        self._release = server.release if server.lifecycle in REACHABLE else None
        self._access: ServerAccess | None = None
        self._tools: Mapping[str, GovernedTool] = {}
        if self._release is not None:
            # Not stopped: a stop is for a while, and what is approved now holds after it.
            access = server.access(public_url)
            self._access, self._tools = replace(access, stopped="", stopped_tools={}), self._release.governed
        self._alike = _alike(self._tools)
        self.kinds = max(1, len(self._alike))
        self.names = frozenset(name for tool in self._tools.values() for name in tool.policy.names)
        self._known: dict[tuple[object, ...], dict[str, Level]] = {}

    def levels(self, who: Who, place: Place) -> dict[str, Level]:
        """What they may do from there, by tool; tools of which they learn nothing are left out."""
        access = self._access
        if access is None:
            return {}
        may = who.service in access.services if who.service else not access.groups.isdisjoint(who.groups)
        judged = tuple(group for group in who.groups if ("Group", group) in self.names)
        key = (may, judged, who.person, who.service and ("Service", who.service) in self.names, place)
        if key not in self._known:
            self._known[key] = dict(self._decided(self._caller(who, place), access))
        return self._known[key]

    def _decided(self, caller: Caller, access: ServerAccess) -> Iterator[tuple[str, Level]]:
        if decide(caller, access, self._tools, None).refusal is not None:
            return
        for first, *others in self._alike:
            level = self._level(caller, access, first)
            if level is not Level.NOTHING:
                yield from ((tool, level) for tool in (first, *others))

    def _level(self, caller: Caller, access: ServerAccess, tool: str) -> Level:
        called = decide(caller, access, self._tools, tool)
        if called.refusal is not None:
            # A tool that is not listed cannot be called, and the refusal says which of the two it was.
            return Level.NOTHING if called.refusal.code == "tool_unavailable" else Level.LIST
        return Level.DEPENDS if called.depends_on else Level.CALL

    def _caller(self, who: Who, place: Place) -> Caller:
        return Caller(
            sub=who.service or who.person or _SOMEBODY,
            sub_type="service" if who.service else "person",
            groups=who.groups,
            surface=place.surface,
            client_id="",
            audience=self._resource_url,
            expires_at=0,
            token_id="",
            channel=place.channel,
            scope=SCOPE_TOOLS_READ if who.service else SCOPE_TOOLS,
        )


def _check_cases(
    people: People, named: frozenset[tuple[str, str]], granted: set[str], places: int, kinds: int
) -> None:
    """Keep an author's long lists from holding the hub up: count who is compared, and who is decided on."""
    judged = {name for kind, name in named if kind == "Group"}
    told = granted | judged
    known = len({frozenset(told.intersection(groups)) for groups in {person.groups for person in people.known}})
    guessed = decided = 0
    if not people.exhaustive:
        guessed = len(granted) * (1 + len(named))
        decided = (1 + len(granted & judged)) * (1 + len(named))
    cases = places * (known + guessed + (known + decided) * kinds)
    if cases > MOST_CASES:
        raise TooManyCases(cases)


_SOMEBODY = "\x00"
"""The id of somebody whom no policy names: no login gives such a one."""


def _alike(tools: Mapping[str, GovernedTool]) -> list[list[str]]:
    """Tools of one policy, together where it cannot tell them apart; those that only read are apart for services."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for name, tool in tools.items():
        apart = any(kind == "Tool" for kind, _ in tool.policy.names)
        found.setdefault((tool.policy.name, name if apart else "", tool.read_only), []).append(name)
    return list(found.values())


def _sorted(
    people: People, named: frozenset[tuple[str, str]], before: Access, after: Access
) -> Iterator[tuple[Who, list[PersonFacts]]]:
    """Everybody who may be concerned, by what a decision sees of them."""
    granted = {*before.groups, *after.groups}
    groups = granted | {name for kind, name in named if kind == "Group"}
    persons = {name for kind, name in named if kind == "Person"}
    members: dict[Who, list[PersonFacts]] = {}
    sets: dict[tuple[str, ...], tuple[str, ...]] = {}
    for person in people.known:
        of_person = sets.get(person.groups)
        if of_person is None:
            of_person = sets[person.groups] = tuple(sorted(groups.intersection(person.groups)))
        if not granted.isdisjoint(of_person):
            who = Who(of_person, person.sub if person.sub in persons else "")
            members.setdefault(who, []).append(person)
    if not people.exhaustive:
        judged = {name for kind, name in named if kind == "Group"}
        for who in _somebody_of(granted, judged, persons):
            members.setdefault(who, [])
    yield from sorted(members.items())
    for service in sorted({*before.services, *after.services}):
        yield Who(service=service), []


def _somebody_of(granted: set[str], judged: set[str], persons: set[str]) -> Iterator[Who]:
    """People nobody knows of: of each group that is granted, alone, with each that a policy names, and by name.

    Who is in three of them at once is told of only where somebody known is.
    """
    for group in sorted(granted):
        yield Who((group,))
        yield from (Who((group,), person) for person in sorted(persons))
        yield from (Who(tuple(sorted((group, other)))) for other in sorted(judged - {group}))


def _places(before: Access, after: Access) -> tuple[Place, ...]:
    """Everywhere that is granted before or after; nobody may use it from anywhere else."""
    surfaces = {*before.surfaces, *after.surfaces}
    channels = sorted({*before.channels, *after.channels})
    persons = [surface for surface in PERSON_SURFACES if surface in surfaces and surface != "bot"]
    bots = [Place("bot", channel) for channel in channels] if "bot" in surfaces else []
    return (*map(Place, persons), *bots, *([Place("service")] if "service" in surfaces else []))


def _places_of(who: Who, places: tuple[Place, ...]) -> Iterator[Place]:
    return (place for place in places if (place.surface == "service") == bool(who.service))


_Changes = tuple[ToolChange, ...]


def _changes(was: _Side, will: _Side, who: Who, place: Place) -> tuple[_Changes, _Changes, bool]:
    """What they gain and lose there, and whether they may use any tool both before and after."""
    before, after = was.levels(who, place), will.levels(who, place)
    changed = [
        ToolChange(tool, before.get(tool, Level.NOTHING), after.get(tool, Level.NOTHING))
        for tool in {**before, **after}
        if before.get(tool) != after.get(tool)
    ]
    gains = tuple(sorted(change for change in changed if change.after > change.before))
    loses = tuple(sorted(change for change in changed if change.after < change.before))
    return gains, loses, not before.keys().isdisjoint(after)


class _Compared(NamedTuple):
    """The outcomes for somebody, each with the places that have it, and whether they keep any tool anywhere."""

    merged: list[tuple[tuple[Place, ...], _Changes, _Changes]]
    keeps: bool


def _compare(was: _Side, will: _Side, who: Who, places: Iterable[Place]) -> _Compared:
    together: dict[tuple[_Changes, _Changes], list[Place]] = {}
    keeps = False
    for place in places:
        gains, loses, keeps_here = _changes(was, will, who, place)
        keeps = keeps or keeps_here
        if gains or loses:
            together.setdefault((gains, loses), []).append(place)
    return _Compared([(tuple(places), gains, loses) for (gains, loses), places in together.items()], keeps)
