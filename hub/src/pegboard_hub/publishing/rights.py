"""Who may submit, and who may know of what was submitted.

| who | may submit | may know of a submission |
|---|---|---|
| a person | what their team owns, or will own | of servers in whose circle they are |
| an operator | anything | anything |
| a service | servers that named it a publisher | those it submitted |
| the operator at the machine | anything | anything |
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.submissions import ActorKind, Submission
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.visibility import Roles


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who submits, as the door has verified it.

    Attributes:
        sub: a person's id, a SPIFFE ID, or `operator`.
        groups: of a person.
    """

    sub: str
    kind: ActorKind
    groups: tuple[str, ...] = ()

    @property
    def actor(self) -> Actor:
        """As the history has it."""
        return Actor(self.sub, self.kind)


AT_THE_MACHINE = Submitter("operator", "operator")
"""Somebody with the operator's credential at the machine."""


def owns(roles: Roles, who: Submitter, server: RegisteredServer) -> bool:
    """Whether somebody is of the team that owns a server, or operates this instance."""
    return who.kind == "operator" or (who.kind == "person" and roles.own(who.groups, server))


def sees(roles: Roles, who: Submitter, server: RegisteredServer | None, submission: Submission) -> bool:
    """Whether somebody may know of a submission."""
    if who.kind == "operator":
        return True
    if who.kind == "service":
        return (submission.actor_kind, submission.actor) == ("service", who.sub)
    return server is not None and roles.involve(who.groups, server)


def check_owner(roles: Roles, who: Submitter, owner: str, teams: Collection[str] | None) -> None:
    """See to it that whoever submits may give a server to its manifest's owner.

    Args:
        roles: who operates.
        who: submits.
        owner: as the manifest says.
        teams: those for which operators may register; None: any.

    Raises:
        PublishingRefused: they may not.
    """
    if who.kind == "operator" or (who.kind == "person" and owner in who.groups):
        return
    if who.kind == "person" and roles.operate(who.groups) and (teams is None or owner in teams):
        return
    message = f"pegboard.toml says that {owner} owns it, and you are not of them."
    raise PublishingRefused(
        "not_yours", message, "Name a team of yours as owner, or let somebody of theirs submit it."
    )


def not_yours(server: RegisteredServer, *, known: bool) -> PublishingRefused:
    """Why somebody submits nothing to a server that is another team's; of a hidden one nothing is told."""
    if not known:
        return PublishingRefused("name_taken", f"{server.name} is taken.", "Choose another name.")
    whose = f"people in {server.owner}" if server.owner else "no group"
    message = f"{server.name} is owned by {whose}, and releases of it are submitted by them."
    return PublishingRefused("not_yours", message, f"Ask them in {server.support_channel or 'their channel'}.")


def check_open(server: RegisteredServer) -> None:
    """See to it that a server takes releases that are submitted.

    Raises:
        PublishingRefused: it is followed from a folder, or retired.
    """
    if server.source:
        message = f"{server.name} is followed from a folder that the grants file names."
        mend = "Ask the operator to take `source` out of its entry; then its releases are submitted."
        raise PublishingRefused("followed", message, mend)
    if server.lifecycle is Lifecycle.RETIRED:
        raise PublishingRefused("retired", f"{server.name} is retired.", "Bring it back first, on its page.")
