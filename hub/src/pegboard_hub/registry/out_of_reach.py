"""Why nobody can call a server that there is, in words for those who may know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.releases import Outcome
from pegboard_hub.registry.reviews.model import State


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


def _in_review(_server: RegisteredServer, reviews: list[Outcome], _public_url: str) -> str:
    left = (f"{each.kind} is {each.state}" for each in reviews if each.state != State.APPROVED)
    return ": ".join(filter(None, ("in review", ", ".join(left))))


def _approved(_server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    return "approved, and not deployed yet"


def _retired(server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    return ": ".join(filter(None, ("retired", server.lifecycle_why)))


def _not_deployed(_server: RegisteredServer, _reviews: list[Outcome], _public_url: str) -> str:
    return "without a release that is deployed"


_WORDS: dict[Lifecycle, Callable[[RegisteredServer, list[Outcome], str], str]] = {
    Lifecycle.DRAFT: _draft,
    Lifecycle.IN_REVIEW: _in_review,
    Lifecycle.APPROVED: _approved,
    Lifecycle.RETIRED: _retired,
}
