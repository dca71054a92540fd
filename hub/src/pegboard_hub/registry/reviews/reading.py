"""Reading reviews: what there is, what waits for whom, and what was decided against somebody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, Unpack

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry import store as servers
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.errors import UnknownReview
from pegboard_hub.registry.reviews.granting import Unreached, is_closed, unreached
from pegboard_hub.registry.reviews.model import Comment, Kind, Review, State
from pegboard_hub.registry.reviews.rights import Rights
from pegboard_hub.registry.reviews.rules import common, left_of, together, within
from pegboard_hub.registry.reviews.store import Authors, Place, Which
from pegboard_hub.registry.service import Registry
from pegboard_hub.storage.database import Database

LOOKED_AT = 500
"""Reviews that are read at once, to find those that somebody may know of."""

UNASKED = (Lifecycle.DRAFT, Lifecycle.RETIRED)
"""Lifecycles of servers whose reviews wait for nobody."""


class Waiting(NamedTuple):
    """An open review, and who may not decide on it.

    Attributes:
        moot: whether another review of the same was rejected: then it waits for the author first.
    """

    review: Review
    authors: Authors
    moot: bool


class Open(NamedTuple):
    """The open reviews of one server, as of its newest entry in the history."""

    seq: int
    waiting: tuple[Waiting, ...]


class Reading:
    """Everything that can be asked about reviews."""

    def __init__(self, registry: Registry, database: Database, operators: Iterable[str]) -> None:
        """Prepare.

        Args:
            registry: whose servers are reviewed.
            database: of the reviews.
            operators: groups whose people may do for any server what its owners may.
        """
        self._registry = registry
        self._database = database
        self._operators = frozenset(operators)
        self._open: Mapping[str, Open] = {}
        self._open_at = -1

    @property
    def rights(self) -> Rights:
        """Who may do what, as the operator's files say now."""
        return Rights.of(self._operators, self._registry.reviews)

    async def find(self, review: str) -> Review:
        """A review.

        Raises:
            UnknownReview: there is none.
        """
        async with self._database.read() as connection:
            return await look_up(connection, review)

    async def listed(
        self,
        *,
        before: Place | None = None,
        by_decision: bool = False,
        limit: int = store.MOST_LISTED,
        **which: Unpack[Which],
    ) -> list[Review]:
        """Reviews, those that were opened last first; the arguments are those of `store.list_reviews`."""
        async with self._database.read() as connection:
            return await store.list_reviews(connection, before=before, by_decision=by_decision, limit=limit, **which)

    async def known(
        self,
        sees: Callable[[RegisteredServer], bool],
        limit: int,
        before: Place | None = None,
        *,
        by_decision: bool = False,
        **which: Unpack[Which],
    ) -> tuple[list[Review], Place | None]:
        """A page of the reviews of servers that somebody may know of, in the order of `store.list_reviews`.

        Args:
            sees: whether they may know of a server.
            limit: most reviews.
            before: `next` of the page before.
            by_decision: whether they come by when they were decided.
            which: as in `store.list_reviews`.

        Returns:
            The reviews, and where the next page begins: a place that they have just read; None after the last.
        """
        found: list[Review] = []
        place = place_of_decision if by_decision else place_in_time
        current = self._registry.current.servers
        while True:
            batch = await self.listed(before=before, by_decision=by_decision, limit=LOOKED_AT, **which)
            for review in batch:
                server = current.get(review.server)
                if server is None or not sees(server):
                    continue
                if len(found) == limit:
                    return found, place(found[-1])
                found.append(review)
            if len(batch) < LOOKED_AT:
                return found, None
            before = place(batch[-1])

    async def comments(self, review: str) -> list[Comment]:
        """What was said of a review, oldest first."""
        async with self._database.read() as connection:
            return await store.comments(connection, review)

    async def authors(self, server: RegisteredServer) -> Authors:
        """Who does not decide on a server, because it is theirs."""
        async with self._database.read() as connection:
            return await store.authors_of(connection, server)

    async def approved_last(self, server: RegisteredServer) -> RegisteredServer:
        """The server as it was approved last: what anybody may have gained beside now that it waits."""
        if server.release is not None or server.waiting is None:
            return server
        async with self._database.read() as connection:
            digests = await servers.last_approved(connection, str(server.name))
            if not digests:
                return server
            release = await servers.load_release(connection, str(server.name), digests[0])
        return replace(server, release=release, lifecycle=Lifecycle.LIVE, sensitivity=release.manifest.sensitivity)

    async def waiting_for(self, person: PersonFacts) -> list[Review]:
        """The open reviews that somebody may decide on, those that wait longest first."""
        rights = self.rights
        if not rights.kinds_of(person.groups):
            return []
        found = [
            each.review
            for each in await self._all_open()
            if not each.moot and rights.why_not(person, each.review, each.authors) is None
        ]
        return sorted(found, key=place_in_time)

    async def rejections(self, asking: Iterable[RegisteredServer]) -> list[Review]:
        """Rejections of what these servers still ask for: their authors change it, or have it looked at again."""
        wanting = [each for each in asking if _asks(each)]
        if not wanting:
            return []
        async with self._database.read() as connection:
            return [review for server in wanting for review in await _rejected(connection, server)]

    async def unreached(self, among: Iterable[RegisteredServer]) -> dict[str, Unreached]:
        """Why nobody gets into servers that are approved, by the names of those."""
        closed = [each for each in among if is_closed(each)]
        if not closed:
            return {}
        async with self._database.read() as connection:
            whys = {str(each.name): unreached(await store.round_of(connection, each), each) for each in closed}
        return {name: why for name, why in whys.items() if why is not None}

    async def beside(self, server: RegisteredServer) -> dict[Kind, Review]:
        """The newest review of each kind that looks at what the server asks for now."""
        async with self._database.read() as connection:
            return await store.round_of(connection, server)

    async def kinds_of(self, server: RegisteredServer) -> tuple[Kind, ...]:
        """The reviews that a server needs."""
        async with self._database.read() as connection:
            return await store.kinds_of(connection, server)

    async def genai_asked(self, server: str) -> bool:
        """Whether every release of a server is looked at for GenAI because a security reviewer asked for it."""
        async with self._database.read() as connection:
            return await store.genai_asked(connection, server)

    async def ended_by(self, review: Review) -> Access:
        """What had been granted until an approval, which was the last one, and ended with it."""
        ended = Access()
        if review.state is not State.APPROVED:
            return ended
        async with self._database.read() as connection:
            grants = await store.grants_at(connection, review.server, review.decided_at_ms or 0)
        for fields in grants:
            told = {name: fields.get(f"granted_{name}", ((), ())) for name in Access._fields}
            ended = together(ended, left_of(*(Access(*each) for each in zip(*told.values(), strict=True))))
        return ended

    async def taken_from(self, among: Iterable[RegisteredServer]) -> dict[str, Access]:
        """What their last approval took from servers, and they ask for still with no review open; by their names."""
        wanting = [
            each for each in among if each.lifecycle not in UNASKED and not within(each.requested, each.granted)
        ]
        found = {str(each.name): await self._taken_from(each) for each in wanting}
        return {name: taken for name, taken in found.items() if any(taken)}

    async def _taken_from(self, server: RegisteredServer) -> Access:
        name = str(server.name)
        if await self.listed(server=name, states=[State.OPEN], limit=1):
            return Access()
        last = await self.listed(server=name, states=[State.APPROVED], by_decision=True, limit=1)
        ended = await self.ended_by(last[0]) if last else Access()
        return common(ended, left_of(server.requested, server.granted))

    async def _all_open(self) -> list[Waiting]:
        """Every open review. Every opening and decision is a change of its server: others are not read again."""
        snapshot = self._registry.current
        if self._open_at != snapshot.seq:
            async with self._database.read() as connection:
                self._open = await _all_open(connection, snapshot.servers, self._open)
            self._open_at = snapshot.seq
        return [each for of_server in self._open.values() for each in of_server.waiting]


async def _all_open(
    connection: AsyncConnection, current: Mapping[str, RegisteredServer], before: Mapping[str, Open]
) -> dict[str, Open]:
    names = [name for name in await store.with_open(connection) if name in current]
    asking = [current[name] for name in names if current[name].lifecycle not in UNASKED]
    found = {}
    for server in asking:
        known = before.get(str(server.name))
        found[str(server.name)] = known if known and known.seq == server.seq else await _open_of(connection, server)
    return found


async def _open_of(connection: AsyncConnection, server: RegisteredServer) -> Open:
    found = await store.list_reviews(connection, server=str(server.name), states=[State.OPEN])
    authors, moot = await store.authors_of(connection, server), bool(await _rejected(connection, server))
    return Open(server.seq, tuple(Waiting(each, authors, moot) for each in found))


async def look_up(connection: AsyncConnection, review: str) -> Review:
    """A review, inside a transaction.

    Raises:
        UnknownReview: there is none.
    """
    found = await store.find(connection, review)
    if found is None:
        raise UnknownReview(review)
    return found


def place_in_time(review: Review) -> Place:
    """Where a review stands in the order of time."""
    return review.opened_at_ms, review.id


def place_of_decision(review: Review) -> Place:
    """Where a review stands in the order of decisions."""
    return review.since_ms, review.id


def _asks(server: RegisteredServer) -> bool:
    """Whether a server asks for anything that it does not have."""
    if server.lifecycle in UNASKED:
        return False
    asks = server.waiting is not None or server.lifecycle is Lifecycle.IN_REVIEW
    return asks or not within(server.requested, server.granted)


async def _rejected(connection: AsyncConnection, server: RegisteredServer) -> list[Review]:
    found = await store.round_of(connection, server)
    return [review for review in found.values() if review.state is State.REJECTED]
