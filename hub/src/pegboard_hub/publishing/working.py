"""Working on what was built: one durable step at a time, until it is approved or waits for people.

Every step asks how things are instead of remembering what it was at. So a hub that is killed anywhere goes on where
it was, and two that do the same do it once.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from pegboard.core.grants import GrantsFile
from pegboard.core.publishing import State, Trouble
from pegboard_hub.common.waiting import Waiting
from pegboard_hub.publishing import artifacts, building, handing, submissions
from pegboard_hub.publishing.artifacts import Damaged
from pegboard_hub.publishing.bounds import MIB
from pegboard_hub.publishing.checking import case_of
from pegboard_hub.publishing.examining import Checked
from pegboard_hub.publishing.reading import TELL_US, Reading
from pegboard_hub.publishing.renewing import sign_anew
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.publishing.sweeping import sweep
from pegboard_hub.publishing.transitions import move
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.service import Registry
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Seconds after which the hub looks for work although nobody told of any, as after another hub died with it."""

PUT_OFF_S: Final = 30.0
"""Seconds for which one that could not be worked on lets others go before it."""

MOST_FINDINGS: Final = 500
"""Of a check that are kept, errors first; all of them are counted. A made-up project can have a hundred thousand."""

MOST_FAILURES: Final = 5
"""How often working on one may fail, for want of whatever, before it fails itself."""

Told = Callable[[], None]


class Failing(NamedTuple):
    """One that could not be worked on: how often, and until when (monotonic seconds) others go before it."""

    times: int
    until: float


class Working:
    """Takes what was built as far as it goes without people."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        signing: Signing,
        index: str,
        reading: Callable[[], Reading],
        at_once: asyncio.Semaphore,
        waiting: Waiting,
        leads: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        """Prepare, and follow the registry from now on.

        Args:
            database: of submissions and artifacts.
            registry: takes checked releases.
            signing: signs them.
            index: address of the hub's own package index.
            reading: what reads strangers' text.
            at_once: how many archives are read at once.
            waiting: who waits for news.
            leads: whether this hub is the one that works.
            now_ms: milliseconds since the epoch.
        """
        self._database = database
        self._registry = registry
        self._signing = signing
        self._index = index
        self._reading = reading
        self._at_once = at_once
        self._waiting = waiting
        self._leads = leads
        self._now_ms = now_ms
        self._work = asyncio.Event()
        self._failures: dict[str, Failing] = {}
        self._told: list[Told] = []
        self._renewed: list[Told] = []
        registry.on_changing(self._settle)

    def on_approved(self, told: Told) -> None:
        """Be told whenever a submission may have become approved; whoever deploys looks then, and at its start."""
        self._told.append(told)

    def on_renewed(self, told: Told) -> None:
        """Be told whenever releases were signed again; whoever keeps signatures reads them anew."""
        self._renewed.append(told)

    def wake(self) -> None:
        """There may be work."""
        self._work.set()

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
        return await sign_anew(self._database, self._signing, self._now_ms, self._tell_renewed)

    def _tell_renewed(self) -> None:
        for told in self._renewed:
            told()

    async def tidy(self) -> None:
        """Let go of what nobody needs any more."""
        limits = (self._registry.grants_file or GrantsFile()).publishing.limits
        async with self._database.write() as connection:
            count = await sweep(connection, self._now_ms(), limits.stored_mb * MIB)
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
            await building.fail(connection, submission.id, submission.state, trouble, self._now_ms())
        self._failures.pop(submission.id, None)
        self._waiting.wake([submission.id])

    async def _check(self, submission: Submission, file: GrantsFile) -> None:
        """BUILT → CHECKED, signed; or FAILED, with what was found."""
        checked = await self._examined(submission, file)
        findings = [each.model_dump(mode="json") for each in checked.findings[:MOST_FINDINGS]]
        async with self._database.write() as connection:
            now_ms = self._now_ms()
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
        case = case_of(submission, file, self._registry.current.servers.values(), self._index)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as told:
            try:
                for digest, into in ((submission.source, source), (submission.artifact.project, told)):
                    if await artifacts.copy(self._database, digest, into) is None:
                        what = "What it was built from is not there any more."
                        return Checked((), Trouble(step="check", what=what, mend="Submit it again."))
            except Damaged:
                what = "What was kept of it has changed on the disk of the hub's database, and is not used."
                return Checked((), Trouble(step="check", what=what, mend=f"Submit it again. {TELL_US}"))
            async with self._at_once:
                return await self._reading().check(case, source, told)

    async def _hand_over(self, submission: Submission, file: GrantsFile) -> None:
        moved: list[str] = []
        async with self._registry.changing() as changing:
            found = await submissions.find(changing.connection, submission.id)
            if found is not None and found.state is State.CHECKED:
                moved = await handing.hand_over(changing, file, found)
        self._waiting.wake(moved)
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


def _counted(checked: Checked) -> str:
    counts = {each.severity: 0 for each in checked.findings}
    for each in checked.findings:
        counts[each.severity] += 1
    told = (f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    return ", ".join(told) or "nothing found"
