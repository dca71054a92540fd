"""Telling destinations what happens to approvals: a durable queue for each, and one task that empties them.

A message is written in the transaction that makes what it tells of, and sent afterwards by the hub that leads: at
least once, and with the same id each time. What cannot be delivered is tried for a day, with growing pauses.

| what happens | what is done |
|---|---|
| 2xx | it is delivered |
| 410 | it is given up |
| another 4xx | this message waits, the others go on |
| no answer, 3xx, 429, 5xx | the destination rests, and is then tried with one message |

A destination that is slow or away holds up neither another one nor a request: each is served by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.common.tasks import end
from pegboard_hub.notify import store
from pegboard_hub.notify.message import Notice, body, together, trial
from pegboard_hub.notify.model import Message, Queue
from pegboard_hub.notify.sending import Attempt, Sender
from pegboard_hub.notify.settings import Event, NotifySettings, Receiver
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import NOTIFICATIONS, NOTIFICATIONS_OLDEST, NOTIFICATIONS_WAITING

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often it is looked for what is to be sent, in seconds."""

COUNT_S: Final = 10.0
"""How often what waits is counted for metrics, in seconds."""

NEVER: Final = float("-inf")

AT_ONCE: Final = 4
"""Messages that one destination gets at a time, once it has taken one."""

ROUND: Final = 20
"""Messages that are read of a destination's queue at a time."""

WAITS_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400)
"""Seconds until a message is tried again; the last of them again and again."""

RESTS_S: Final = (5, 15, 60, 300)
"""Seconds that a destination rests after an attempt that would fail for others too."""

GIVE_UP_S: Final = 24 * 3600
"""Seconds for which a message is tried."""

MOST_WAITING: Final = 10_000
"""Messages that wait for one destination; the oldest beyond them are given up."""

DELIVERED_KEPT_S: Final = 24 * 3600
GIVEN_UP_KEPT_S: Final = 7 * 24 * 3600
"""Seconds for which messages are kept that were delivered, and that were given up."""


class UnknownDestination(ValueError):
    """The notification file names no destination of that name; the message names those it does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One destination as the operator sees it."""

    receiver: Receiver
    queue: Queue

    @property
    def trouble(self) -> str:
        """What is wrong with it, in a line; empty where nothing is."""
        queue = self.queue
        lines = [f"{queue.waiting} wait: {queue.trouble}"] if queue.waiting and queue.trouble else []
        lines += [f"{queue.given_up} were given up in the last week"] if queue.given_up else []
        return "; ".join(lines)


@dataclass(slots=True)
class _Lane:
    """One destination at work: until when it rests, and after how many failures."""

    receiver: Receiver
    failures: int = 0
    rests_until: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self.task is None or self.task.done()


class Notifying:
    """Everything that is done about notifications.

    Args:
        database: has the table.
        settings: where messages go.
        public_url: the edge's origin, for links.
        meter: counts attempts.
        leads: whether this hub is the one that sends.
        sender: sends.
        clock: seconds since the epoch.
        monotonic: seconds that only count up.

    Attributes:
        fault: why nobody is told, where the notification file became wrong; what waits is kept.
    """

    def __init__(
        self,
        database: Database,
        settings: NotifySettings,
        public_url: str,
        meter: HubMeter | None = None,
        leads: Callable[[], bool] = lambda: True,
        sender: Sender | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._receivers: Mapping[str, Receiver] = settings.receivers
        self.fault = settings.fault
        self._public_url = public_url
        self._meter = meter or HubMeter()
        self._leads = leads
        self._sender = sender or Sender(clock=clock)
        self._clock = clock
        self._monotonic = monotonic
        self._lanes = {name: _Lane(receiver) for name, receiver in self._receivers.items()}
        self._counted_at = NEVER

    async def note(self, connection: AsyncConnection, event: Event, notices: Sequence[Notice]) -> None:
        """Keep what is to be told of one act, in the transaction that does it. Nothing is sent yet.

        Args:
            connection: the write.
            event: what happened.
            notices: of all requests that it happened to.
        """
        at_ms = self._now_ms()
        messages = [
            Message(f"msg_{uuid4().hex}", name, event, body(event, part, at_ms, self._public_url), at_ms)
            for part in together(notices)
            for name, receiver in self._receivers.items()
            if receiver.asked.takes(event, part[0].group)
        ]
        await store.add(connection, messages)

    async def run(self) -> None:
        """Send what waits until cancelled. No trouble with a destination or the database ends it."""
        try:
            while self._receivers:
                try:
                    if self._leads():
                        await self.look()
                    elif self._counted_at != NEVER:
                        self._count_nothing()
                except StorageUnavailable:
                    pass  # `Database` says so, and it is tried again
                except Exception:
                    log.exception("what notifications wait could not be looked at, and is looked at again")
                await asyncio.sleep(LOOK_S)
        finally:
            await end(*(lane.task for lane in self._lanes.values() if lane.task is not None))

    async def look(self) -> None:
        """Begin to serve each destination that has something to get, and is not being served."""
        now, now_ms = self._monotonic(), self._now_ms()
        ready = {name: lane for name, lane in self._lanes.items() if lane.idle and now >= lane.rests_until}
        async with self._database.read() as connection:
            wanted = await store.destinations_due(connection, now_ms) & ready.keys()
            found = {name: await store.due(connection, name, now_ms, ROUND) for name in wanted}
        for name, messages in found.items():
            lane = ready[name]
            lane.task = asyncio.create_task(self._serve(lane, messages), name=f"notify {name}")
        if now - self._counted_at >= COUNT_S:
            self._counted_at = now
            await self._count()

    async def settled(self) -> None:
        """Wait until nobody is being served."""
        await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task is not None))

    async def test(self, destination: str) -> tuple[Receiver, Attempt]:
        """Send one message that tells of nothing, now and once, and give how that went.

        Raises:
            UnknownDestination: there is none of that name.
        """
        receiver = self._receivers.get(destination)
        if receiver is None:
            known = ", ".join(sorted(self._receivers)) or "none: pegboard up --notify FILE names them"
            raise UnknownDestination(f"No destination is called so; there are {known}")
        at_ms = self._now_ms()
        text = trial(destination, at_ms, self._public_url)
        return receiver, await self._sender.send(receiver, f"msg_{uuid4().hex}", text)

    async def standing(self) -> list[Standing]:
        """How each destination stands, by name."""
        async with self._database.read() as connection:
            found = await store.queues(connection)
        return [
            Standing(receiver, found.get(name, Queue(name))) for name, receiver in sorted(self._receivers.items())
        ]

    async def tidy(self) -> None:
        """Give up what nobody will get any more, and forget what ended long ago."""
        now_ms = self._now_ms()
        async with self._database.write() as connection:
            given_up = 0
            if not self.fault:
                why = "no destination is called so"
                given_up += await store.give_up_others(connection, self._receivers, now_ms, why)
            before_ms = now_ms - GIVE_UP_S * 1000
            given_up += await store.give_up(connection, now_ms, "it waited for a day", before_ms=before_ms)
            for name in self._receivers:
                given_up += await store.give_up_beyond(connection, name, MOST_WAITING, now_ms, "too many wait")
            await store.forget(connection, now_ms - DELIVERED_KEPT_S * 1000, now_ms - GIVEN_UP_KEPT_S * 1000)
        if given_up:
            log.error("notifications were given up", extra={"messages": given_up})

    async def close(self) -> None:
        """End the connections."""
        await self._sender.close()

    async def _serve(self, lane: _Lane, found: Sequence[Message]) -> None:
        """Send messages: one, and those that are left some at a time, until one fails as all would."""
        try:
            if await self._deliver(lane, found[:1]):
                for start in range(1, len(found), AT_ONCE):
                    if not await self._deliver(lane, found[start : start + AT_ONCE]):
                        return
        except StorageUnavailable:
            # What was sent is sent again: at least once.
            lane.rests_until = self._monotonic() + RESTS_S[0]
        except Exception:
            lane.rests_until = self._monotonic() + RESTS_S[-1]
            log.exception("a destination could not be served", extra={"destination": lane.receiver.name})

    async def _deliver(self, lane: _Lane, messages: Sequence[Message]) -> bool:
        """Try some at once, and keep how it went; gives whether others may follow."""
        attempts = await asyncio.gather(*(self._sender.send(lane.receiver, m.id, m.body) for m in messages))
        async with self._database.write() as connection:
            for message, attempt in zip(messages, attempts, strict=True):
                await self._note(connection, lane.receiver.name, message, attempt)
        worst = next((attempt for attempt in attempts if attempt.of_all), None)
        if worst is None:
            self._well(lane)
            return True
        self._rest(lane, worst)
        return False

    async def _note(self, connection: AsyncConnection, name: str, message: Message, attempt: Attempt) -> None:
        now_ms = self._now_ms()
        if not attempt.trouble:
            await store.tried(connection, message.id, "delivered", now_ms, "")
            self._meter.count(NOTIFICATIONS, name, "delivered")
            return
        wait_s = WAITS_S[min(message.attempts, len(WAITS_S) - 1)]
        next_ms = now_ms + int(1000 * max(attempt.retry_after_s, wait_s * random.uniform(0.8, 1.2)))  # noqa: S311
        if attempt.gone or next_ms > message.at_ms + GIVE_UP_S * 1000:
            await store.tried(connection, message.id, "given_up", now_ms, attempt.trouble)
            self._meter.count(NOTIFICATIONS, name, "given_up")
            log.error("a notification is given up", extra={"destination": name, "id": message.id})
            return
        await store.tried(connection, message.id, "waiting", next_ms, attempt.trouble)
        self._meter.count(NOTIFICATIONS, name, "failed")

    def _well(self, lane: _Lane) -> None:
        if lane.failures:
            log.info("a destination takes notifications again", extra={"destination": lane.receiver.name})
        lane.failures, lane.rests_until = 0, 0.0

    def _rest(self, lane: _Lane, attempt: Attempt) -> None:
        rest_s = RESTS_S[min(lane.failures, len(RESTS_S) - 1)]
        lane.rests_until = self._monotonic() + max(rest_s, attempt.retry_after_s)
        if not lane.failures:
            told = {"destination": lane.receiver.name, "at": lane.receiver.origin, "why": attempt.trouble}
            log.warning("a destination takes no notifications; it is tried again", extra=told)
        lane.failures += 1

    async def _count(self) -> None:
        """Show what waits."""
        now_ms = self._now_ms()
        for each in await self.standing():
            name, queue = each.receiver.name, each.queue
            self._meter.set(NOTIFICATIONS_WAITING, queue.waiting, name)
            oldest_s = (now_ms - queue.oldest_ms) / 1000 if queue.oldest_ms is not None else 0.0
            self._meter.set(NOTIFICATIONS_OLDEST, max(oldest_s, 0.0), name)

    def _count_nothing(self) -> None:
        """Another hub leads now, and says what waits."""
        self._counted_at = NEVER
        self._meter.forget(NOTIFICATIONS_WAITING)
        self._meter.forget(NOTIFICATIONS_OLDEST)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
