"""Talking about a review."""

from __future__ import annotations

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.errors import NotYours
from pegboard_hub.registry.reviews.reading import look_up
from pegboard_hub.registry.reviews.rights import Rights

MOST_COMMENTS = 500
"""On one review: its page shows all of them, and whoever reads it could otherwise be kept from deciding."""


async def comment(changing: Changing, rights: Rights, person: PersonFacts, review_id: str, text: str) -> None:
    """Say something about a review."""
    review = await look_up(changing.connection, review_id)
    if not rights.roles.involve(person.groups, changing.server(review.server)):
        message = "Reviews are talked about by a server’s owners, reviewers and operators."
        raise NotYours("not_involved", message, "Ask one of them.")
    if len(await store.comments(changing.connection, review.id)) >= MOST_COMMENTS:
        raise ChangeRefused("comment", f"{MOST_COMMENTS} were made of this review", "Talk about it elsewhere.")
    await store.comment(changing.connection, review.id, person.sub, text, changing.now_ms)
