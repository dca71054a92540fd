"""Opening a review beside those there are: of what was rejected, or for GenAI where security asks for it."""

from __future__ import annotations

from dataclasses import replace

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.deciding import check_asked, decidable
from pegboard_hub.registry.reviews.errors import NotYours, ReviewConflict
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.registry.reviews.reading import look_up
from pegboard_hub.registry.reviews.rights import Rights


async def reopen(changing: Changing, rights: Rights, person: PersonFacts, review_id: str, why: str) -> str:
    """Have a review that was rejected looked at again; gives the new review's id."""
    review = await look_up(changing.connection, review_id)
    server = changing.server(review.server)
    if not rights.owns(person, server) and review.kind not in rights.kinds_of(person.groups):
        raise NotYours("not_an_owner", "Its owners and its reviewers reopen a review.", "Ask one of them.")
    check_asked(server)
    newest = (await store.round_of(changing.connection, server)).get(review.kind)
    if newest is None or newest.id != review.id or review.state is not State.REJECTED:
        raise ReviewConflict("Only a rejection of what is still asked for can be looked at again.")
    return await _open_again(changing, review, person.sub, why, store.REOPEN)


async def ask_genai(changing: Changing, rights: Rights, person: PersonFacts, review_id: str, why: str) -> str:
    """Ask for a GenAI review beside a security review that is open; gives its id."""
    review, server = await decidable(changing, rights, person, review_id, None)
    if review.kind is not Kind.SECURITY:
        raise NotYours("not_a_reviewer", "A security review asks for it.", "Open the security review.")
    if Kind.GENAI in await store.round_of(changing.connection, server):
        raise ReviewConflict("There is a GenAI review of this already.")
    return await _open_again(changing, replace(review, kind=Kind.GENAI), person.sub, why, store.ASK_GENAI)


async def lift_genai(changing: Changing, rights: Rights, person: PersonFacts, review_id: str, why: str) -> str:
    """Have later releases looked at for GenAI no longer because somebody asked for it; gives the review's id.

    What is open stays to be decided, and a release that says that it uses models is looked at as before.
    """
    review = await look_up(changing.connection, review_id)
    server = changing.server(review.server)
    if review.kind is not Kind.GENAI:
        raise NotYours("not_a_reviewer", "Reviewers of GenAI lift it.", "Open one of its GenAI reviews.")
    refused = rights.why_not(person, review, await store.authors_of(changing.connection, server))
    if refused is not None:
        raise refused
    if not await store.genai_asked(changing.connection, review.server):
        raise ReviewConflict("Nobody asks for GenAI reviews of it any more.")
    told = {"genai review of each release": (True, False)}
    await changing.note(review.server, Actor(person.sub), store.LIFT_GENAI, why, told)
    return review.id


async def _open_again(changing: Changing, like: Review, by: str, why: str, action: str) -> str:
    """Open a review of the same as another. It makes nobody an author: `store.authors_of` leaves it out."""
    await store.open_reviews(
        changing.connection,
        like.server,
        {like.kind: like.changes},
        like.subject.release,
        like.subject.requested,
        by,
        why,
        changing.now_ms,
    )
    opened = (await store.round_of(changing.connection, changing.server(like.server)))[like.kind]
    told = {f"{like.kind} review {opened.id}": (None, State.OPEN.value)}
    await changing.note(like.server, Actor(by), action, why, told)
    return opened.id
