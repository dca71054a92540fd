"""Deployments: what was decided in `rollout` is done here, step by step, each of them one transaction.

The leading hub looks again and again at what is approved, what runs (`heard`) and what is counted (`counting`),
and makes the next move of each server (`moving`). It remembers nothing between two looks that the tables do not have:
whoever comes to lead after a hub that was killed goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.manifest import Rollout
from pegboard.core.publishing import State, Trouble
from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing import watching
from pegboard_hub.publishing.counting import Counting
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.heard import KEEP_S, Heard
from pegboard_hub.publishing.leaving import leave
from pegboard_hub.publishing.moving import Making, Met, Serve, check, write
from pegboard_hub.publishing.orders import Desired, Observed, ReplicaState, Role
from pegboard_hub.publishing.placing import Egress, desired, desired_server, endpoints, scale
from pegboard_hub.publishing.rollout import NOTHING, Deployment, Move, Next, Running, Seen, Stage, fail, next_move
from pegboard_hub.publishing.standing import Standing, health_of, under_way
from pegboard_hub.publishing.transitions import tell
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.history import PEGBOARD, Actor, Fields
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import Health
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import DEPLOYMENT_MOVES, DEPLOYMENTS, REPLICAS

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""Seconds between two looks where nothing happens; what does is looked at at once."""

MOST_TRIES: Final = 20
"""How often a move may fail in a row, for a fault of the hub's own, before its candidate is given up."""

SAID_EVERY: Final = 100
"""Of so many failures in a row one is logged: they come twice a second."""

_CANNOT: Final = Trouble(
    step="deploying",
    what="The hub could not bring it on its way.",
    mend="Tell the platform team the submission's id: the hub's log says why. What was live goes on.",
)

SPARE: Final = 100
"""Releases that are known although no deployment names them: each has all that its code declares."""

MOST_MOVES: Final = 8
"""Of one server in one look: more of them in a row are none that somebody meant."""


class Deployments:
    """Everything that is done about what runs.

    Attributes:
        known: releases by submission; of one that is not there it is not known yet whether it can run.
        healths: how each submitted server does, as its runtimes say.
        under_way: what is on its way, in words, by server; of the hub that leads alone.

    Args:
        database: has the tables.
        registry: has the servers, and tells the edges.
        leads: whether this hub is the one that makes the moves.
        clock: seconds since the epoch.
        serve: makes a release what callers are served with.
        egress: what is granted of the outside world to a release.
        moved: told of the submissions to which something happened, once it is kept.
        meter: counts moves.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        *,
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        serve: Serve,
        egress: Egress,
        moved: Callable[[Collection[str]], None] = lambda _moved: None,
        meter: HubMeter | None = None,
    ) -> None:
        self._database = database
        self._registry = registry
        self._leads = leads
        self._clock = clock
        self._serve = serve
        self._egress = egress
        self._moved = moved
        self._meter = meter or HubMeter()
        self.known: dict[str, Deployable] = {}
        self._heard = Heard(database)
        self._failed: Counter[str] = Counter()
        self._counting = Counting()
        self._desired: Desired | None = None
        self._so: tuple[object, ...] = ()
        self._told_at_ms = 0
        self.healths: Mapping[str, Health] = {}
        self.under_way: Mapping[str, str] = {}
        self._told = asyncio.Event()
        self._wake = asyncio.Event()

    # -- what runtimes ask and tell ---------------------------------------------------------------------------------

    async def desired(self, version: str, wait_s: float) -> Desired | None:
        """What should run, as soon as it is another than `version`; after `wait_s` seconds as it is.

        Returns:
            None where this hub does not know yet: nobody may take that for nothing.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._desired is None or self._desired.version == version:
                    await self._told.wait()
        return self._desired

    async def observe(self, observed: Observed) -> None:
        """Take what a runtime sees.

        Raises:
            StorageUnavailable: the database takes no writes; it counts all the same, until the next word.
        """
        if await self._heard.take(observed, self._now_ms()):
            self._wake.set()

    # -- moves ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin with what the tables say from last time."""
        async with self._database.read() as connection:
            await self._heard.begin(connection)
        self._so = ()

    def forget(self) -> None:
        """Read releases anew: they were signed again."""
        self.known, self._so = {}, ()
        self.wake()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    async def keep(self) -> None:
        """Make the moves that are due, until cancelled. What fails is logged and tried again."""
        led = away = False
        while True:
            try:
                leads = self._leads()
                if leads and not led:
                    await self.start()
                if leads:
                    await self.look()
                else:
                    await self._stand_by()
                led, away = leads, False
            except StorageUnavailable as error:
                if not away:
                    log.warning("deployments wait for the database: %s", error)
                away = True
            except Exception:
                log.exception("deployments could not be looked at, and are again")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _stand_by(self) -> None:
        """Know how servers do; what should run is the other hub's to say."""
        self._desired = None
        async with self._database.read() as connection:
            found = await store.load(connection)
            await self.learn(connection, _submissions(found.values()))
            await self._heard.follow(connection)
        self._let_go_of_others(found)
        self._judge(found)

    async def look(self) -> None:
        """Make every move that is due now, and tell edges and runtimes what follows."""
        async with self._database.read() as connection:
            found = await store.load(connection)
            waiting = await store.approved(connection)
            await self.learn(connection, [*_submissions(found.values()), *(ids[0] for ids in waiting.values())])
        busy = {name for name, each in found.items() if each.stage is not Stage.SETTLED or each.leaving}
        busy |= waiting.keys() | self._left_pipeline(found)
        for server in sorted(busy):
            try:
                await self._advance(server)
                self._failed.pop(server, None)
            except StorageUnavailable:
                raise
            except Exception:
                if self._failed[server] % SAID_EVERY == 0:
                    log.exception("a deployment could not be moved, and is tried again", extra={"server": server})
                self._failed[server] += 1
        if busy:
            async with self._database.read() as connection:
                found = await store.load(connection)
                await self.learn(connection, _submissions(found.values()))
        self._let_go_of_others(found)
        if self._is_as_it_was(found):
            return
        await self._place(found)
        self._tell_runtimes(found)
        self._judge(found)
        self._show(found)
        self.under_way = {name: words for name, each in found.items() if (words := under_way(each))}

    def _left_pipeline(self, found: Mapping[str, Deployment]) -> set[str]:
        """Servers that are followed from a folder, and of which something is still taken for live."""
        servers = self._registry.current.servers
        return {
            name
            for name, each in found.items()
            if (each.live or each.candidate) and name in servers and not servers[name].submitted
        }

    def _is_as_it_was(self, found: Mapping[str, Deployment]) -> bool:
        """Whether nothing follows from this look that did not from the last: of many servers that is much to tell."""
        at = self._now_ms()
        calm = all(each.stage is Stage.SETTLED and not each.leaving for each in found.values())
        so = (calm, self._heard.news, self._registry.current, {name: each.version for name, each in found.items()})
        # What nobody says any more grows old, and is told so.
        same = calm and so == self._so and at - self._told_at_ms < KEEP_S * 1000 and self._desired is not None
        if not same:
            self._so, self._told_at_ms = so, at
        return same

    async def hold(
        self, now: Deployment, after: Deployment, actor: Actor, action: str, why: str, fields: Fields | None = None
    ) -> None:
        """Write what is no move, and note it in the server's history.

        Raises:
            Met: something else changed it first; nothing was written.
        """
        async with self._registry.changing() as changing:
            check(await store.change(changing.connection, now, after, changing.now_ms))
            await changing.note(now.server, actor, action, why, fields or {})
            subject = now.candidate or (now.live if now.stage is Stage.WATCHING else None)
            if subject is not None and after.paused != now.paused:
                state = State.DEPLOYING if now.candidate else State.LIVE
                step = "paused" if after.paused else now.stage.value
                await tell(changing.connection, subject, state, step, changing.now_ms, what=why, who=actor.sub)
        self._moved(_submissions([after]))
        self.wake()

    async def _advance(self, server: str) -> None:
        for _ in range(MOST_MOVES):
            async with self._database.read() as connection:
                now = await store.find(connection, server)
                seen = await self._see(connection, now)
            if not seen.submitted and (now.live or now.candidate):
                async with self._registry.changing() as changing:
                    await leave(changing, changing.server(server))
                continue
            following = fail(now, seen, _CANNOT) if self._stuck(now) else next_move(now, seen)
            if following is None:
                return
            with suppress(Met):
                await self.make(now, following, PEGBOARD)

    def _stuck(self, now: Deployment) -> bool:
        """Whether the next move of a candidate failed so often that it is not tried any more."""
        return now.candidate is not None and self._failed[now.server] >= MOST_TRIES

    async def _see(self, connection: AsyncConnection, now: Deployment) -> Seen:
        waiting = (await store.approved(connection)).get(now.server, [])
        newest = next((id_ for id_ in waiting if id_ != now.candidate), None)
        await self.learn(connection, [*_submissions([now]), *([newest] if newest else [])])
        server = self._registry.current.servers.get(now.server)
        at = self._now_ms()
        subject = self.known.get(now.candidate or now.live or "")
        rollout = subject.manifest.rollout if subject else Rollout()
        compared = await self._counting.compare(connection, now, self.known, rollout, at)
        busy = 0.0
        if now.stage in (Stage.STARTING, Stage.STEPPING) and rollout.steps:
            busy = await watching.calls_per_minute(connection, now.server, at)
        return Seen(
            now_ms=at,
            approved=newest if newest in self.known else None,
            retired=server is None or server.lifecycle is Lifecycle.RETIRED,
            submitted=server is None or server.submitted,
            needed=self._needed(now, at),
            running=self.running(now),
            rollout=rollout,
            worse=compared.worse if compared else "",
            calls_per_minute=busy,
        )

    def _needed(self, now: Deployment, at: int) -> int:
        candidate = self.known.get(now.candidate or "")
        if candidate is None:
            return 1
        live_ready = self.running(now).get(now.live or "", NOTHING).ready(at)
        return scale(now, candidate.manifest.replicas, Role.CANDIDATE, live_ready).min

    async def make(self, now: Deployment, following: Next, actor: Actor, why: str = "") -> None:
        """Make a move: what is known of it in all tables, in one transaction.

        Raises:
            Met: something else changed it first; nothing was written.
        """
        async with self._registry.changing() as changing:
            after = await self._with_way_back(changing, now, following)
            await self.learn(changing.connection, _submissions([now, after]))
            check(await store.change(changing.connection, now, after, changing.now_ms))
            made = replace(following, after=after)
            await write(Making(changing, now, made, actor, why, self.known, self._serve))
            server = changing.server(now.server)
            placed = endpoints(after, self.known, self.running(after), server.endpoints, changing.now_ms)
            await changing.place(now.server, placed)
        facts = {"server": now.server, "move": following.move.value, "what": following.what, "sub": actor.sub}
        log.info("deployment moved", extra=facts)
        self._meter.count(DEPLOYMENT_MOVES, following.move.value)
        self._moved(_submissions([now, after]))
        self._wake.set()

    async def _with_way_back(self, changing: Changing, now: Deployment, following: Next) -> Deployment:
        """The deployment after a move, with the last good release where the move itself knows none."""
        after = following.after
        looks = following.move is Move.BACK or (following.move is Move.SWITCH and now.live is not None)
        if not looks or after.previous is not None:
            return after
        besides = [each for each in (after.live, now.live) if each]
        return replace(after, previous=await store.last_good(changing.connection, now.server, besides))

    # -- what follows -----------------------------------------------------------------------------------------------

    async def _place(self, found: Mapping[str, Deployment]) -> None:
        at, servers = self._now_ms(), self._registry.current.servers
        wanted = {
            name: endpoints(each, self.known, self.running(each), servers[name].endpoints, at)
            if servers[name].lifecycle is not Lifecycle.RETIRED
            else ()
            for name, each in found.items()
            if name in servers
        }
        moved = {name: told for name, told in wanted.items() if servers[name].endpoints != told}
        if not moved:
            return
        async with self._registry.changing() as changing:
            for name, told in moved.items():
                # Of one that was moved since, the next look says where it is.
                if (await store.find(changing.connection, name)).version == found[name].version:
                    await changing.place(name, told)

    def _tell_runtimes(self, found: Mapping[str, Deployment]) -> None:
        at, servers = self._now_ms(), self._registry.current.servers
        told = {}
        for name, each in found.items():
            if name in servers and servers[name].lifecycle is not Lifecycle.RETIRED:
                server = desired_server(each, self.known, self.running(each), self._egress, at)
                if server is not None:
                    told[name] = server
        fresh = desired(told)
        if self._desired is None or self._desired.version != fresh.version:
            self._desired = fresh
            self._told.set()
            self._told = asyncio.Event()

    # -- looking at one ---------------------------------------------------------------------------------------------

    async def standing(self, server: str) -> Standing:
        """A server's deployment as it is."""
        async with self._database.read() as connection:
            now = await store.find(connection, server)
            await self.learn(connection, _submissions([now]))
            known = {id_: self.known[id_] for id_ in _submissions([now]) if id_ in self.known}
            subject = known.get(now.candidate or now.live or "")
            rollout = subject.manifest.rollout if subject else Rollout()
            at = self._now_ms()
            compared = await self._counting.compare(connection, now, known, rollout, at)
            busy = await watching.calls_per_minute(connection, server, at)
            running = {id_: self._heard.of(server, each.release) for id_, each in known.items()}
            if not self._leads():
                kept = await store.load_running(connection, server)
                running = {id_: kept.get((server, each.release), NOTHING) for id_, each in known.items()}
        return Standing(now, known, running, compared, busy)

    @property
    def notes(self) -> dict[str, list[str]]:
        """What runtimes note of what runs, for operators, by server; as this hub heard it."""
        return self._heard.notes()

    async def see(self, server: str) -> tuple[Deployment, Seen]:
        """A deployment, and what a decision about it is made from."""
        async with self._database.read() as connection:
            now = await store.find(connection, server)
            return now, await self._see(connection, now)

    # -- what is known ----------------------------------------------------------------------------------------------

    async def learn(self, connection: AsyncConnection, ids: Iterable[str]) -> None:
        """Know these submissions, as far as they can run: they never change again."""
        if missing := {id_ for id_ in ids if id_ not in self.known}:
            self.known |= await store.deployables(connection, missing)

    def _let_go_of_others(self, found: Mapping[str, Deployment]) -> None:
        """Forget what no deployment names any more; it is read again where somebody wants to go back to it."""
        named = set(_submissions(found.values()))
        if len(self.known) > 2 * len(named) + SPARE:
            self.known = {id_: each for id_, each in self.known.items() if id_ in named}

    def running(self, now: Deployment) -> dict[str, Running]:
        """What runs of a deployment, by submission."""
        return {
            id_: self._heard.of(now.server, self.known[id_].release)
            for id_ in _submissions([now])
            if id_ in self.known
        }

    def _judge(self, found: Mapping[str, Deployment]) -> None:
        at = self._now_ms()
        healths = {name: health_of(each, self.running(each), at) for name, each in found.items()}
        if healths != self.healths:
            self.healths = healths

    def _show(self, found: Mapping[str, Deployment]) -> None:
        stages = Counter(each.stage for each in found.values())
        for stage in Stage:
            self._meter.set(DEPLOYMENTS, stages[stage], stage.value)
        states = self._heard.states()
        for state in get_args(ReplicaState):
            self._meter.set(REPLICAS, states[state], state)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _submissions(found: Iterable[Deployment]) -> list[str]:
    """Every submission that deployments name."""
    return [
        id_ for each in found for id_ in (each.live, each.candidate, each.previous, each.leaving) if id_ is not None
    ]
