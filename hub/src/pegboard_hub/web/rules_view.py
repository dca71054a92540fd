"""Coarse rules as page, API and internal door tell them, and what is read of a request to change them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.coarse import LONGEST_TEXT, MOST_BYTES, CoarseRule, RuleBody
from pegboard.core.methods import CALL, METHODS
from pegboard.core.names import SURFACES
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.history import Actor
from pegboard_hub.ruling.effective import Effective, Verdict, effective
from pegboard_hub.ruling.errors import Reason, RulesRefused
from pegboard_hub.ruling.model import Kept, Version
from pegboard_hub.ruling.preview import Preview, Row, TooManyCases, preview
from pegboard_hub.ruling.service import Proposed, with_version
from pegboard_hub.web.impact_view import known_people
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import find_server

BODY_LIMIT = MOST_BYTES + 64 * 1024
"""Bytes of a request that changes rules."""

MOST_ROWS = 200
MOST_NAMED = 20
MOST_LISTED = 1000
MOST_TOLD = 5

STATUSES: dict[Reason, int] = {"invalid": 422, "same": 422, "moved": 409, "widens": 403, "unknown": 404}
"""What each reason of a `RulesRefused` is over HTTP."""

_CODES = {403: "widens", 404: "not_found", 409: "conflict", 422: "invalid_request"}

TOO_MANY = (
    "It is about too many servers and people to tell who; look at the difference, or change fewer rules at once."
)
NOT_EXHAUSTIVE = "People who are signed in now are named; everybody else in the same groups gains and loses the same."


class RuleEntry(CoarseRule):
    """One rule in force."""

    since: int = Field(description="the version of the rules that made it what it is")


class VersionEntry(BaseModel):
    """One version of the rules. `at` is in milliseconds since the epoch."""

    version: int
    at: int
    by: str = Field(description="who made it; `operator` at the machine")
    why: str
    reverts_to: int | None = Field(description="the version whose rules it brought back")

    @classmethod
    def of(cls, made: Version) -> VersionEntry:
        """A version, told."""
        return cls(version=made.version, at=made.at_ms, by=made.by.sub, why=made.why, reverts_to=made.reverts_to)


class RulesAnswer(BaseModel):
    """The rules in force, in order of name."""

    version: int = Field(description="0 while there never were any")
    made: VersionEntry | None
    total: int = Field(description="how many there are, of all names and servers")
    rules: list[RuleEntry]
    next: str | None = Field(default=None, description="`after` for the next page; null on the last")


class RulesFileAnswer(BaseModel):
    """One version as a file, which says in `version` on which version it was made."""

    version: int
    text: str


class VersionsAnswer(BaseModel):
    """Who changed the rules, newest first."""

    versions: list[VersionEntry]


class DifferenceAnswer(BaseModel):
    """What changed between two versions, as lines that begin with a sign."""

    old: int
    new: int
    lines: list[str]


class PartEntry(BaseModel):
    """One thing that has a say."""

    what: str
    allows: bool
    fact: str
    rule: str | None = Field(default=None, description="the rule's name, where it is one")
    since: VersionEntry | None = Field(default=None, description="the version that made the rule what it is")


class EffectiveAnswer(BaseModel):
    """What holds for a surface, a server, a method and groups, and where each part of it is from."""

    verdict: Verdict
    parts: list[PartEntry]


class ChangeBody(BaseModel):
    """A change of the rules: a file, or an earlier version."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(default=None, max_length=MOST_BYTES, description="the whole file")
    revert_to: int | None = Field(default=None, ge=0, description="the version that should hold again")
    on: int | None = Field(
        default=None, ge=0, description="the version that it was made on; none: the file's `version` says it"
    )


class ApplyBody(ChangeBody):
    """The same, with the reason for the history."""

    why: str = Field(min_length=1, max_length=LONGEST_TEXT)


class RowEntry(BaseModel):
    """What some gain and lose."""

    who: str = Field(description="the groups that decide, or the service")
    people: list[str] = Field(description=f"ids of those who are known here, {MOST_NAMED} at most")
    known: int = Field(description="how many are known here")
    surfaces: list[str]
    servers: list[str] = Field(description=f"{MOST_NAMED} at most")
    of_servers: int
    gains: list[str]
    loses: list[str]


class PreviewAnswer(BaseModel):
    """What a change would come to."""

    on: int = Field(description="the version in force; an apply after somebody else's change is refused")
    changes: bool
    widens: list[str] = Field(description="rules in force that would not hold as strictly any more")
    difference: list[str]
    gaining: int
    losing: int
    rows: list[RowEntry]
    more: int = Field(description="rows that are not told")
    notes: list[str]


class EffectiveQuery(BaseModel):
    """What is asked about."""

    model_config = ConfigDict(extra="forbid")

    server: str = Field(max_length=255)
    surface: Literal[SURFACES] = "cli"  # type: ignore[valid-type]
    method: Literal[METHODS] = CALL  # type: ignore[valid-type]
    group: list[str] = Field(default=[], max_length=50)


async def propose(parts: Parts, body: ChangeBody) -> Proposed:
    """The change that a request asks for.

    Raises:
        Refused: it is none.
    """
    if (body.text is None) == (body.revert_to is None):
        raise refuse(422, "invalid_request", "text: Either it or revert_to is given.", "Send one of the two.")
    try:
        if body.text is not None:
            return await parts.ruling.propose(body.text, body.on)
        return await parts.ruling.propose_revert(body.revert_to, body.on)
    except RulesRefused as error:
        raise rules_refusal(error) from error


async def apply(parts: Parts, body: ApplyBody, by: Actor, *, widening: bool) -> VersionEntry:
    """Make the change.

    Raises:
        Refused: it cannot be, or not by this door.
    """
    proposed = await propose(parts, body)
    try:
        kept = await parts.ruling.apply(proposed, by, body.why, widening=widening)
    except RulesRefused as error:
        raise rules_refusal(error) from error
    assert kept.made is not None  # noqa: S101 - it was just made
    return VersionEntry.of(kept.made)


async def previewed(parts: Parts, proposed: Proposed) -> PreviewAnswer:
    """Who would gain what and who would lose what. It is worked out beside the event loop."""
    people, exhaustive = await known_people(parts)
    servers, old = parts.registry.current.all_deployed, proposed.on.rules
    found: Preview | None = None
    try:
        found = await asyncio.to_thread(preview, old, proposed.rules, servers, people, exhaustive=exhaustive)
    except TooManyCases:
        notes = [TOO_MANY]
    else:
        notes = [] if exhaustive or not found.rows else [NOT_EXHAUSTIVE]
    rows = found.rows if found else ()
    if old.limits != proposed.rules.limits:
        notes.append("Limits change, which the difference shows; nobody gains or loses a method by that.")
    notes += _about_nothing(old.rules, proposed.rules.rules, parts.registry.current.servers)
    return PreviewAnswer(
        on=proposed.on.version,
        changes=proposed.changes,
        widens=[rule.name for rule in proposed.widened],
        difference=await asyncio.to_thread(lambda: proposed.difference),
        gaining=found.gaining if found else 0,
        losing=found.losing if found else 0,
        rows=[_row(row) for row in rows[:MOST_ROWS]],
        more=max(0, len(rows) - MOST_ROWS),
        notes=notes,
    )


def _about_nothing(old: Iterable[CoarseRule], new: Iterable[CoarseRule], servers: Iterable[str]) -> list[str]:
    """A note for each place that a rule newly names and that there is not: a slip would silently refuse nothing."""
    names = list(servers)
    known = {"server": names, "namespace": sorted({name.partition("/")[0] for name in names})}
    before = set(old)
    found = [
        f"Rule {rule.name} is about {what} {place}, which there is not here{_meant(place, known[what])}"
        for rule in new
        if rule not in before
        for what, places in (("server", rule.servers), ("namespace", rule.namespaces))
        for place in places
        if place not in known[what]
    ]
    rest = len(found) - MOST_NAMED
    return found[:MOST_NAMED] + ([f"and {rest} more places that there are not"] if rest > 0 else [])


def _meant(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ": it holds once there is one."


def _row(row: Row) -> RowEntry:
    return RowEntry(
        who=row.who.service or " and ".join(row.who.groups),
        people=sorted(person.sub for person in row.people)[:MOST_NAMED],
        known=len(row.people),
        surfaces=list(row.surfaces),
        servers=list(row.servers[:MOST_NAMED]),
        of_servers=len(row.servers),
        gains=list(row.gains),
        loses=list(row.loses),
    )


def listed(kept: Kept, server: str = "", after: str = "", limit: int = MOST_LISTED) -> RulesAnswer:
    """The rules, or those that name one server, a page of them."""
    about = [rule for rule in kept.rules.rules if rule.name > after and (not server or server in rule.servers)]
    page = about[:limit]
    return RulesAnswer(
        version=kept.version,
        made=VersionEntry.of(kept.made) if kept.made else None,
        total=len(kept.rules.rules),
        rules=list(entries(kept, page)),
        next=page[-1].name if len(about) > limit else None,
    )


def entries(kept: Kept, rules: Iterable[CoarseRule]) -> Iterable[RuleEntry]:
    """Rules with the version that made each what it is."""
    for rule in rules:
        yield RuleEntry.model_construct(
            **{name: getattr(rule, name) for name in (*RuleBody.model_fields, "name")},
            since=kept.since.get(rule.name, kept.version),
        )


async def file_of(parts: Parts, version: int | None) -> RulesFileAnswer:
    """One version as a file; None: the one in force.

    Raises:
        Refused: there is none of that number.
    """
    try:
        kept = parts.ruling.kept if version is None else await parts.ruling.find(version)
    except RulesRefused as error:
        raise rules_refusal(error) from error
    return RulesFileAnswer(version=kept.version, text=with_version(kept))


async def differing(parts: Parts, old: int | None, new: int | None) -> DifferenceAnswer:
    """What changed between two versions; by default what the newest changed.

    Raises:
        Refused: there is none of that number.
    """
    new = parts.ruling.kept.version if new is None else new
    old = max(0, new - 1) if old is None else old
    try:
        return DifferenceAnswer(old=old, new=new, lines=await parts.ruling.difference(old, new))
    except RulesRefused as error:
        raise rules_refusal(error) from error


async def effective_of(parts: Parts, asked: EffectiveQuery) -> EffectiveAnswer:
    """What holds for what is asked about.

    Raises:
        Unanswerable: there is no such server.
    """
    server, kept = find_server(parts, asked.server), parts.ruling.kept
    found = effective(kept, server, asked.surface, asked.method, tuple(asked.group))
    return EffectiveAnswer(verdict=found.verdict, parts=await _parts(parts, found))


async def _parts(parts: Parts, found: Effective) -> list[PartEntry]:
    made: dict[int, VersionEntry | None] = {}
    for version in {part.version for part in found.parts if part.version}:
        kept = await parts.ruling.find(version)
        made[version] = VersionEntry.of(kept.made) if kept.made else None
    return [
        PartEntry(
            what=part.what,
            allows=part.allows,
            fact=part.fact,
            rule=part.rule.name if part.rule else None,
            since=made.get(part.version),
        )
        for part in found.parts
    ]


def rules_refusal(error: RulesRefused) -> Refused:
    """A `RulesRefused` over HTTP."""
    message = f"{error.field}: {error.message}" if error.reason == "invalid" else error.message
    if error.reason == "invalid" and error.lines:
        rest = len(error.lines) - MOST_TOLD
        told = "; ".join(error.lines[:MOST_TOLD]) + (f"; and {rest} more" if rest > 0 else "")
        message = f"{message} {told}."
    status = STATUSES[error.reason]
    refused = refuse(status, _CODES[status], message, error.mend, f"rules_{error.reason}")
    refused.details = {"lines": list(error.lines)} if error.lines else {}
    return refused
