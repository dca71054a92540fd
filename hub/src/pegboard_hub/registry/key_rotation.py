"""Rotating the hub's signing keys: a new key signs only after everybody who runs has said that they know it.

A rotation is what the ring says: it has a next key while one is under way. So there is nothing else to resume after
a crash; `step` does what is due now, and doing it again changes nothing (docs/decisions/0011).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import EDGE
from pegboard_hub.identity.keys import Keys
from pegboard_hub.identity.ring import Purpose, Ring, RingKey
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import StatusReader

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often what is due is looked for, in seconds."""

AFTER_FAULT_S = 5.0
"""Pause after a step that failed, as on a full disk, in seconds."""

SETTLE_S = 2.0
"""Seconds a new key is published before it signs, whoever has acknowledged it: a process that was just starting may
have read the files of the moment before."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One consumer of bundles during a rotation.

    Attributes:
        consumer: `edge`, `edge:` and the name of a joined one, or a server's name.
        state: of its process, as the supervisor says.
        version: of the bundle it said it uses; None when it has said nothing since the hub was started.
        acknowledged: whether it said that it knows the next key.
    """

    consumer: str
    state: str
    version: int | None
    acknowledged: bool

    @property
    def awaited(self) -> bool:
        """Whether the rotation waits for it. A process that is down reads the newest bundle when it starts.

        Of one whose state nobody tells, the worst is assumed.
        """
        return not self.acknowledged and self.state != "down"


class KeyRotation:
    """Brings new keys into use and old ones out of it, one step at a time."""

    def __init__(
        self,
        keys: Keys,
        registry: Registry,
        status: StatusReader,
        clock: Callable[[], float] = time.time,
        leads: Callable[[], bool] = lambda: True,
        edges: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Prepare.

        Args:
            keys: the rings.
            registry: writes bundles, and knows who gets one.
            status: how processes of this machine are.
            clock: seconds since the epoch.
            leads: whether this hub leads.
            edges: how each joined edge is, by what it is called as a consumer.
        """
        self._edges = edges
        self.keys = keys
        self._leads = leads
        self._registry = registry
        self._status = status
        self._clock = clock
        self._told: dict[str, Acknowledgement] = {}
        # The registry was started with these: its bundles have them.
        self._published: tuple[tuple[RingKey, ...], ...] = self._state() if leads() else ()
        self._published_at = time.monotonic()

    def acknowledge(self, consumer: str, word: Acknowledgement) -> None:
        """Take a consumer's word on the bundle it uses. Who it is was checked at the door."""
        self._told[consumer] = word

    def version_of(self, consumer: str) -> int | None:
        """The bundle that a consumer said it uses; None while it has said nothing to this hub."""
        word = self._told.get(consumer)
        return word.version if word else None

    def begin(self, purpose: Purpose) -> tuple[RingKey, bool]:
        """Start a rotation, or join the one that is under way: the next key, and whether it was there before.

        Raises:
            OSError: the ring cannot be written; nothing was started.
            RingFull: too many keys are verified with already; nothing was started.
        """
        ring = self._ring(purpose)
        joined = ring.next is not None
        key = ring.add_next(self._clock())
        if not joined:
            _log(ring, "begun", key.kid)
        return key, joined

    def standings(self, ring: Ring) -> list[Standing]:
        """Every consumer, and how it stands to the ring's next key."""
        coming, status, edges = ring.next, self._status.read(), self._edges()
        return [
            Standing(
                consumer,
                edges.get(consumer) or status.process_state(consumer),
                word.version if word else None,
                bool(coming and word and coming.kid in _known(word, ring)),
            )
            for consumer in self._consumers()
            for word in (self._told.get(consumer),)
        ]

    async def run(self) -> None:
        """Do what is due until cancelled. A step that fails is taken again.

        Only the hub that leads does; the others take over what it has made of the rings.
        """
        while True:
            try:
                if self._leads():
                    await self.step()
                else:
                    self.follow()
                pause = LOOK_S
            except Exception:
                log.exception("the rotation of keys could not go on; it is tried again")
                pause = AFTER_FAULT_S
            await asyncio.sleep(pause)

    def follow(self) -> None:
        """Use the rings as they are now, and forget what only who leads must know: it is told anew to who does next.

        Raises:
            ConfigurationError: a file is no ring any more.
            OSError: a file cannot be read.
        """
        for ring in (*self.keys.rings, self.keys.releases):
            ring.follow()
        self._told.clear()
        self._published = ()

    async def step(self) -> None:
        """Do what is due now.

        Raises:
            OSError: a ring or a bundle cannot be written.
            StorageUnavailable: the versions of the bundles cannot be kept.
        """
        self.keys.releases.follow()
        for ring in self.keys.rings:
            # Keys that leaked are gone whether or not a hub runs (`pegboard keys leaked`).
            if ring.follow():
                _log(ring, "followed", ring.kid)
            self._drop(ring, (key.kid for key in ring.retired if self._is_done_with(ring, key)))
        await self._publish()
        settled = time.monotonic() - self._published_at >= SETTLE_S
        for ring in self.keys.rings:
            if ring.next and settled and not any(each.awaited for each in self.standings(ring)):
                before = ring.kid
                signing = ring.promote(self._clock())
                _log(ring, "signs", signing.kid, retired=before)
        await self._publish()

    def _consumers(self) -> Iterator[str]:
        yield EDGE
        yield from self._edges()
        for server in self._registry.current.all_deployed:
            yield str(server.name)

    def _is_done_with(self, ring: Ring, key: RingKey) -> bool:
        """Whether nobody needs a retired key any more.

        A bundle key is needed until every consumer keeps a copy of its bundle that the current key has signed. A
        joined edge that is away gets the keys with its next bundle, whatever it has kept.
        """
        if key in ring.over(self._clock()):
            return True
        away = {consumer for consumer, state in self._edges().items() if state == "down"}
        told = [self._told.get(consumer) for consumer in self._consumers() if consumer not in away]
        return ring is self.keys.bundles and all(word and word.signed_by == ring.kid for word in told)

    def _drop(self, ring: Ring, kids: Iterable[str]) -> None:
        if gone := tuple(kids):
            ring.drop(*gone)
            for kid in gone:
                _log(ring, "removed", kid)

    async def _publish(self) -> None:
        """Write the public halves, and with them every bundle, when the rings are not as they were last time."""
        state = self._state()
        if state != self._published:
            self.keys.publish()
            await self._registry.resign()
            self._published, self._published_at = state, time.monotonic()

    def _state(self) -> tuple[tuple[RingKey, ...], ...]:
        return tuple(ring.keys for ring in (*self.keys.rings, self.keys.releases))

    def _ring(self, purpose: Purpose) -> Ring:
        return next(ring for ring in self.keys.rings if ring.purpose == purpose)


def _known(word: Acknowledgement, ring: Ring) -> tuple[str, ...]:
    return word.token_keys if ring.purpose == "tokens" else word.bundle_keys


def _log(ring: Ring, step: str, kid: str, **more: str) -> None:
    log.info("key rotation", extra={"purpose": ring.purpose, "step": step, "kid": kid, **more})
