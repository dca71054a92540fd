"""Who may know what of the registry, and who may edit a draft. Pages, API and search ask here, and nowhere else.

| of | may be known by |
|---|---|
| a server that was published | everybody who is signed in; a service, if it may call it |
| one that never was | its circle: its owner's team, reviewers, operators, security |
| a tool | whom it would be listed for; insiders (its owner's team and security) know every tool |
| what changed of a server, and what was said in its reviews | its circle; of what changed everybody `TOLD_TO_ALL` |

What nobody said may be known is not told: the history has a list of what it tells, not of what it hides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from pegboard.core.caller import Caller
from pegboard.core.grants import Reviews
from pegboard_hub.registry.explain import reaches
from pegboard_hub.registry.history import Entry
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.reviews.rules import approvers

SECURITY = "security"
"""The group that may look at everybody's access."""

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
        "ends_at_ms",
        "successor",
        "release",
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
        reviewers = frozenset(group for kind in Kind for group in approvers(reviews, kind))
        return cls(frozenset(operators), reviewers)

    @property
    def overseers(self) -> frozenset[str]:
        """Groups whose people are in the circle of every server."""
        return self.operators | self.reviewers | {SECURITY}

    def operate(self, groups: Collection[str]) -> bool:
        """Whether people in these groups are operators."""
        return not self.operators.isdisjoint(groups)

    def own(self, groups: Collection[str], server: RegisteredServer) -> bool:
        """Whether people in these groups may do with a server what its owners may: its owners and operators."""
        return _owned_by(groups, server) or self.operate(groups)

    def involve(self, groups: Collection[str], server: RegisteredServer) -> bool:
        """Whether people in these groups are in a server's circle."""
        return _owned_by(groups, server) or not self.overseers.isdisjoint(groups)


def is_person(caller: Caller) -> bool:
    """Whether the caller is no service."""
    return caller.sub_type == "person"


def owns(caller: Caller, server: RegisteredServer) -> bool:
    """Whether this person is in the server's owner team; a server that was never described has none."""
    return is_person(caller) and _owned_by(caller.groups, server)


def insider(caller: Caller, server: RegisteredServer) -> bool:
    """Whether this caller may know every tool of the server, and everybody's access to it."""
    return owns(caller, server) or (is_person(caller) and SECURITY in caller.groups)


def oversees(roles: Roles, caller: Caller) -> bool:
    """Whether this caller is in the circle of every server."""
    return is_person(caller) and not roles.overseers.isdisjoint(caller.groups)


def in_circle(roles: Roles, caller: Caller, server: RegisteredServer) -> bool:
    """Whether this caller may know all that was changed of the server and said in its reviews, tools or not."""
    return is_person(caller) and roles.involve(caller.groups, server)


def sees(roles: Roles, caller: Caller, server: RegisteredServer, public_url: str) -> bool:
    """Whether this caller may know of the server at all. A service knows what it may reach."""
    if not is_person(caller):
        return reaches(caller, server, public_url)
    return server.published or in_circle(roles, caller, server)


def edits(roles: Roles, caller: Caller, server: RegisteredServer) -> bool:
    """Whether this caller may write the record: of a draft, as one of its owner's team or an operator."""
    return server.lifecycle is Lifecycle.DRAFT and is_person(caller) and roles.own(caller.groups, server)


def told_history(roles: Roles, caller: Caller, server: RegisteredServer, entry: Entry) -> Entry | None:
    """An entry as this caller may read it; None where nothing of it is for them.

    Its reason is for the circle: it may speak of what is left out, or of what was said before anybody could know of
    the server. Why one is deprecated or retired is a field, and told.
    """
    if in_circle(roles, caller, server):
        return entry
    fields = {name: pair for name, pair in entry.fields.items() if name in TOLD_TO_ALL}
    if not fields:
        return None
    _, said = fields.get("lifecycle_why", ("", ""))
    return replace(entry, fields=fields, why=said or "", version=0)


def _owned_by(groups: Collection[str], server: RegisteredServer) -> bool:
    return bool(server.owner) and server.owner in groups
