"""Publishing: from a submitted archive to a release that is approved, one durable step at a time.

submit ──▶ an order ──▶ a builder ──▶ checked here, and signed ──▶ the registry and its reviews ──▶ approved

This is the one door to it. Whatever is acknowledged is on disk; every step is one conditional update with its event
in one transaction, and asks how things are instead of remembering what it was at. So a hub that is killed anywhere
goes on where it was, two that do the same do it once, and nothing is lost. What becomes of an approved release is
`deployments.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.grants import GrantsFile
from pegboard.core.names import ServerName
from pegboard.core.publishing import Event, Provenance, State, Trouble
from pegboard_hub.publishing import artifacts, building, handing, publishers, rights, submissions
from pegboard_hub.publishing.artifacts import Kind
from pegboard_hub.publishing.checking import Checked, examine
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.orders import BuildOrder, Progress, Told
from pegboard_hub.publishing.publishers import Publisher
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.source import Project, read_project
from pegboard_hub.publishing.submissions import Queue, Submission
from pegboard_hub.publishing.sweeping import AT_REST, sweep
from pegboard_hub.publishing.transitions import move, state_of
from pegboard_hub.publishing.waiting import ORDERS, Waiting
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.record import check_server_name, record_of
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Seconds after which the hub looks for work although nobody told of any, as after another hub died with it."""

MOST_WAITING: Final = 20
"""Submissions of one team's servers that wait for a builder, or are with one."""

RECEIVED_AT_ONCE: Final = 8
"""Archives that are received at once."""

SENT_AT_ONCE: Final = 2
"""Of them, by one person or service."""

RECEIVED_S: Final = 120
"""Seconds in which one must have come."""

PUT_OFF_S: Final = 30.0
"""Seconds for which one that could not be worked on lets others go before it."""

MOST_FAILURES: Final = 5
"""How often working on one may fail, for want of whatever, before it fails itself."""

AT_ONCE: Final = 2
"""Archives that are read at once: each may unfold to what `core.archive` allows."""

TELL_US: Final = "Tell the platform team the submission's id."

Approved = Callable[[], None]


class Failing(NamedTuple):
    """One that could not be worked on: how often, and until when (monotonic seconds) others go before it."""

    times: int
    until: float


class Publishing:
    """Everything that is done about submissions until they are approved, and what can be asked about them."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        signing: Signing,
        roles: Callable[[], Roles],
        index: str,
        *,
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare, and follow the registry from now on.

        Args:
            database: of submissions and artifacts.
            registry: takes checked releases.
            signing: signs them.
            roles: who operates, as the operator's files say now.
            index: address of the hub's own package index.
            leads: whether this hub is the one that works on what was submitted.
            clock: seconds since the epoch.
        """
        self._database = database
        self._registry = registry
        self._signing = signing
        self._roles = roles
        self._index = index
        self._leads = leads
        self._clock = clock
        self._waiting = Waiting(alone=database.embedded)
        self._reading = asyncio.Semaphore(AT_ONCE)
        self._senders: Counter[str] = Counter()
        self._failures: dict[str, Failing] = {}
        self._receiving = asyncio.Semaphore(RECEIVED_AT_ONCE)
        self._work = asyncio.Event()
        self._told: list[Approved] = []
        self._renewed: list[Approved] = []
        registry.on_changing(self._settle)

    def on_approved(self, told: Approved) -> None:
        """Be told whenever a submission may have become approved; whoever deploys looks then, and at its start."""
        self._told.append(told)

    def on_renewed(self, told: Approved) -> None:
        """Be told whenever releases were signed again; whoever keeps signatures reads them anew."""
        self._renewed.append(told)

    # -- submitting

    @asynccontextmanager
    async def receiving(self, who: Submitter) -> AsyncIterator[None]:
        """While an archive is received and read: a few at once, since each is held whole. Others wait for their turn.

        Raises:
            PublishingRefused: they send as many already, or it took too long.
        """
        if self._senders[who.sub] >= SENT_AT_ONCE:
            message = f"You send {SENT_AT_ONCE} archives at this moment, which is the most."
            raise PublishingRefused("busy", message, "Send one after the other.")
        self._senders[who.sub] += 1
        try:
            async with asyncio.timeout(RECEIVED_S), self._receiving:
                yield
        except TimeoutError:
            message = f"The archive did not come within {RECEIVED_S} seconds."
            raise PublishingRefused("busy", message, "Try again later.") from None
        finally:
            self._senders[who.sub] -= 1
            self._senders += Counter()  # who sends nothing is forgotten

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
        async with self._reading:
            project = await asyncio.to_thread(read_project, archive)
        async with self._registry.changing() as changing:
            found, new = await self._begin(changing, who, server, project, provenance, teams)
        if new:
            self._waiting.wake([ORDERS, found.id])
            self._work.set()
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
        found = await self.find(who, submission)
        async with self._database.read() as connection:
            archive = await artifacts.get(connection, found.source)
        if archive is None:
            message = "Its source is not kept any more."
            raise PublishingRefused("not_kept", message, "Submit the project from its folder.")
        name = ServerName.parse(found.server).name
        told = provenance.model_copy(
            update={
                each: getattr(found.provenance, each) for each in ("kind", "repository", "commit", "dirty", "job")
            }
        )
        return await self.submit(who, f"{namespace}/{name}", archive, told, teams)

    async def _begin(
        self,
        changing: Changing,
        who: Submitter,
        server: str,
        project: Project,
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
        await self._check_room(changing, known)
        await changing.apply(
            Change(server, who.actor, "submit", "its releases are submitted", values={"submitted": True})
        )
        await artifacts.put(connection, "source", project.archive, now_ms)
        id_ = await submissions.begin(connection, server, project.digest, provenance, who.sub, who.kind, now_ms)
        await artifacts.use(connection, id_, [project.digest])
        await self._skip_older(changing, server, id_)
        await changing.note(server, who.actor, "submit release", provenance.message, {"submission": (None, id_)})
        return await _there(connection, id_), True

    async def _ours(
        self, changing: Changing, who: Submitter, server: str, project: Project
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

    async def _check_room(self, changing: Changing, server: RegisteredServer) -> None:
        others = [str(each.name) for each in self._registry.current.servers.values() if each.owner == server.owner]
        if await submissions.on_their_way(changing.connection, [*others, str(server.name)]) >= MOST_WAITING:
            message = f"{MOST_WAITING} submissions of {server.owner} wait to be built, which is the most."
            raise PublishingRefused("too_many", message, "Wait until some of them are built.")

    async def _skip_older(self, changing: Changing, server: str, newest: str) -> None:
        """What waits for a builder and was given to none is not built any more: something newer is there."""
        for each in await submissions.listed(changing.connection, server, (State.SUBMITTED,)):
            if each.id != newest and each.builder is None:
                await move(
                    changing.connection,
                    each.id,
                    State.SUBMITTED,
                    State.SUPERSEDED,
                    "superseded",
                    changing.now_ms,
                    what="a newer one was submitted before it was built",
                )

    async def take_back(self, who: Submitter, submission: str, why: str) -> Submission:
        """End a submission before anything of it runs.

        Raises:
            PublishingRefused: they may not, or it is too late: what runs is gone back from.
        """
        await self.find(who, submission)
        async with self._registry.changing() as changing:
            found = await _there(changing.connection, submission)
            server = changing.find(found.server)
            own = (found.actor_kind, found.actor) == (who.kind, who.sub) and who.kind == "service"
            if server is not None and not own and not rights.owns(self._roles(), who, server):
                raise rights.not_yours(server, known=True)
            if not await handing.take_back(changing, found, who.actor, why):
                message = f"It is {found.state}: nothing waits of it that could be taken back."
                raise PublishingRefused("too_late", message, "Go back to another release of the server instead.")
            after = await _there(changing.connection, submission)
        self._waiting.wake([submission])
        return after

    # -- asking

    async def find(self, who: Submitter, submission: str) -> Submission:
        """A submission that somebody may know of.

        Raises:
            PublishingRefused: there is none for them.
        """
        async with self._database.read() as connection:
            found = await submissions.find(connection, submission)
        server = self._registry.current.servers.get(found.server) if found else None
        if found is None or not rights.sees(self._roles(), who, server, found):
            message = "No such submission here for you: it does not exist, or you may not know of it."
            raise PublishingRefused("unknown_submission", message, "List those of a server of yours.")
        return found

    async def listed(
        self, server: str, states: Collection[State] = (), *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> list[Submission]:
        """Submissions of a server, newest first; who may know of them is the door's to ask."""
        async with self._database.read() as connection:
            return await submissions.listed(connection, server, states, before=before, limit=limit)

    async def events(self, submission: str, after: int = 0, wait_s: float = 0.0) -> Sequence[Event]:
        """What happened to a submission after the event of that number; held until there is more, or for `wait_s`.

        Nobody is kept waiting for more of one that is over.
        """

        async def look() -> tuple[list[Event], bool]:
            async with self._database.read() as connection:
                found = await submissions.events(connection, submission, after)
                return found, bool(found) or await state_of(connection, submission) in AT_REST

        events, _ = await self._waiting.until(submission, look, lambda seen: seen[1], wait_s)
        return events

    async def queue(self) -> Queue:
        """What waits for a builder."""
        async with self._database.read() as connection:
            return await submissions.queue(connection, self._now_ms)

    def tell(self, moved: Collection[str]) -> None:
        """Wake those who wait for news of these submissions, whoever moved them."""
        self._waiting.wake(moved)

    # -- publishers

    async def publishers(self, server: str) -> list[Publisher]:
        """The services that may submit releases of a server."""
        async with self._database.read() as connection:
            return await publishers.of(connection, server)

    async def may_submit(self, service: str, server: str | None = None) -> bool:
        """Whether a service may submit releases of a server, or of any."""
        async with self._database.read() as connection:
            return await publishers.may_submit(connection, service, server)

    async def name_publisher(self, who: Submitter, server: str, service: str, why: str) -> bool:
        """Let a service submit releases of a server; False where it may already.

        Raises:
            PublishingRefused: the server is not theirs, or has as many as it can have.
            UnknownServer: there is none.
        """
        async with self._registry.changing() as changing:
            found = changing.server(server)
            if not rights.owns(self._roles(), who, found):
                raise rights.not_yours(found, known=True)
            if await publishers.count(changing.connection, server) >= publishers.MOST:
                message = f"{server} has {publishers.MOST} publishers, which is the most."
                raise PublishingRefused("too_many", message, "Take one away first.")
            new = await publishers.add(changing.connection, server, service, why, who.sub, changing.now_ms)
            if new:
                await changing.note(server, who.actor, "name publisher", why, {"publisher": (None, service)})
        return new

    async def take_publisher(self, who: Submitter, server: str, service: str, why: str) -> bool:
        """Let a service submit releases of a server no more; False where it might not anyway.

        Raises:
            PublishingRefused: the server is not theirs.
            UnknownServer: there is none.
        """
        async with self._registry.changing() as changing:
            found = changing.server(server)
            if not rights.owns(self._roles(), who, found):
                raise rights.not_yours(found, known=True)
            gone = await publishers.remove(changing.connection, server, service)
            if gone:
                await changing.note(server, who.actor, "take publisher away", why, {"publisher": (service, None)})
        return gone

    # -- building

    async def claim(self, builder: str, wait_s: float = 0.0) -> BuildOrder | None:
        """The next order; held until there is one, or for `wait_s` seconds."""

        async def look() -> BuildOrder | None:
            async with self._database.read() as connection:
                if not await submissions.listed(connection, states=(State.SUBMITTED,), limit=1):
                    return None
            async with self._database.write() as connection:
                return await building.claim(connection, builder, self._now_ms)

        order = await self._waiting.until(ORDERS, look, bool, wait_s, nap_s=LOOK_S)
        if order is not None:
            self._waiting.wake([order.id])
        return order

    async def progress(self, submission: str, word: Progress) -> None:
        """Hear of a builder.

        Raises:
            ClaimLost: the order is not its own any more.
        """
        async with self._database.write() as connection:
            await building.progress(connection, submission, word, self._now_ms)
        self._waiting.wake([submission])

    async def result(self, submission: str, word: Told) -> None:
        """Take what came of an order; told again it is as it was taken.

        Raises:
            ClaimLost: the order is somebody else's by now.
        """
        async with self._database.write() as connection:
            await building.result(connection, submission, word, self._now_ms)
        self._waiting.wake([submission, ORDERS])
        self._work.set()

    async def keep(self, kind: Kind, content: bytes) -> str:
        """Keep bytes that a builder made; gives their digest."""
        async with self._database.write() as connection:
            return await artifacts.put(connection, kind, content, self._now_ms)

    async def fetch(self, digest: str) -> bytes | None:
        """The bytes of a digest, if they are kept."""
        async with self._database.read() as connection:
            return await artifacts.get(connection, digest)

    async def size(self, digest: str) -> int | None:
        """How many bytes a digest names; None where they are not kept. Who asks may name them soon: they stay."""
        async with self._database.write() as connection:
            if not await artifacts.touch(connection, digest, self._now_ms):
                return None
            return await artifacts.size(connection, digest)

    # -- working

    async def run(self) -> None:
        """Work on what was built until cancelled. What fails is tried again at the next look."""
        while True:
            self._work.clear()
            try:
                if self._leads():
                    await self.sign_anew()
                    if await self.step():
                        continue
            except StorageUnavailable:
                log.warning("submissions wait for the database")
            except Exception:
                log.exception("submissions could not be worked on, and are tried again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), LOOK_S)

    async def sign_anew(self) -> int:
        """Sign again what was signed with a key that is believed no more; gives how many there were."""
        if not self._signing.renewed:
            return 0
        count, after = 0, ""
        while True:
            async with self._database.read() as connection:
                part = await submissions.signed(connection, after)
            old = [each for each in part if each.signature and not self._signing.believes(each.signature)]
            async with self._database.write() as connection:
                for each in old:
                    signature = self._signing.sign(each, self._now_ms)
                    await submissions.sign(connection, each.id, str(each.signature), signature)
            count += len(old)
            if not part:
                break
            after = part[-1].id
        self._signing.settled()
        if count:
            log.info("releases were signed anew", extra={"releases": count})
            for told in self._renewed:
                told()
        return count

    async def tidy(self) -> None:
        """Let go of what nobody needs any more."""
        async with self._database.write() as connection:
            count = await sweep(connection, self._now_ms)
        if count:
            log.info("artifacts were swept", extra={"artifacts": count})

    async def step(self) -> bool:
        """Take the oldest that is built, or checked, one step further; False where there is nothing to do."""
        async with self._database.read() as connection:
            found = await submissions.listed(connection, states=(State.BUILT, State.CHECKED), oldest_first=True)
        now, file = time.monotonic(), self._registry.grants_file
        due = [each for each in found if each.id not in self._failures or self._failures[each.id].until <= now]
        if not due or file is None:
            return False
        try:
            await (self._check if due[0].state is State.BUILT else self._hand_over)(due[0], file)
            self._failures.pop(due[0].id, None)
        except StorageUnavailable:
            raise
        except Exception:
            await self._put_off(due[0])
        return True

    async def _put_off(self, submission: Submission) -> None:
        """Let others go before one that could not be worked on; after some times it has failed."""
        times = self._failures.get(submission.id, Failing(0, 0.0)).times + 1
        self._failures[submission.id] = Failing(times, time.monotonic() + PUT_OFF_S)
        log.exception("a submission could not be worked on", extra={"submission": submission.id, "times": times})
        if times < MOST_FAILURES:
            return
        trouble = Trouble(step="check", what="The hub could not work on it.", mend=TELL_US)
        async with self._database.write() as connection:
            await building.fail(connection, submission.id, submission.state, trouble, self._now_ms)
        self._failures.pop(submission.id, None)
        self._waiting.wake([submission.id])

    async def _check(self, submission: Submission, file: GrantsFile) -> None:
        """BUILT → CHECKED, signed; or FAILED, with what was found."""
        checked = await self._examined(submission, file)
        findings = [each.model_dump(mode="json") for each in checked.findings]
        async with self._database.write() as connection:
            now_ms = self._now_ms
            if checked.trouble is not None:
                await building.fail(
                    connection, submission.id, State.BUILT, checked.trouble, now_ms, findings=findings
                )
            else:
                await move(
                    connection,
                    submission.id,
                    State.BUILT,
                    State.CHECKED,
                    "signed",
                    now_ms,
                    what=_counted(checked),
                    findings=findings,
                    signature=self._signing.sign(submission, now_ms),
                )
        self._waiting.wake([submission.id])

    async def _examined(self, submission: Submission, file: GrantsFile) -> Checked:
        assert submission.artifact is not None  # noqa: S101 - it is built
        async with self._database.read() as connection:
            source = await artifacts.get(connection, submission.source)
            told = await artifacts.get(connection, submission.artifact.project)
        if source is None or told is None:
            what = "What it was built from is not there any more."
            return Checked((), Trouble(step="check", what=what, mend="Submit it again."))
        servers = list(self._registry.current.servers.values())

        def look() -> Checked:
            return examine(submission, read_project(source), told, file, servers, self._index)

        try:
            async with self._reading:
                return await asyncio.to_thread(look)
        except PublishingRefused as error:
            return Checked((), Trouble(step="check", what=error.message, mend=error.mend))
        except (RecursionError, ValueError, TypeError, LookupError, AttributeError):
            # What a stranger declared found a way through: it fails, and does not stop what comes after it.
            log.exception("a submission could not be checked", extra={"submission": submission.id})
            return Checked((), Trouble(step="check", what="The check itself failed on it.", mend=TELL_US))

    async def _hand_over(self, submission: Submission, file: GrantsFile) -> None:
        async with self._registry.changing() as changing:
            found = await submissions.find(changing.connection, submission.id)
            if found is not None and found.state is State.CHECKED:
                await handing.hand_over(changing, file, found)
        self._waiting.wake([submission.id])
        self._say_approved()

    async def _settle(self, changing: Changing) -> Callable[[], None] | None:
        """In every transaction of the registry: what waits for people moves with it."""
        moved = await handing.settle(changing)

        def kept() -> None:
            self._waiting.wake(moved)
            self._say_approved()

        return kept if moved else None

    def _say_approved(self) -> None:
        for told in self._told:
            told()

    def release(self) -> None:
        """Let everybody go who waits: the hub ends."""
        self._waiting.release()

    @property
    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


async def _there(connection: AsyncConnection, id_: str) -> Submission:
    found = await submissions.find(connection, id_)
    assert found is not None  # noqa: S101 - it was written in this transaction
    return found


def _counted(checked: Checked) -> str:
    counts = {each.severity: 0 for each in checked.findings}
    for each in checked.findings:
        counts[each.severity] += 1
    told = (f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    return ", ".join(told) or "nothing found"
