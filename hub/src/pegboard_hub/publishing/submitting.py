"""Submitting: from an archive to an order to build, and back before anything of it runs."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.grants import GrantsFile
from pegboard.core.names import ServerName
from pegboard.core.publishing import Provenance, State
from pegboard_hub.publishing import artifacts, handing, publishers, rights, submissions
from pegboard_hub.publishing.artifacts import Content
from pegboard_hub.publishing.bounds import Asked, check_bounds
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.reading import Reading, ReadingAway
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.source import Submitted
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.publishing.transitions import move
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.record import check_server_name, record_of
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database

RECEIVED_AT_ONCE: Final = 3
"""Archives that are received, read and kept at once: each is in memory whole meanwhile."""

SENT_AT_ONCE: Final = 2
"""Of them, by one person or service; what else they send waits for its turn."""

MOST_SENT: Final = 20
"""Archives that one person or service may have on their way at once, waiting or not."""

RECEIVED_S: Final = 120
"""Seconds in which one must have come."""


class Submitting:
    """Takes what is submitted, and takes it back."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        roles: Callable[[], Roles],
        reading: Callable[[], Reading],
        at_once: asyncio.Semaphore,
        find: Callable[[Submitter, str], Awaitable[Submission]],
        begun: Callable[[str], None],
        over: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            database: of submissions and artifacts.
            registry: knows whose a server is, and takes new ones as drafts.
            roles: who operates, as the operator's files say now.
            reading: what reads strangers' text.
            at_once: how many archives are read at once.
            find: a submission that somebody may know of.
            begun: is told the id of each new one.
            over: is told the id of each that was taken back.
        """
        self._database = database
        self._registry = registry
        self._roles = roles
        self._reading = reading
        self._at_once = at_once
        self._find = find
        self._begun = begun
        self._over = over
        self._senders: Counter[str] = Counter()
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SENT_AT_ONCE))
        self._receiving = asyncio.Semaphore(RECEIVED_AT_ONCE)

    @asynccontextmanager
    async def receiving(self, who: Submitter, receive: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        """An archive, and the room that it takes until it is dealt with: a few at once, since each is held whole.

        Others wait for their turn before anything of theirs is received.

        Args:
            who: sends it.
            receive: gives it.

        Raises:
            PublishingRefused: they send too many already, or its turn and it itself took too long to come.
        """
        if self._senders[who.sub] >= MOST_SENT:
            message = f"You send {MOST_SENT} archives at this moment, which is the most."
            raise PublishingRefused("busy", message, "Send one after the other.")
        self._senders[who.sub] += 1
        try:
            async with asyncio.timeout(RECEIVED_S) as limit, self._turns[who.sub], self._receiving:
                archive = await receive()
                limit.reschedule(None)  # what becomes of it has limits of its own
                yield archive
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"The archive did not come within {RECEIVED_S} seconds, waiting for its turn included."
            raise PublishingRefused("busy", message, "Try again later.") from None
        finally:
            self._senders[who.sub] -= 1
            if not self._senders[who.sub]:  # who sends nothing is forgotten
                del self._senders[who.sub], self._turns[who.sub]

    async def submit(
        self,
        who: Submitter,
        server: str,
        archive: bytes,
        provenance: Provenance,
        teams: Collection[str] | None = None,
    ) -> tuple[Submission, bool]:
        """Submit a project. The same again is the submission that there is; gives also whether it is new.

        Args:
            who: as the door has verified them.
            server: NAMESPACE/NAME that it is to be a release of; one that there is not is registered as a draft.
            archive: tar.gz of the project.
            provenance: where it came from, in their words.
            teams: those for which operators may register; None: any.

        Raises:
            PublishingRefused: the archive or project cannot be, or the server is not theirs.
            ChangeRefused: the server's name or record cannot be.
            StorageUnavailable: nothing was kept.
        """
        async with self._at_once:
            project = await read(self._reading(), archive)
        passed_over: list[str] = []
        async with self._registry.changing() as changing:
            found, new = await self._begin(changing, who, server, project, provenance, teams)
            if new:
                passed_over = await self._skip_older(changing, server, found.id)
        if new:
            self._begun(found.id)
        for each in passed_over:
            self._over(each)
        return found, new

    async def again(
        self,
        who: Submitter,
        submission: str,
        namespace: str,
        provenance: Provenance,
        teams: Collection[str] | None = None,
    ) -> tuple[Submission, bool]:
        """Submit the source of a submission to another namespace, without an upload: as from dev to prod.

        Args, Raises: as `submit`; also `unknown_submission`, where they may not know of it, and `not_kept`, where its
            source is not kept any more.
        """
        found = await self._find(who, submission)
        name = ServerName.parse(found.server).name
        told = provenance.model_copy(
            update={
                each: getattr(found.provenance, each) for each in ("kind", "repository", "commit", "dirty", "job")
            }
        )
        async with self.receiving(who, lambda: self._source(found)) as archive:
            return await self.submit(who, f"{namespace}/{name}", archive, told, teams)

    async def _source(self, of: Submission) -> bytes:
        try:
            archive = await artifacts.get(self._database, of.source)
        except artifacts.Damaged:
            archive = None
        if archive is None:
            message = "Its source is not kept any more."
            raise PublishingRefused("not_kept", message, "Submit the project from its folder.")
        return archive

    async def _begin(
        self,
        changing: Changing,
        who: Submitter,
        server: str,
        project: Submitted,
        provenance: Provenance,
        teams: Collection[str] | None,
    ) -> tuple[Submission, bool]:
        connection, now_ms = changing.connection, changing.now_ms
        name = check_server_name(server)
        if project.manifest.name != name.name:
            message = f"pegboard.toml says name = {project.manifest.name!r}, and it is submitted as {server}."
            raise PublishingRefused("invalid_project", message, "Submit it under the name that it has.")
        known = await self._ours(changing, who, server, project)
        if known is not None and (same := await submissions.standing(connection, server, project.digest)):
            return same, False
        if known is None:
            rights.check_owner(self._roles(), who, project.manifest.owner, teams)
            why = provenance.message or "its first release was submitted"
            known = await changing.register(server, record_of(project.manifest), who.actor, why[:1000])
        elif known.owner != project.manifest.owner and who.kind == "person":
            rights.check_owner(self._roles(), who, project.manifest.owner, teams)
        file, servers = self._registry.grants_file or GrantsFile(), self._registry.current.servers.values()
        size = len(project.archive)
        await check_bounds(Asked(changing, file, who, known, project.manifest, size, servers))
        await changing.apply(
            Change(server, who.actor, "submit", "its releases are submitted", values={"submitted": True})
        )
        await artifacts.put(connection, "source", Content.of(project.archive), now_ms)
        id_ = await submissions.begin(connection, server, project.digest, provenance, who.sub, who.kind, now_ms)
        await artifacts.use(connection, id_, [project.digest])
        await changing.note(server, who.actor, "submit release", provenance.message, {"submission": (None, id_)})
        return await _there(connection, id_), True

    async def _ours(
        self, changing: Changing, who: Submitter, server: str, project: Submitted
    ) -> RegisteredServer | None:
        """The server that somebody may submit to; None where there is none of that name, and they may begin one.

        Raises:
            PublishingRefused: it is another team's, or takes nothing that is submitted.
        """
        known = changing.find(server)
        if who.kind == "service":
            if known is None or not await publishers.may_submit(changing.connection, who.sub, server):
                message = f"{who.sub} is no publisher of {server[:100]}."
                raise PublishingRefused("not_yours", message, "Its owners name publishers: pegboard publishers add.")
            if known.owner != project.manifest.owner:
                message = f"pegboard.toml says that {project.manifest.owner} owns it, and {known.owner} does."
                raise PublishingRefused("not_yours", message, "Let a person of both teams submit that.")
        elif known is not None and not rights.owns(self._roles(), who, known):
            told = known.published or self._roles().involve(who.groups, known)
            raise rights.not_yours(known, known=told)
        if known is not None:
            rights.check_open(known)
        return known

    async def _skip_older(self, changing: Changing, server: str, newest: str) -> list[str]:
        """What waits for a builder and was given to none is not built: something newer is there; gives those."""
        connection, why = changing.connection, "a newer one was submitted before it was built"
        return [
            each.id
            for each in await submissions.listed(connection, server, (State.SUBMITTED,))
            if each.id != newest
            and each.builder is None
            and await move(
                connection, each.id, State.SUBMITTED, State.SUPERSEDED, "superseded", changing.now_ms, what=why
            )
        ]

    async def take_back(self, who: Submitter, submission: str, why: str) -> Submission:
        """End a submission before anything of it runs.

        Raises:
            PublishingRefused: they may not, or it is too late: what runs is gone back from.
        """
        await self._find(who, submission)
        async with self._registry.changing() as changing:
            found = await _there(changing.connection, submission)
            server = changing.find(found.server)
            own = (found.actor_kind, found.actor) == (who.kind, who.sub) and who.kind == "service"
            if server is not None and not own and not rights.owns(self._roles(), who, server):
                raise rights.not_yours(server, known=True)
            if not await handing.take_back(changing, found, who.actor, why):
                raise _too_late(found)
            after = await _there(changing.connection, submission)
        self._over(submission)
        return after


def _too_late(found: Submission) -> PublishingRefused:
    """Why a submission is not taken back, and what to do in its place."""
    back = f"pegboard rollback {found.server} --why …"
    mend = {
        State.LIVE: f"Go back to the release before it: {back}",
        State.DEPLOYING: f"Hold it: pegboard pause {found.server}. Or go back: {back}",
    }
    told = f"Its state is {found.state}: nothing of it waits that could be taken back."
    return PublishingRefused("too_late", told, mend.get(found.state, "There is nothing to do: nothing of it runs."))


async def read(reading: Reading, archive: bytes) -> Submitted:
    """What was submitted.

    Raises:
        PublishingRefused: it cannot be, or nothing can be read now.
    """
    try:
        return await reading.project(archive)
    except ReadingAway as error:
        message = f"The hub cannot read what is submitted at this moment: {error}."
        mend = "Nothing was submitted. Try again in a minute; if it stays so, tell the platform team."
        raise PublishingRefused("busy", message, mend) from error


async def _there(connection: AsyncConnection, id_: str) -> Submission:
    found = await submissions.find(connection, id_)
    assert found is not None  # noqa: S101 - it was written in this transaction
    return found
