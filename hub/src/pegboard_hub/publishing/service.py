"""Publishing: from a submitted archive to a release that is approved, one durable step at a time.

submit ──▶ an order ──▶ a builder ──▶ checked here, and signed ──▶ the registry and its reviews ──▶ approved

This is the one door to it. Whatever is acknowledged is on disk; every step is one conditional update with its event
in one transaction, and asks how things are instead of remembering what it was at. So a hub that is killed anywhere
goes on where it was, two that do the same do it once, and nothing is lost. What becomes of an approved release is
`deployments.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Final

from pegboard.core.publishing import Event, State
from pegboard_hub.common.waiting import Waiting
from pegboard_hub.publishing import artifacts, building, rights, submissions
from pegboard_hub.publishing.artifacts import Content, Kind
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.naming import Naming
from pegboard_hub.publishing.orders import BuildOrder, Progress, Told
from pegboard_hub.publishing.reading import Apart, Reading
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.submissions import Queue, Submission
from pegboard_hub.publishing.submitting import Submitting
from pegboard_hub.publishing.sweeping import AT_REST
from pegboard_hub.publishing.transitions import state_of
from pegboard_hub.publishing.working import LOOK_S, Working
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database

ORDERS: Final = "orders"
"""What builders wait for; submissions are waited for by their ids."""

AT_ONCE: Final = 2
"""Archives that are read at once: each may unfold to what `core.archive` allows."""


class Publishing:
    """Everything that is done about submissions until they are approved, and what can be asked about them.

    Attributes:
        reading: reads what strangers wrote, apart from this process.
    """

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
        self._roles = roles
        self._clock = clock
        self._waiting = Waiting(alone=database.embedded)
        self.reading: Reading = Apart()
        read = (lambda: self.reading, asyncio.Semaphore(AT_ONCE))
        working = Working(database, registry, signing, index, *read, self._waiting, leads, self._now_ms)
        submitting = Submitting(database, registry, roles, *read, self.find, self._begun, self._over)
        naming = Naming(database, registry, roles)
        self._working = working
        self.signing = signing
        # Each is documented where it is done.
        self.receiving = submitting.receiving
        self.submit = submitting.submit
        self.again = submitting.again
        self.take_back = submitting.take_back
        self.publishers = naming.publishers
        self.may_submit = naming.may_submit
        self.name_publisher = naming.name_publisher
        self.take_publisher = naming.take_publisher
        self.on_approved = working.on_approved
        self.on_renewed = working.on_renewed
        self.run = working.run
        self.step = working.step
        self.sign_anew = working.sign_anew
        self.tidy = working.tidy

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
        """Submissions of a server, newest first, without what is long; who may know of them is the door's to ask."""
        async with self._database.read() as connection:
            return await submissions.listed(connection, server, states, before=before, limit=limit, whole=False)

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
            return await submissions.queue(connection, self._now_ms())

    def tell(self, moved: Collection[str]) -> None:
        """Wake those who wait for news of these submissions, whoever moved them."""
        self._waiting.wake(moved)

    # -- building

    async def claim(self, builder: str, wait_s: float = 0.0, gone: Collection[str] = ()) -> BuildOrder | None:
        """The next order; held until there is one, or for `wait_s` seconds. What `gone` builders had is free."""

        async def look() -> BuildOrder | None:
            async with self._database.read() as connection:
                if not await submissions.any_to_build(connection):
                    return None
            async with self._database.write() as connection:
                return await building.claim(connection, builder, self._now_ms(), gone)

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
            await building.progress(connection, submission, word, self._now_ms())
        self._waiting.wake([submission])

    async def result(self, submission: str, word: Told) -> None:
        """Take what came of an order; told again it is as it was taken.

        Raises:
            ClaimLost: the order is somebody else's by now.
        """
        async with self._database.write() as connection:
            await building.result(connection, submission, word, self._now_ms())
        self._waiting.wake([submission, ORDERS])
        self._working.wake()

    async def keep(self, kind: Kind, content: Content) -> str:
        """Keep bytes that a builder made; gives their digest."""
        async with self._database.write() as connection:
            return await artifacts.put(connection, kind, content, self._now_ms())

    async def fetch(self, digest: str) -> bytes | None:
        """The bytes of a digest, whole, if they are kept.

        Raises:
            Damaged: the storage has changed them.
        """
        return await artifacts.get(self._database, digest)

    def parts(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a digest, part by part; of one that is not kept none.

        Raises:
            Damaged: the storage has changed them; the last part is never told then.
        """
        return artifacts.parts(self._database, digest)

    async def size(self, digest: str) -> int | None:
        """How many bytes a digest names; None where they are not kept. Who asks may name them soon: they stay."""
        async with self._database.write() as connection:
            if not await artifacts.touch(connection, digest, self._now_ms()):
                return None
            return await artifacts.size(connection, digest)

    # -- between the parts

    def _begun(self, submission: str) -> None:
        self._waiting.wake([ORDERS, submission])
        self._working.wake()

    def _over(self, submission: str) -> None:
        self._waiting.wake([submission])

    def release(self) -> None:
        """Let everybody go who waits: the hub ends."""
        self._waiting.release()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
