"""Who may do what about reviews, as the operator's files say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pegboard.core.grants import Reviews
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.errors import ChangeConflict
from pegboard_hub.registry.history import since
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.errors import NotYours
from pegboard_hub.registry.reviews.model import TITLES, Kind, Review
from pegboard_hub.registry.reviews.rules import approvers, checklist
from pegboard_hub.registry.reviews.store import Authors
from pegboard_hub.registry.visibility import Roles


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may do what.

    Attributes:
        said: what the grants file says of reviews.
        roles: who operates and who reviews.
    """

    said: Reviews
    roles: Roles

    @classmethod
    def of(cls, operators: Collection[str], said: Reviews) -> Rights:
        """The rights that the operator's files give."""
        return cls(said, Roles.of(operators, said))

    def owns(self, person: PersonFacts, server: RegisteredServer) -> bool:
        """Whether somebody is of the team that owns a server, or an operator."""
        return self.roles.own(person.groups, server)

    def kinds_of(self, groups: Collection[str]) -> frozenset[Kind]:
        """The kinds of reviews that people in these groups decide on."""
        return frozenset(kind for kind in Kind if not set(approvers(self.said, kind)).isdisjoint(groups))

    def checklist(self, review: Review) -> tuple[str, ...]:
        """What must hold before a review is approved."""
        return checklist(self.said, review.kind, code=bool(review.subject.release))

    def is_reviewed(self, server: RegisteredServer) -> bool:
        """Whether the server's namespace is one that is reviewed."""
        return server.name.namespace not in self.said.unreviewed

    def why_not(self, person: PersonFacts, review: Review, authors: Authors) -> NotYours | None:
        """Why somebody does not decide on a review; None where they may."""
        groups = approvers(self.said, review.kind)
        if set(groups).isdisjoint(person.groups):
            message = f"Reviews of the kind {TITLES[review.kind]} are decided by people in: {', '.join(groups)}."
            return NotYours("not_a_reviewer", message, "Ask one of them.")
        if authors.are(person.sub, person.groups):
            message = "Nobody decides on a server of their own team, or on what they asked for."
            return NotYours("own_server", message, f"Ask somebody else in: {', '.join(groups)}.")
        return None

    async def owned(
        self, changing: Changing, person: PersonFacts, name: str, expected: int | None
    ) -> RegisteredServer:
        """The server, of one who may change it and has seen it as it is.

        Raises:
            UnknownServer: there is no such server.
            NotYours: somebody else wants it.
            ChangeConflict: somebody changed it meanwhile.
        """
        server = changing.server(name)
        if not self.owns(person, server):
            message = f"This is for the owners of {name}, people in {server.owner or 'no group'}, and for operators."
            raise NotYours("not_an_owner", message, "Ask one of them.")
        if expected is not None and expected != server.version:
            raise ChangeConflict(server, await since(changing.connection, name, expected))
        return server
