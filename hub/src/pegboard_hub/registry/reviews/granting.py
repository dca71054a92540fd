"""What approvals come to: the access that all reviews of one subject grant together. No input or output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.registry.reviews.rules import common, needed_of, together


def granted_by(found: Mapping[Kind, Review], server: RegisteredServer) -> Access | None:
    """What reviews of one subject grant together; None while one is not approved.

    What is granted already can stay, also what the operator granted and nobody asked for. A kind that the subject
    does not concern was not asked: what it let hold until now is the most that holds on.
    """
    approved = [review.granted for review in found.values() if review.state is State.APPROVED and review.granted]
    if not found or len(approved) < len(found):
        return None
    unasked = set(needed_of(server)) - found.keys()
    return common(together(server.requested, server.granted), *approved, *([server.granted] if unasked else []))


def reason_of(found: Iterable[Review]) -> str:
    """Who granted, for whoever asks why."""
    return ", ".join(f"{review.kind} review {review.id} by {review.decided_by}" for review in found)


def reaches_somebody(access: Access) -> bool:
    """Whether an access lets anybody in: a service, or people of a group from a surface."""
    return bool(access.services or (access.groups and access.surfaces))
