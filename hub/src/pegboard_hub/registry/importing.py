"""Taking over what the operator's grants file says, without losing what was changed in the registry meanwhile.

It is a three-way merge of each field: what the file said when it was last taken over, what it says now, and what the
registry says now.

| the file        | the registry since     | what happens                                              |
|-----------------|------------------------|-----------------------------------------------------------|
| says the same   | anything               | nothing                                                   |
| says another    | as the file said       | the file's is taken over                                  |
| says another    | says the same          | nothing: they agree                                       |
| says another    | says something else    | a conflict, which a problem tells: of a list what the     |
|                 |                        | file took out ends, and nothing else is taken over        |

What the file never said is the registry's alone. A field that it no longer says is empty again.

A reason is one for an access. With an access that the file changes comes the file's own, and nobody else's name; one
that the file does not say is the registry's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pegboard.core.grants import Grant
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.model import Kind

EMPTY: dict[str, Any] = {
    "groups": [],
    "surfaces": [],
    "channels": [],
    "services": [],
    "reason": "",
    "releases": "reviewed",
    "stopped": "",
    "stopped_tools": {},
}
"""The fields that are taken over, each with what it is where the file does not say it."""

REASON = "reason"

BY_FILE = "the grants file grants it"
"""Who granted, where the file changes an access and gives no reason of its own."""

_OF_REVIEWS = re.compile(rf"({'|'.join(Kind)}) review [0-9a-f]{{16}} by ")
"""A reason that reviewers gave: it may stand in a file that came out of the registry, and signs nothing there."""

Entry = Mapping[str, Any]
"""What the file says of one server, of those fields; what it leaves out is not in it."""


class Merge(NamedTuple):
    """What comes of an entry.

    Attributes:
        take: fields to change, with what they are to be.
        accepted: the entry as it counts as taken over.
        conflicts: fields that are not wholly taken over, each with what file and registry say.
        differs: fields in which the file says what it always said, and the registry has decided since; the same pair.
    """

    take: dict[str, Any]
    accepted: dict[str, Any]
    conflicts: dict[str, tuple[Any, Any]]
    differs: dict[str, tuple[Any, Any]]

    @property
    def grants(self) -> bool:
        """Whether an access is taken over."""
        return not self.take.keys().isdisjoint(Access._fields)


def entry_of(grant: Grant) -> dict[str, Any]:
    """What the file says of one server."""
    said: dict[str, Any] = {}
    for name, empty in EMPTY.items():
        if name in grant.model_fields_set:
            value = getattr(grant, name)
            said[name] = sorted(set(value)) if isinstance(empty, list) else value
    return {name: value for name, value in said.items() if value is not None}


def held(server: RegisteredServer) -> dict[str, Any]:
    """What the registry says of one server, in the file's fields."""
    return {
        **{name: sorted(values) for name, values in server.granted._asdict().items()},
        "reason": server.reason,
        "releases": "any" if server.takes_any else "reviewed",
        "stopped": server.stopped,
        "stopped_tools": dict(server.stopped_tools),
    }


def merge(last: Entry | None, now: Entry, have: Entry) -> Merge:
    """The three-way merge.

    Args:
        last: what was last taken over; None: nothing ever.
        now: what the file says.
        have: what the registry says, of every field.
    """
    found = Merge({}, {}, {}, {})
    for name, empty in EMPTY.items():
        # A file that comes to a server for the first time is the operator's word on it, where it says anything.
        before = have[name] if last is None else last.get(name, empty)
        wanted = now.get(name, before if last is None else empty)
        if name == REASON and (found.grants or (name not in now and have[name] != before)):
            _take_reason(found, now, have)
            continue
        kept = _without_what_ends(before, wanted, have[name])
        if wanted not in (before, have[name], kept) and have[name] != before:
            found.conflicts[name] = (wanted, kept)
            if kept != have[name]:
                found.take[name] = kept
            if last is not None and name in last:
                found.accepted[name] = last[name]
            continue
        if wanted not in (before, have[name]):
            found.take[name] = wanted
        if name in now:
            found.accepted[name] = wanted
            if name != REASON and wanted == before != have[name]:
                found.differs[name] = (wanted, have[name])
    return found


def _without_what_ends(before: Any, wanted: Any, have: Any) -> Any:
    """What the registry keeps where the two do not agree: of a list not what the operator has taken out.

    Whoever may give something back could otherwise keep the operator from taking away more.
    """
    if not isinstance(have, list):
        return have
    return [value for value in have if value in wanted or value not in before]


def _take_reason(found: Merge, now: Entry, have: Entry) -> None:
    """The reason that comes with an access; where the file says none, the registry's stays for what it takes away."""
    said = now.get(REASON, "")
    own = "" if _OF_REVIEWS.match(said) else said
    adds = any(not set(found.take.get(name, ())) <= set(have[name]) for name in Access._fields)
    reason = own or (BY_FILE if adds else have[REASON])
    if found.grants and reason != have[REASON]:
        found.take[REASON] = reason
    if REASON in now:
        found.accepted[REASON] = said


def granted(take: Entry, server: RegisteredServer) -> Access:
    """What is granted once `take` is taken over."""
    return Access(*(tuple(take.get(name, getattr(server.granted, name))) for name in Access._fields))


def stops(take: Entry, server: RegisteredServer) -> dict[str, str]:
    """What is stopped once `take` is taken over, the server itself under the empty name."""
    whole = take.get("stopped", server.stopped)
    return {**({"": whole} if whole else {}), **take.get("stopped_tools", server.stopped_tools)}
