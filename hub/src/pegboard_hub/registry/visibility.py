"""Who may know what of a server, and who may edit a draft.

Every signed-in person may know the record of every server that was published: its lifecycle, what it is granted, how
its reviews ended. What was never published is for its owner's team, reviewers, operators and security. Of tools
everybody knows those that the server lists for them, and an insider all (`explain.insider`). What nobody said may be
known is not told: the history has a list of what it tells, not of what it hides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pegboard.core.caller import Caller
from pegboard.core.grants import Reviews
from pegboard_hub.registry.explain import SECURITY, insider, owns, reaches
from pegboard_hub.registry.history import Entry
from pegboard_hub.registry.model import Lifecycle, RegisteredServer

APPROVERS = {"security": "security", "privacy": "legal", "genai": "security"}
"""The group that decides on each kind of review where the operator's file names none."""

TOLD_TO_ALL = frozenset(
    {
        "title",
        "description",
        "owner",
        "support_channel",
        "links",
        "sensitivity",
        "lifecycle",
        "lifecycle_why",
        "release",
        "stopped",
        "granted_groups",
        "granted_surfaces",
    }
)
"""Fields of the history that everybody may read who may know of the server. The others can name tools, policies,
sources, or what was asked for and not given."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Groups by what their people do.

    Attributes:
        operators: look after the instance.
        reviewers: decide on reviews, of any kind.
    """

    operators: frozenset[str]
    reviewers: frozenset[str]

    @classmethod
    def of(cls, operators: Iterable[str], reviews: Reviews) -> Roles:
        """The roles that the operator's files give."""
        named = {kind: getattr(reviews, kind).approvers or (default,) for kind, default in APPROVERS.items()}
        return cls(frozenset(operators), frozenset(group for groups in named.values() for group in groups))

    def operator(self, caller: Caller) -> bool:
        """Whether this caller looks after the instance."""
        return caller.sub_type == "person" and not self.operators.isdisjoint(caller.groups)

    def sees_drafts(self, caller: Caller) -> bool:
        """Whether this caller may know of every draft."""
        more = self.operators | self.reviewers | {SECURITY}
        return caller.sub_type == "person" and not more.isdisjoint(caller.groups)

    def sees_history(self, caller: Caller) -> bool:
        """Whether this caller may read what changed of all servers together."""
        return caller.sub_type == "person" and not (self.operators | {SECURITY}).isdisjoint(caller.groups)


def unpublished(server: RegisteredServer) -> bool:
    """Whether it is a draft, or was given up as one: nobody outside its circle ever saw it."""
    if server.lifecycle is Lifecycle.RETIRED:
        return server.first_live_at_ms is None and server.release is None and server.waiting is None
    return server.lifecycle is Lifecycle.DRAFT


def sees(roles: Roles, caller: Caller, server: RegisteredServer, public_url: str) -> bool:
    """Whether this caller may know of the server at all. A service knows what it may reach."""
    if caller.sub_type != "person":
        return server.reachable and reaches(caller, server, public_url)
    return not unpublished(server) or owns(caller, server) or roles.sees_drafts(caller)


def edits(roles: Roles, caller: Caller, server: RegisteredServer) -> bool:
    """Whether this caller may edit the draft: its owner's team and operators."""
    return server.lifecycle is Lifecycle.DRAFT and (owns(caller, server) or roles.operator(caller))


def told_history(caller: Caller, server: RegisteredServer, entry: Entry) -> Entry | None:
    """An entry as this caller may read it; None where nothing of it is for them.

    Its reason is told with all of its fields alone: it may speak of those that are left out.
    """
    if insider(caller, server):
        return entry
    fields = {name: pair for name, pair in entry.fields.items() if name in TOLD_TO_ALL}
    if not fields:
        return None
    whole = len(fields) == len(entry.fields)
    return replace(entry, fields=fields, why=entry.why if whole else "", version=0)
