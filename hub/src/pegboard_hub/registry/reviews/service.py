"""Reviewing: who asks for what, who decides on it, and the grant that comes of it.

submit / ask for access / a release that differs ──▶ reviews, one of each kind that is concerned, of one exact subject
each is decided by its approvers, never by an author    ──▶ rejected: the subject stays out
the last one approved ──▶ in the same transaction what all of them approved is granted, and the release is deployed
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry import store as servers
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused
from pegboard_hub.registry.history import Actor, since
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.record import check_why
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.errors import NotYours, ReviewConflict, UnknownReview
from pegboard_hub.registry.reviews.model import Comment, Difference, Kind, Review, State, in_order, subject_of
from pegboard_hub.registry.reviews.rules import (
    ACCESS,
    UNREVIEWED_SURFACES,
    access_differences,
    approvers,
    checklist,
    common,
    needed_of,
    together,
    within,
)
from pegboard_hub.registry.reviews.store import Authors
from pegboard_hub.registry.reviews.texts import check_access, check_long
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database

LOOKED_AT = 500
"""Reviews that are read at once, to find those that somebody may know of."""

Place = tuple[int, str]
"""Where a review stands in the order of time: when it was opened, in milliseconds since the epoch, and its id."""

MOST_OPEN = 1000
"""Open reviews that are looked through for those that wait for somebody."""

OWNERS_MAY = {
    "deprecate": (Lifecycle.APPROVED, Lifecycle.LIVE),
    "retire": (Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.APPROVED, Lifecycle.LIVE, Lifecycle.DEPRECATED),
    "bring back": (Lifecycle.DEPRECATED, Lifecycle.RETIRED),
}
"""What owners and operators do with a server's lifecycle, each with where it must stand for it."""


NOTHING = Access()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer decides.

    Attributes:
        version: of the review that the reviewer saw.
        approves: else it is rejected.
        why: wanted of a rejection.
        access: what is approved, at most what is requested or granted already.
        conditions: under which.
        held: items of the checklist that hold.
    """

    version: int
    approves: bool
    why: str = ""
    access: Access = NOTHING
    conditions: str = ""
    held: frozenset[str] = frozenset()


class Asked(NamedTuple):
    """What came of asking for access.

    Attributes:
        opened: reviews that were opened for it.
        granted: what holds now.
    """

    opened: tuple[Kind, ...]
    granted: Access


class Waiting(NamedTuple):
    """An open review, and who may not decide on it."""

    review: Review
    authors: Authors


class Reviewing:
    """Everything that people do about reviews."""

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
        self._open: tuple[int, tuple[Waiting, ...]] = (-1, ())

    # Who may what

    @property
    def roles(self) -> Roles:
        """Who operates and who reviews, as the operator's files say now."""
        return Roles.of(self._operators, self._registry.reviews)

    def owns(self, person: PersonFacts, server: RegisteredServer) -> bool:
        """Whether somebody is of the team that owns a server, or an operator."""
        return self.roles.own(person.groups, server)

    def kinds_of(self, groups: Collection[str]) -> frozenset[Kind]:
        """The kinds of reviews that people in these groups decide on."""
        said = self._registry.reviews
        return frozenset(kind for kind in Kind if not set(approvers(said, kind)).isdisjoint(groups))

    def approvers(self, kind: Kind) -> tuple[str, ...]:
        """The groups that decide on reviews of a kind."""
        return approvers(self._registry.reviews, kind)

    def checklist(self, kind: Kind) -> tuple[str, ...]:
        """What must hold before a review of a kind is approved."""
        return checklist(self._registry.reviews, kind)

    def is_reviewed(self, server: RegisteredServer) -> bool:
        """Whether the server's namespace is one that is reviewed."""
        return server.name.namespace not in self._registry.reviews.unreviewed

    def why_not(self, person: PersonFacts, review: Review, authors: Authors) -> NotYours | None:
        """Why somebody does not decide on a review; None where they may."""
        groups = self.approvers(review.kind)
        if set(groups).isdisjoint(person.groups):
            message = f"A {review.kind} review is decided by people in: {', '.join(groups)}."
            return NotYours("not_a_reviewer", message, "Ask one of them.")
        if authors.are(person.sub, person.groups):
            message = "Nobody decides on a server of their own team, or on what they asked for."
            return NotYours("own_server", message, f"Ask somebody else in: {', '.join(groups)}.")
        return None

    # Reading

    async def find(self, review: str) -> Review:
        """A review.

        Raises:
            UnknownReview: there is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, review)

    async def listed(self, **which: object) -> list[Review]:
        """Reviews, those that were opened last first; the arguments are those of `store.list_reviews`."""
        async with self._database.read() as connection:
            return await store.list_reviews(connection, **which)  # type: ignore[arg-type]

    async def known(
        self,
        sees: Callable[[RegisteredServer], bool],
        limit: int,
        before: Place | None = None,
        **which: object,
    ) -> tuple[list[Review], Place | None]:
        """A page of the reviews of servers that somebody may know of, those that were opened last first.

        Args:
            sees: whether they may know of a server.
            limit: most reviews.
            before: `next` of the page before.
            which: further arguments of `store.list_reviews`.

        Returns:
            The reviews, and where the next page begins: a place that they have just read; None after the last.
        """
        found: list[Review] = []
        servers = self._registry.current.servers
        while True:
            batch = await self.listed(before=before, limit=LOOKED_AT, **which)
            for review in batch:
                server = servers.get(review.server)
                if server is None or not sees(server):
                    continue
                if len(found) == limit:
                    return found, place_in_time(found[-1])
                found.append(review)
            if len(batch) < LOOKED_AT:
                return found, None
            before = place_in_time(batch[-1])

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
        kinds = self.kinds_of(person.groups)
        if not kinds:
            return []
        found = [each.review for each in await self._all_open() if self.why_not(person, *each) is None]
        return sorted(found, key=place_in_time)

    async def _all_open(self) -> tuple[Waiting, ...]:
        """Every open review, read once after each change: every opening and decision is one of its server."""
        snapshot = self._registry.current
        if self._open[0] != snapshot.seq:
            async with self._database.read() as connection:
                found = await store.list_reviews(connection, states=[State.OPEN], limit=MOST_OPEN)
                names = {review.server for review in found}
                authors = {
                    name: await store.authors_of(connection, snapshot.servers[name])
                    for name in names
                    if name in snapshot.servers
                    and snapshot.servers[name].lifecycle not in (Lifecycle.DRAFT, Lifecycle.RETIRED)
                }
            waiting = tuple(Waiting(each, authors[each.server]) for each in found if each.server in authors)
            self._open = (snapshot.seq, waiting)
        return self._open[1]

    # Asking

    async def submit(self, person: PersonFacts, name: str, asked: Access, why: str, expected: int) -> Asked:
        """Submit a draft: to its reviews, or where its namespace needs none, at once to what it asks for.

        Args:
            person: of the team that owns it, or an operator.
            name: the server's.
            asked: the access that it asks for.
            why: for the reviewers.
            expected: the server's version that the person saw.

        Raises:
            UnknownServer: there is no such server.
            NotYours: somebody else submits it.
            ChangeConflict: somebody changed it meanwhile.
            ChangeRefused: it is no draft, or asks for what there is not.
        """
        asked, why = check_access(asked), check_why(why)
        async with self._registry.changing() as changing:
            server = await self._owned(changing, person, name, expected)
            if server.lifecycle is not Lifecycle.DRAFT:
                raise ChangeRefused("lifecycle", f"it is {server.lifecycle}, no draft", "Ask for access instead.")
            change = Change(name, Actor(person.sub), "submit", why, expected, requested=asked)
            if not self.is_reviewed(server):
                _check_unreviewed(server, asked)
                values = {"lifecycle": Lifecycle.APPROVED, "reason": f"{person.sub}: {why}"}
                await changing.apply(replace(change, values=values, granted=asked))
                return Asked((), asked)
            await changing.apply(replace(change, values={"lifecycle": Lifecycle.IN_REVIEW}))
            return await self._ask_reviewers(changing, name, needed_of(server), person.sub, why)

    async def ask_access(self, person: PersonFacts, name: str, asked: Access, why: str, expected: int) -> Asked:
        """Ask for another access. What is asked for no more ends at once; what is asked for anew wants reviews.

        Args, Raises: as `submit`; a draft is submitted instead.
        """
        asked, why = check_access(asked), check_why(why)
        async with self._registry.changing() as changing:
            server = await self._owned(changing, person, name, expected)
            if server.lifecycle in (Lifecycle.DRAFT, Lifecycle.RETIRED):
                raise ChangeRefused("lifecycle", f"it is {server.lifecycle}", "Submit it, or bring it back, first.")
            if asked == in_order(server.requested) and within(server.granted, asked):
                raise ChangeRefused("access", "it is what is asked for already", "Change what it asks for.")
            kept, adds = common(server.granted, asked), not within(asked, server.granted)
            round_before = await store.round_of(changing.connection, server)
            reviewed = self.is_reviewed(server)
            if not reviewed:
                _check_unreviewed(server, asked)
            granted = kept if reviewed else asked
            action = "ask for access" if adds else "give back"
            change = Change(name, Actor(person.sub), action, why, expected, requested=asked, granted=granted)
            values = {"reason": f"{person.sub}: {why}"} if adds and not reviewed else {}
            after = await changing.apply(replace(change, values=values))
            # Reviews look at exactly what is asked for: those of a release that waits begin anew with it.
            again = tuple(round_before) if server.waiting is not None else ()
            kinds = tuple(dict.fromkeys((*again, *(needed_of(server) if adds and reviewed else ()))))
            await store.supersede(changing.connection, name, tuple(Kind))
            if not kinds:
                return Asked((), after.granted)
            before = {kind: review.changes for kind, review in round_before.items()} if again else {}
            return await self._ask_reviewers(changing, name, kinds, person.sub, why, before)

    async def _ask_reviewers(
        self,
        changing: Changing,
        name: str,
        kinds: Collection[Kind],
        by: str,
        why: str,
        before: Mapping[Kind, Iterable[Difference]] | None = None,
    ) -> Asked:
        server = changing.server(name)
        subject, access = subject_of(server), access_differences(server.granted, server.requested)
        opened = {
            kind: [*(each for each in (before or {}).get(kind, ()) if not _of_access(each)), *access]
            for kind in kinds
        }
        await store.open_reviews(
            changing.connection, name, opened, subject.release, subject.requested, by, why, changing.now_ms
        )
        return Asked(tuple(kinds), server.granted)

    # Deciding

    async def decide(self, person: PersonFacts, review_id: str, verdict: Verdict) -> bool:
        """Decide on a review; with the last approval its server gets what all of them approved.

        Args:
            person: as the login tells of them now.
            review_id: the review's.
            verdict: the decision.

        Returns:
            Whether anything came of it: every review of the subject is approved, and the grant holds.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person does not decide on it.
            ReviewConflict: it was decided, superseded or changed meanwhile.
            ChangeRefused: it cannot be decided like this.
        """
        async with self._registry.changing() as changing:
            review, server = await self._decidable(changing, person, review_id, verdict.version)
            values = self._approval(review, server, verdict) if verdict.approves else _rejection(verdict)
            values |= {"decided_at_ms": changing.now_ms, "decided_by": person.sub}
            if not await store.keep(changing.connection, review, values):
                raise ReviewConflict("Somebody changed this review in this very moment.")
            action, actor = "approve" if verdict.approves else "reject", Actor(person.sub)
            told = {f"{review.kind} review {review.id}": (State.OPEN.value, values["state"].value)}
            await changing.note(review.server, actor, action, str(values["outcome_why"]), told)
            return verdict.approves and await self._conclude(changing, changing.server(str(server.name)), actor)

    async def tick(self, person: PersonFacts, review_id: str, version: int, held: Collection[str]) -> None:
        """Keep which items of the checklist hold, before a decision.

        Raises:
            UnknownReview, NotYours, ReviewConflict: as `decide`.
        """
        async with self._registry.changing() as changing:
            review, _ = await self._decidable(changing, person, review_id, version)
            items = {item: item in held for item in self.checklist(review.kind)}
            if not await store.keep(changing.connection, review, {"checklist": items}):
                raise ReviewConflict("Somebody changed this review in this very moment.")

    async def comment(self, person: PersonFacts, review_id: str, text: str) -> None:
        """Say something about a review.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person may not read what it is about.
            ChangeRefused: the text is empty, too long, or hides something.
        """
        text = check_long("comment", text)
        async with self._registry.changing() as changing:
            review = await _find(changing.connection, review_id)
            if not self.roles.involve(person.groups, changing.server(review.server)):
                message = "Reviews are talked about by a server’s owners, reviewers and operators."
                raise NotYours("not_involved", message, "Ask one of them.")
            await store.comment(changing.connection, review.id, person.sub, text, changing.now_ms)

    async def reopen(self, person: PersonFacts, review_id: str, why: str) -> str:
        """Have a review that was rejected looked at again; gives the new review's id.

        Args:
            person: an owner, an operator, or one who decides on its kind.
            review_id: the review's.
            why: what is otherwise now.

        Raises:
            UnknownReview: there is no such review.
            NotYours: somebody else asks.
            ReviewConflict: it is not rejected, or its subject is not asked for any more.
            ChangeRefused: `why` cannot be.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            review = await _find(changing.connection, review_id)
            server = changing.server(review.server)
            if not self.owns(person, server) and review.kind not in self.kinds_of(person.groups):
                raise NotYours("not_an_owner", "Its owners and its reviewers reopen a review.", "Ask one of them.")
            newest = (await store.round_of(changing.connection, server)).get(review.kind)
            if newest is None or newest.id != review.id or review.state is not State.REJECTED:
                raise ReviewConflict("Only a rejection of what is still asked for can be looked at again.")
            return await self._open_again(changing, review, person.sub, why, "reopen")

    async def ask_genai(self, person: PersonFacts, review_id: str, why: str) -> str:
        """Ask for a GenAI review beside a security review that is open; gives its id.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person does not decide on that security review.
            ReviewConflict: it is not open any more, or there is a GenAI review already.
            ChangeRefused: `why` cannot be.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            review, server = await self._decidable(changing, person, review_id, None)
            if review.kind is not Kind.SECURITY:
                raise NotYours("not_a_reviewer", "A security review asks for it.", "Open the security review.")
            if Kind.GENAI in await store.round_of(changing.connection, server):
                raise ReviewConflict("There is a GenAI review of this already.")
            asked = replace(review, kind=Kind.GENAI)
            return await self._open_again(changing, asked, person.sub, why, "ask for genai review")

    async def _open_again(self, changing: Changing, like: Review, by: str, why: str, action: str) -> str:
        """Open a review of the same as another; whose wish the subject is stays the same."""
        words = f"{by}: {why}"
        await store.open_reviews(
            changing.connection,
            like.server,
            {like.kind: like.changes},
            like.subject.release,
            like.subject.requested,
            like.opened_by,
            words,
            changing.now_ms,
        )
        opened = (await store.round_of(changing.connection, changing.server(like.server)))[like.kind]
        told = {f"{like.kind} review {opened.id}": (None, State.OPEN.value)}
        await changing.note(like.server, Actor(by), action, why, told)
        return opened.id

    async def _decidable(
        self, changing: Changing, person: PersonFacts, review_id: str, version: int | None
    ) -> tuple[Review, RegisteredServer]:
        """A review that this person may decide on now, as they saw it, with its server."""
        review = await _find(changing.connection, review_id)
        server = changing.server(review.server)
        refused = self.why_not(person, review, await store.authors_of(changing.connection, server))
        if refused is not None:
            raise refused
        if review.state is State.SUPERSEDED or (review.open and review.subject != subject_of(server)):
            raise ReviewConflict("What this review looks at is not asked for any more: something else is.")
        if server.lifecycle is Lifecycle.RETIRED:
            raise ReviewConflict("The server is retired: its owners may bring it back, and then it goes on.")
        if server.lifecycle is Lifecycle.DRAFT:
            raise ReviewConflict("The server is a draft again: its owners submit it anew.")
        if not review.open:
            raise ReviewConflict(f"{review.decided_by} has {review.state} it already.")
        if version is not None and version != review.version:
            raise ReviewConflict("Somebody changed this review since you opened it.")
        return review, server

    def _approval(self, review: Review, server: RegisteredServer, verdict: Verdict) -> dict[str, Any]:
        access = in_order(verdict.access)
        if not within(access, together(review.subject.requested, server.granted)):
            mend = "Approve what is asked for, or less. Its owners can ask for more."
            raise ChangeRefused("access", "it is more than what is asked for", mend)
        items = self.checklist(review.kind)
        if wanting := [item for item in items if item not in verdict.held]:
            raise ChangeRefused("checklist", f"not ticked: {'; '.join(wanting)}", "Tick what holds, or reject it.")
        return {
            "state": State.APPROVED,
            "outcome_why": check_long("why", verdict.why, empty=True),
            "granted": access._asdict(),
            "conditions": check_long("conditions", verdict.conditions, empty=True),
            "checklist": dict.fromkeys(items, True),
        }

    async def _conclude(self, changing: Changing, server: RegisteredServer, actor: Actor) -> bool:
        """Let what all reviews of the subject approved hold, once all of them have; true when it does."""
        name, connection = str(server.name), changing.connection
        found = await store.round_of(connection, server)
        granted = granted_by(found, server)
        if granted is None:
            return False
        values: dict[str, Any] = {"reason": reason_of(found.values())}
        if server.lifecycle in (Lifecycle.IN_REVIEW, Lifecycle.APPROVED, Lifecycle.LIVE):
            values["lifecycle"] = Lifecycle.APPROVED
        waiting = server.waiting
        if waiting is not None:
            await servers.approve_release(connection, name, waiting.digest, changing.now_ms)
        await changing.apply(
            Change(
                name,
                actor,
                "grant",
                str(values["reason"]),
                values=values,
                granted=granted,
                release=waiting,
                waits_no_more=waiting is not None,
            )
        )
        return True

    # An owner's word on the lifecycle

    async def move(self, person: PersonFacts, name: str, action: str, why: str, expected: int) -> RegisteredServer:
        """Deprecate or retire a server, or bring it back.

        Args:
            person: of the team that owns it, or an operator.
            name: the server's.
            action: of `OWNERS_MAY`.
            why: shown to everybody who uses it.
            expected: the server's version that the person saw.

        Raises:
            UnknownServer: there is no such server.
            NotYours: somebody else wants it.
            ChangeConflict: somebody changed it meanwhile.
            ChangeRefused: that cannot be done with it.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            server = await self._owned(changing, person, name, expected)
            if server.lifecycle not in OWNERS_MAY.get(action, ()):
                what = f"what is {server.lifecycle} cannot be moved like that"
                raise ChangeRefused("lifecycle", what, "Look at the server again.")
            if action == "bring back" and server.release is not None and not server.source:
                raise ChangeRefused("source", "nothing runs it any more", "Name it in the grants file first.")
            after = _MOVES[action](server)
            told = "" if action == "bring back" else why
            values = {"lifecycle": after, "lifecycle_why": told}
            return await changing.apply(Change(name, Actor(person.sub), action, why, expected, values))

    async def _owned(self, changing: Changing, person: PersonFacts, name: str, expected: int) -> RegisteredServer:
        """The server, of one who may change it and has seen it as it is."""
        server = changing.server(name)
        if not self.owns(person, server):
            message = f"This is for the owners of {name}, people in {server.owner or 'no group'}, and for operators."
            raise NotYours("not_an_owner", message, "Ask one of them.")
        if expected != server.version:
            raise ChangeConflict(server, await since(changing.connection, name, expected))
        return server


def place_in_time(review: Review) -> Place:
    """Where a review stands in the order of time."""
    return review.opened_at_ms, review.id


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


def _rejection(verdict: Verdict) -> dict[str, Any]:
    return {"state": State.REJECTED, "outcome_why": check_long("why", verdict.why)}


def _back(server: RegisteredServer) -> Lifecycle:
    """Where a server stands once it is brought back: no further than it was."""
    if server.release is not None:
        return Lifecycle.APPROVED
    if server.waiting is not None:
        return Lifecycle.IN_REVIEW
    return Lifecycle.APPROVED if any(server.granted) else Lifecycle.DRAFT


_MOVES: dict[str, Callable[[RegisteredServer], Lifecycle]] = {
    "deprecate": lambda _server: Lifecycle.DEPRECATED,
    "retire": lambda _server: Lifecycle.RETIRED,
    "bring back": _back,
}


def _check_unreviewed(server: RegisteredServer, asked: Access) -> None:
    """Keep what nobody reviews out of reach of production's surfaces; what is granted already may stay."""
    beyond = sorted({*asked.surfaces} - {*UNREVIEWED_SURFACES, *server.granted.surfaces})
    if beyond:
        fault = f"production uses {', '.join(beyond)}, and nobody reviews what is in {server.name.namespace}"
        mend = f"Ask for {' or '.join(UNREVIEWED_SURFACES)}; more is the operator's grants file's to grant."
        raise ChangeRefused("surfaces", fault, mend)


def _of_access(difference: Difference) -> bool:
    return difference.what.startswith(ACCESS)


async def _find(connection: AsyncConnection, review: str) -> Review:
    found = await store.find(connection, review)
    if found is None:
        raise UnknownReview(review)
    return found
