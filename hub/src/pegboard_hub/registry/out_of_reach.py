"""Why nobody can call a server that there is, in words for those who may know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.releases import Outcome
from pegboard_hub.registry.reviews.model import TITLES, State


def out_of_reach(server: RegisteredServer, reviews: Iterable[Outcome], public_url: str) -> str:
    """What keeps everybody from calling a server, to be read after "it is"; empty where it can be called.

    Args:
        server: the server.
        reviews: the newest of each kind.
        public_url: the edge's origin, where its pages are.
    """
    if server.reachable:
        return ""
    return _WORDS.get(server.lifecycle, _not_deployed)(server, list(reviews), public_url)


def _draft(server: RegisteredServer, _reviews: list[Outcome], public_url: str) -> str:
    return f"a draft: submit it at {public_url}/servers/{server.name}/access"


def _in_review(server: RegisteredServer, reviews: list[Outcome], public_url: str) -> str:
    left = [each for each in reviews if each.state != State.APPROVED]
    told = [_of_reviews(left, state, words) for state, words in _REVIEWS.items()]
    page = f"see {public_url}/servers/{server.name}/security" if left else ""
    return ": ".join(filter(None, ("in review", "; ".join(filter(None, (*told, page))))))


def _of_reviews(reviews: list[Outcome], state: State, words: tuple[str, str]) -> str:
    kinds = {each.kind for each in reviews if each.state == state}
    titles = [title for kind, title in TITLES.items() if kind in kinds]
    one = len(titles) == 1
    return f"its {' and '.join(titles)} review{'' if one else 's'} {words[not one]}" if titles else ""


def _approved(_server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    return "approved, and not deployed yet"


def _retired(server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    # What is closed by its date says itself what takes its place.
    named = server.successor is None or server.successor in server.lifecycle_why
    instead = "" if named else f"; use {server.successor} instead"
    return ": ".join(filter(None, ("retired", server.lifecycle_why))) + instead


def _not_deployed(_server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    return "without a release that is deployed"


_REVIEWS = {
    State.OPEN: ("has not decided", "have not decided"),
    State.REJECTED: ("rejected it", "rejected it"),
    State.SUPERSEDED: ("was replaced by a newer one", "were replaced by newer ones"),
}
"""What is said of a review that is in the way, and of several."""

_WORDS: dict[Lifecycle, Callable[[RegisteredServer, list[Outcome], str], str]] = {
    Lifecycle.DRAFT: _draft,
    Lifecycle.IN_REVIEW: _in_review,
    Lifecycle.APPROVED: _approved,
    Lifecycle.RETIRED: _retired,
}
