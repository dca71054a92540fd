"""What approvals come to: the access that all reviews of one subject grant together. No input or output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import GRANTS_FILE
from pegboard_hub.registry.model import REACHABLE, Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews.model import TITLES, Kind, Review, State
from pegboard_hub.registry.reviews.rules import ACCESS, common, needed_of, together

NOUNS = {"groups": "group", "surfaces": "surface", "channels": "channel", "services": "service"}
"""The fields of an access that let somebody in: a group and a surface together, or a service. Surface `bot` counts
only with a channel."""

BOT = "bot"
"""The surface whose calls come from channels."""

MOST_NAMED = 5
"""Values that a sentence names."""


class Bound(NamedTuple):
    """Something that bounds what is granted.

    Attributes:
        who: for example `Security by sol`.
        access: what they let hold at most.
    """

    who: str
    access: Access


class Unreached(NamedTuple):
    """Why a server whose approvals are all there lets nobody in.

    Attributes:
        why: what is granted, and who approved what, in words.
        mend: who does what about it.
        in_vain: whether all its reviews approved something, and it comes to nothing.
    """

    why: str
    mend: str
    in_vain: bool


def bounds_of(found: Mapping[Kind, Review], server: RegisteredServer) -> list[Bound]:
    """What bounds a grant beside what is asked for: each approval and, with a kind that was not asked, what holds.

    A kind that the subject does not concern was not asked: what it let hold until now is the most that holds on.
    """
    approved = [
        Bound(f"{TITLES[kind]} by {review.decided_by}", review.granted)
        for kind, review in found.items()
        if review.state is State.APPROVED and review.granted is not None
    ]
    unasked = set(needed_of(server)) - found.keys()
    return [*approved, *([Bound("what is granted already", server.granted)] if unasked else [])]


def at_most(found: Mapping[Kind, Review], server: RegisteredServer) -> Access:
    """What can be granted, by what was approved of one subject until now.

    What is granted already can stay, also what the operator granted and nobody asked for.
    """
    return common(together(server.requested, server.granted), *(each.access for each in bounds_of(found, server)))


def granted_by(found: Mapping[Kind, Review], server: RegisteredServer) -> Access | None:
    """What reviews of one subject grant together; None while one is not approved."""
    done = bool(found) and all(review.state is State.APPROVED and review.granted for review in found.values())
    return at_most(found, server) if done else None


def left_out_before(review: Review, every: Iterable[Review]) -> dict[str, Review]:
    """What earlier approvals left out of the access that a review looks at, and nobody has asked for anew since.

    Args:
        review: the review.
        every: the reviews of its server, those that were opened last first.

    Returns:
        The approval that left it out, by field and value, as `groups:finance`.
    """
    every = list(every)
    found: dict[str, Review] = {}
    for field in Access._fields:
        for value in getattr(review.subject.requested, field):
            if (left := _left_out(field, value, review.opened_at_ms, every)) is not None:
                found[f"{field}:{value}"] = left
    return found


def _left_out(field: str, value: str, until_ms: int, every: Iterable[Review]) -> Review | None:
    asked_at_ms, decided = 0, dict[Kind, Review]()
    for each in every:
        anew = any(change.what == f"{ACCESS}{field}" and value in change.after for change in each.changes)
        if anew and each.opened_by != GRANTS_FILE.sub:
            asked_at_ms = max(asked_at_ms, each.opened_at_ms)
        looked = each.granted is not None and value in getattr(each.subject.requested, field)
        if looked and (each.decided_at_ms or 0) <= until_ms:
            decided.setdefault(each.kind, each)
    for each in decided.values():
        if each.granted and value not in getattr(each.granted, field) and (each.decided_at_ms or 0) > asked_at_ms:
            return each
    return None


def reason_of(found: Iterable[Review]) -> str:
    """Who granted, for whoever asks why."""
    return ", ".join(f"{review.kind} review {review.id} by {review.decided_by}" for review in found)


def reaches_somebody(access: Access) -> bool:
    """Whether an access lets anybody in: a service, or people of a group from a surface."""
    return bool(access.services or (access.groups and _open_surfaces(access)))


def _open_surfaces(access: Access) -> tuple[str, ...]:
    """The surfaces that somebody can come from: `bot` is used in channels alone."""
    return tuple(surface for surface in access.surfaces if surface != BOT or access.channels)


def lacking_of(access: Access) -> tuple[str, ...]:
    """The fields for want of which an access lets no person in."""
    if access.surfaces and not _open_surfaces(access):
        return ("channels",) if access.groups else ("groups", "channels")
    return tuple(name for name in ("groups", "surfaces") if not getattr(access, name))


def check_shares(found: Mapping[Kind, Review], server: RegisteredServer, access: Access) -> None:
    """Keep an approval from sharing nothing with the others of its subject, where it could share something.

    Args:
        found: the reviews of the subject, before this approval.
        server: whose they are.
        access: what is to be approved.

    Raises:
        ChangeRefused: with it nobody would get in; it names the field, who approved what, and what to do.
    """
    left = at_most(found, server)
    shared = common(left, access)
    if reaches_somebody(shared) or not reaches_somebody(left):
        return
    field = _unshared(left, shared)
    fault = f"nobody would get in, for no {NOUNS[field]} would be approved by all: {_told(field, found, server)}"
    one = f"Tick one of {_named(getattr(left, field))}"
    mend = f"{one}, or reject it and say why: its owners then ask for what all its reviewers can approve."
    raise ChangeRefused(field, fault, mend)


def _unshared(left: Access, shared: Access) -> str:
    """The field of which something is left, and nothing would be shared."""
    found = [name for name in lacking_of(shared) if getattr(left, name)]
    if found:
        return found[0]
    # Only a bot's surface is shared, and no channel is left for it: another surface is.
    return "surfaces" if left.groups and _open_surfaces(left) else "services"


def is_closed(server: RegisteredServer) -> bool:
    """Whether a server is approved, and what is granted lets nobody in."""
    return server.lifecycle in (Lifecycle.APPROVED, *REACHABLE) and not reaches_somebody(server.granted)


def unreached(found: Mapping[Kind, Review], server: RegisteredServer) -> Unreached | None:
    """Why nobody gets into a server that is approved; None where somebody does, or it is not approved.

    Args:
        found: the reviews of what it asks for now.
        server: the server.
    """
    if not is_closed(server):
        return None
    lacking = lacking_of(server.granted)
    nothing = f"No {' and no '.join(NOUNS[name] for name in lacking)} is granted"
    if "channels" in lacking:
        nothing += f", and surface {BOT} is used in channels alone"
    granted = granted_by(found, server)
    if any(review.open for review in found.values()):
        return Unreached(f"{nothing}.", "Its reviews are open: its reviewers decide.", False)
    asked_for = reaches_somebody(together(server.requested, server.granted))
    if granted is None or reaches_somebody(granted) or not asked_for:
        return Unreached(f"{nothing}.", "Its owners ask for access, or the operator’s grants file grants it.", False)
    told = ". ".join(f"Of the {name}: {_told(name, found, server)}" for name in lacking)
    mend = "Its owners ask for access again, and its reviewers approve one and the same group and surface."
    return Unreached(f"{nothing}, for its reviews approved none in common. {told}.", mend, True)


def _told(field: str, found: Mapping[Kind, Review], server: RegisteredServer) -> str:
    """Who approved what of a field."""
    bounds = bounds_of(found, server)
    return "; ".join(f"{bound.who}: {_named(getattr(bound.access, field)) or 'none'}" for bound in bounds)


def _named(values: tuple[str, ...]) -> str:
    more = len(values) - MOST_NAMED
    return ", ".join(values[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
