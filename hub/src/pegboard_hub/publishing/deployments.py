"""Deployments: what was decided in `rollout` is done here, step by step, each of them one transaction.

The leading hub looks again and again at what is approved, what runs and what the ledger counts, and makes the next
move of each server. It remembers nothing between two looks that the tables do not have: whoever comes to lead after a
hub that was killed goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.manifest import Rollout
from pegboard.core.publishing import State
from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing import watching
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.orders import Desired, Observed, ReplicaState, Role
from pegboard_hub.publishing.placing import desired, desired_server, endpoints, scale
from pegboard_hub.publishing.rollout import (
    FRESH_S,
    NOTHING,
    Deployment,
    Move,
    Next,
    Running,
    Seen,
    Stage,
    next_move,
)
from pegboard_hub.publishing.transitions import move, tell
from pegboard_hub.publishing.watching import Compared
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.history import PEGBOARD, Actor, Fields
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import Health
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import DEPLOYMENT_MOVES, DEPLOYMENTS, REPLICAS

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""Seconds between two looks where nothing happens; what does is looked at at once."""

COUNT_S: Final = 2.0
"""Seconds between two counts of one watch window."""

KEEP_S: Final = 5.0
"""Seconds after which what a runtime said is kept although nothing in it is new."""

MOST_MOVES: Final = 8
"""Of one server in one look: more of them in a row are none that somebody meant."""

Serve = Callable[[Changing, Deployable, Actor, str, str], Awaitable[RegisteredServer]]
"""Makes a release what callers are served with, in a transaction: (…, actor, action, why)."""

Egress = Callable[[Deployable], tuple[str, ...]]


class Met(Exception):
    """Something else changed it first."""


@dataclass(frozen=True)
class Standing:
    """One deployment as people look at it.

    Attributes:
        known: its releases by submission.
        running: what runs, by submission.
        compared: of the watch window; None where nobody watches.
        calls_per_minute: of the server lately.
    """

    deployment: Deployment
    known: Mapping[str, Deployable]
    running: Mapping[str, Running]
    compared: Compared | None
    calls_per_minute: float


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
        self._seen: dict[tuple[str, str], Running] = {}
        self._of_runtime: dict[str, Observed] = {}
        self._kept_at_ms: dict[str, int] = {}
        self._heard_at_ms: dict[str, int] = {}
        self._counted: dict[str, tuple[int, Compared]] = {}
        self._desired: Desired | None = None
        self._heard = 0
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
        now = self._now_ms()
        before = self._of_runtime.get(observed.runtime)
        for each in before.releases if before else ():
            self._seen.pop((each.server, each.release), None)
        if before is None:
            # What the tables have of before a restart is this runtime's to say anew.
            self._seen = {key: running for key, running in self._seen.items() if running.step != _KEPT}
        for each in observed.releases:
            self._seen[each.server, each.release] = Running(each.replicas, now, each.step, each.trouble)
        self._of_runtime[observed.runtime] = observed
        silent = now - self._heard_at_ms.get(observed.runtime, 0) > FRESH_S * 1000
        self._heard_at_ms[observed.runtime] = now
        changed = before is None or silent or _shape(before) != _shape(observed)
        if changed:
            self._heard += 1
            self._wake.set()
        if changed or now - self._kept_at_ms.get(observed.runtime, 0) >= KEEP_S * 1000:
            async with self._database.write() as connection:
                await store.save_observed(connection, observed, now)
            self._kept_at_ms[observed.runtime] = now

    # -- moves ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin with what the tables say from last time."""
        async with self._database.read() as connection:
            kept = await store.load_running(connection)
        self._seen = {key: replace(running, step=_KEPT) for key, running in kept.items()}
        self._of_runtime.clear()
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
        led = False
        while True:
            try:
                leads = self._leads()
                if leads and not led:
                    await self.start()
                if leads:
                    await self.look()
                else:
                    await self._stand_by()
                led = leads
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
            self._seen = await store.load_running(connection)
        self._judge(found)

    async def look(self) -> None:
        """Make every move that is due now, and tell edges and runtimes what follows."""
        async with self._database.read() as connection:
            found = await store.load(connection)
            waiting = await store.approved(connection)
            await self.learn(connection, [*_submissions(found.values()), *(ids[0] for ids in waiting.values())])
        busy = {name for name, each in found.items() if each.stage is not Stage.SETTLED or each.leaving}
        for server in sorted(busy | waiting.keys()):
            try:
                await self._advance(server)
            except Exception:
                log.exception("a deployment could not be moved, and is tried again", extra={"server": server})
        async with self._database.read() as connection:
            found = await store.load(connection)
            await self.learn(connection, _submissions(found.values()))
        if self._is_as_it_was(found):
            return
        await self._place(found)
        self._tell_runtimes(found)
        self._judge(found)
        self._show(found)
        self.under_way = {name: words for name, each in found.items() if (words := under_way(each))}

    def _is_as_it_was(self, found: Mapping[str, Deployment]) -> bool:
        """Whether nothing follows from this look that did not from the last: of many servers that is much to tell."""
        at = self._now_ms()
        calm = all(each.stage is Stage.SETTLED and not each.leaving for each in found.values())
        so = (calm, self._heard, self._registry.current, {name: each.version for name, each in found.items()})
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
            _check(await store.change(changing.connection, now, after, changing.now_ms))
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
            following = next_move(now, seen)
            if following is None:
                return
            with suppress(Met):
                await self.make(now, following, PEGBOARD)

    async def _see(self, connection: AsyncConnection, now: Deployment) -> Seen:
        waiting = (await store.approved(connection)).get(now.server, [])
        newest = next((id_ for id_ in waiting if id_ != now.candidate), None)
        await self.learn(connection, [*_submissions([now]), *([newest] if newest else [])])
        server = self._registry.current.servers.get(now.server)
        at = self._now_ms()
        subject = self.known.get(now.candidate or now.live or "")
        rollout = subject.manifest.rollout if subject else Rollout()
        compared = await self._compare(connection, now, rollout)
        busy = 0.0
        if now.stage in (Stage.STARTING, Stage.STEPPING) and rollout.steps:
            busy = await watching.calls_per_minute(connection, now.server, at)
        return Seen(
            now_ms=at,
            approved=newest if newest in self.known else None,
            retired=server is None or server.lifecycle is Lifecycle.RETIRED,
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

    async def _compare(self, connection: AsyncConnection, now: Deployment, rollout: Rollout) -> Compared | None:
        """How the newer release does beside the older one, counted now and then."""
        newer, older = (now.candidate, now.live) if now.stage is Stage.STEPPING else (now.live, now.previous)
        if now.stage not in (Stage.STEPPING, Stage.WATCHING):
            self._counted.pop(now.server, None)
            return None
        after, before = self.known.get(newer or ""), self.known.get(older or "")
        if after is None or before is None:
            return None
        at = self._now_ms()
        counted_at, compared = self._counted.get(now.server, (0, None))
        if compared is not None and counted_at >= now.updated_at_ms and at - counted_at < COUNT_S * 1000:
            return compared
        since = now.since_ms
        until = at + 1 if now.stage is Stage.STEPPING else since
        compared = watching.compare(
            await watching.figures(connection, now.server, after.release, since, at + 1, at),
            await watching.figures(connection, now.server, before.release, since - watching.BEFORE_MS, until, at),
            rollout,
        )
        self._counted[now.server] = (at, compared)
        return compared

    async def make(self, now: Deployment, following: Next, actor: Actor, why: str = "") -> None:
        """Make a move: what is known of it in all tables, in one transaction.

        Raises:
            Met: something else changed it first; nothing was written.
        """
        async with self._registry.changing() as changing:
            after = following.after
            if following.move is Move.BACK and after.previous is None:
                besides = [each for each in (after.live, now.live) if each]
                after = replace(after, previous=await store.last_good(changing.connection, now.server, besides))
            if following.move is Move.SWITCH and after.previous is None and now.live is not None:
                besides = [each for each in (after.live, now.live) if each]
                after = replace(after, previous=await store.last_good(changing.connection, now.server, besides))
            _check(await store.change(changing.connection, now, after, changing.now_ms))
            await self._write(changing, now, replace(following, after=after), actor, why)
            server = changing.server(now.server)
            placed = endpoints(after, self.known, self.running(after), server.endpoints, changing.now_ms)
            await changing.place(now.server, placed)
        facts = {"server": now.server, "move": following.move.value, "what": following.what, "sub": actor.sub}
        log.info("deployment moved", extra=facts)
        self._meter.count(DEPLOYMENT_MOVES, following.move.value)
        self._moved(_submissions([now, after]))
        self._wake.set()

    async def _write(self, changing: Changing, now: Deployment, following: Next, actor: Actor, why: str) -> None:
        connection, at, after = changing.connection, changing.now_ms, following.after
        by = "" if actor == PEGBOARD else actor.sub
        what = "; ".join(filter(None, [following.what, why]))
        match following.move:
            case Move.BEGIN:
                begun = _some(after.candidate)
                before = (State.APPROVED, State.SUPERSEDED, State.ROLLED_BACK, State.FAILED)
                _check(
                    await move(
                        connection, begun, before, State.DEPLOYING, "starting", at, what=what, who=by, trouble=None
                    )
                )
                await self._pass_over(connection, now.server, begun, at)
            case Move.STEP:
                step = f"{after.percent} percent"
                _check(await tell(connection, _some(after.candidate), State.DEPLOYING, step, at, what=what, who=by))
            case Move.SWITCH:
                await self._write_switch(changing, now, following, actor, what)
            case Move.SETTLE:
                _check(await tell(connection, _some(after.live), State.LIVE, "live", at, what=what, who=by))
            case Move.FAIL:
                trouble = following.trouble.model_dump(mode="json") if following.trouble else None
                lost = _some(now.candidate)
                _check(
                    await move(
                        connection, lost, State.DEPLOYING, State.FAILED, "failed", at, what=what, trouble=trouble
                    )
                )
                await changing.note(now.server, actor, "deployment failed", following.what)
            case Move.GIVE_UP:
                to = State.SUPERSEDED if actor == PEGBOARD else State.ROLLED_BACK
                lost = _some(now.candidate)
                _check(await move(connection, lost, State.DEPLOYING, to, to.value, at, what=what, who=by))
                if actor != PEGBOARD:
                    await changing.note(now.server, actor, "roll back", why)
            case Move.BACK:
                await self._write_back(changing, now, following, actor, what)
            case Move.LET_GO:
                pass

    async def _write_switch(
        self, changing: Changing, now: Deployment, following: Next, actor: Actor, what: str
    ) -> None:
        connection, at, after = changing.connection, changing.now_ms, following.after
        by = "" if actor == PEGBOARD else actor.sub
        live = _some(after.live)
        step = "watching" if after.stage is Stage.WATCHING else "live"
        said = what or _said_of(after)
        _check(await move(connection, live, State.DEPLOYING, State.LIVE, step, at, what=said, who=by, trouble=None))
        if now.live is not None:
            to = State.ROLLED_BACK if now.going_back else State.SUPERSEDED
            told = now.going_back or f"{self.known[live].release[:12]} took its place"
            _check(await move(connection, now.live, State.LIVE, to, to.value, at, what=told, who=by))
        action, why = ("roll back", now.going_back) if now.going_back else ("deploy", what or "an approved release")
        await self._serve(changing, self.known[live], actor, action, why)

    async def _write_back(
        self, changing: Changing, now: Deployment, following: Next, actor: Actor, what: str
    ) -> None:
        connection, at, live = changing.connection, changing.now_ms, _some(following.after.live)
        by = "" if actor == PEGBOARD else actor.sub
        left = _some(now.live)
        trouble = {"step": "watching", "what": following.what, "mend": "Mend it, and submit it again."}
        _check(
            await move(
                connection,
                left,
                State.LIVE,
                State.ROLLED_BACK,
                State.ROLLED_BACK.value,
                at,
                what=what,
                who=by,
                trouble=trouble,
            )
        )
        again = f"{self.known[left].release[:12]} was rolled back: {what}"
        _check(await move(connection, live, State.SUPERSEDED, State.DEPLOYING, "back", at, what=again, who=by))
        _check(await move(connection, live, State.DEPLOYING, State.LIVE, "live", at, what="live again", trouble=None))
        await self._serve(changing, self.known[live], actor, "roll back", what)

    async def _pass_over(self, connection: AsyncConnection, server: str, begun: str, at: int) -> None:
        """Older releases that were approved and not deployed yet are not any more."""
        newest = self.known[begun].created_at_ms
        waiting = (await store.approved(connection)).get(server, [])
        known = await store.deployables(connection, waiting)
        for id_ in waiting:
            if id_ not in known or known[id_].created_at_ms <= newest:
                told = f"{self.known[begun].release[:12]} is newer, and goes on its way"
                await move(connection, id_, State.APPROVED, State.SUPERSEDED, State.SUPERSEDED.value, at, what=told)

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
            subject = self.known.get(now.candidate or now.live or "")
            rollout = subject.manifest.rollout if subject else Rollout()
            compared = await self._compare(connection, now, rollout)
            busy = await watching.calls_per_minute(connection, server, self._now_ms())
            running = self.running(now)
            if not self._leads():
                kept = await store.load_running(connection, server)
                running = {id_: kept.get((server, self.known[id_].release), NOTHING) for id_ in running}
        known = {id_: self.known[id_] for id_ in _submissions([now]) if id_ in self.known}
        return Standing(now, known, running, compared, busy)

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

    def running(self, now: Deployment) -> dict[str, Running]:
        """What runs of a deployment, by submission."""
        return {
            id_: self._seen.get((now.server, self.known[id_].release), NOTHING)
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
        states = Counter(each.state for running in self._seen.values() for each in running.replicas)
        for state in get_args(ReplicaState):
            self._meter.set(REPLICAS, states[state], state)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


SILENT_RUNTIME: Final = "its runtime does not report"
FAILING: Final = "its replicas end, or do not answer; those who look after it see why on its page"

_KEPT: Final = "kept"
"""Step of what is known from before a restart."""


def under_way(now: Deployment) -> str:
    """What is on its way of a server, in words that follow its name; empty: nothing."""
    if now.paused:
        return f"is held where it is: {now.paused_why}"
    match now.stage:
        case Stage.STARTING if now.going_back:
            return f"goes back to the last release: {now.going_back}"
        case Stage.STARTING:
            return "has a release that comes up"
        case Stage.STEPPING:
            return f"has a release that {now.percent} percent of the callers meet"
        case Stage.WATCHING:
            return "has a new release that is watched"
        case Stage.SETTLED:
            return ""


def health_of(now: Deployment, running: Mapping[str, Running], now_ms: int) -> Health:
    """How a server does, in words that anybody may read."""
    if now.live is None:
        return Health("preparing" if now.candidate else "not deployed")
    found = running.get(now.live, NOTHING)
    states = {each.state for each in found.replicas}
    since = min((each.started_at_ms for each in found.replicas if each.started_at_ms), default=now.since_ms)
    if now_ms - found.heard_at_ms > FRESH_S * 1000:
        return Health("unknown", found.heard_at_ms or None, SILENT_RUNTIME)
    if states & {"ready", "asleep"}:
        return Health("live", since, "", found.heard_at_ms)
    if "failing" in states or found.trouble is not None:
        return Health("down", since, FAILING, found.heard_at_ms)
    return Health("starting", since, "", found.heard_at_ms)


def _submissions(found: Iterable[Deployment]) -> list[str]:
    """Every submission that deployments name."""
    return [
        id_ for each in found for id_ in (each.live, each.candidate, each.previous, each.leaving) if id_ is not None
    ]


def _shape(observed: Observed) -> list[tuple[object, ...]]:
    """What of a runtime's word is news: all but figures that move by themselves."""
    return [
        (
            each.server,
            each.release,
            each.step,
            each.trouble,
            [(r.id, r.address, r.state, r.restarts, r.last_failure) for r in each.replicas],
        )
        for each in observed.releases
    ]


def _some(submission: str | None) -> str:
    assert submission is not None  # noqa: S101 - the move would not have been decided
    return submission


def _check(moved: bool) -> None:
    if not moved:
        raise Met


def _said_of(after: Deployment) -> str:
    if after.stage is not Stage.WATCHING or after.until_ms is None:
        return "it takes all calls"
    minutes = (after.until_ms - after.since_ms) / 60_000
    return f"it takes all calls, and is watched for {minutes:.3g} minutes"
