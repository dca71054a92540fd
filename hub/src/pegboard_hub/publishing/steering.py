"""What people want of a deployment: to go back, to go on, to hold it, other numbers of replicas, or new ones.

| who | may |
|---|---|
| people of the server's owner team, and operators | all of it |
| whoever holds the operator's credential on the machine | all of it |
| services, and everybody else | nothing |

None of it opens anything: a release that is gone back to was approved, and meets the people it was approved for. So a
token is enough.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from pegboard.core.names import ServerName
from pegboard.core.publishing import State
from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing.bounds import memory_of
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.moving import Met
from pegboard_hub.publishing.refusals import DeploymentRefused
from pegboard_hub.publishing.rollout import DRAIN_S, Deployment, Seen, Stage, back, begin, give_up, hurry
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.record import check_why
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.store import is_approved
from pegboard_hub.registry.visibility import Roles
from pegboard_hub.storage.database import Database

TRIES: Final = 5
"""How often what a person wants is tried, where something else happened meanwhile."""

MOST_REPLICAS: Final = 100

_NAME: Final = re.compile(r"[0-9a-z]{6,64}|[0-9]{1,9}(\.[0-9]{1,9}){2}")
"""A submission's id, how a digest begins, or a version."""

_TRIED: Final = frozenset({State.SUPERSEDED, State.ROLLED_BACK, State.FAILED})

_Act = Callable[[Deployment, Seen], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Who:
    """Who wants something of a deployment.

    Attributes:
        actor: for the history.
        groups: the person's, as they are known now.
        machine: holds the operator's own credential on the machine.
    """

    actor: Actor
    groups: tuple[str, ...] = ()
    machine: bool = False

    @classmethod
    def person(cls, sub: str, groups: Iterable[str]) -> Who:
        """Somebody who is signed in."""
        return cls(Actor(sub), tuple(groups))


MACHINE: Final = Who(Actor("operator", "operator"), machine=True)


class Steering:
    """The one door to deployments for people.

    Args:
        database: has the tables.
        registry: has the servers.
        deployments: makes the moves.
        roles: who operates, as the operator's files say now.
    """

    def __init__(
        self, database: Database, registry: Registry, deployments: Deployments, roles: Callable[[], Roles]
    ) -> None:
        self._database = database
        self._registry = registry
        self._deployments = deployments
        self._roles = roles

    def may(self, who: Who, server: RegisteredServer) -> bool:
        """Whether somebody decides on what runs of a server: its owners, operators, and who is at the machine."""
        return who.machine or self._roles().own(who.groups, server)

    async def rollback(self, who: Who, server: str, why: str, release: str = "") -> None:
        """Go back: a candidate is given up; else the last good release takes the calls, or the one that is named.

        Raises:
            DeploymentRefused: it is not theirs, there is nothing to go back to, or a value cannot be.
            StorageUnavailable: the database takes no writes; nothing was changed.
        """
        why = self._wanted(who, server, why)

        async def act(now: Deployment, seen: Seen) -> None:
            if now.candidate is not None:
                following = give_up(now, seen, "somebody went back")
                await self._deployments.make(now, following, who.actor, why)
                if release:
                    raise Met
                return
            target = await self._back_to(now, release)
            warm = now.stage is Stage.WATCHING and target == now.previous
            if warm and any(each.state in ("ready", "asleep") for each in seen.of(target).replicas):
                await self._deployments.make(now, back(now, seen, why), who.actor)
            else:
                await self._deployments.make(now, begin(now, seen, target, going_back=why), who.actor)

        await self._try(server, act)

    async def promote(self, who: Who, server: str, why: str = "", release: str = "") -> None:
        """Go on without waiting: no more steps, no longer watch; or with a release that was tried before.

        Raises: as `rollback`.
        """
        why = self._wanted(who, server, why or "somebody goes on")

        async def act(now: Deployment, seen: Seen) -> None:
            if release:
                target = await self._named(now, release)
                if now.candidate is not None:
                    raise _not_now("A release is on its way already.", "Roll that back first, or wait for it.")
                await self._deployments.make(now, begin(now, seen, target), who.actor, why)
            elif now.paused:
                await self._go_on(now, seen, who, why)
            elif (following := hurry(now, seen)) is not None:
                await self._deployments.make(now, following, who.actor, why)
            elif now.candidate is not None:
                raise _not_now("Its replicas are not ready yet.", "Wait for them, or roll it back.")
            else:
                raise _not_now("Nothing is on its way.", "Submit a release, or name one that was tried before.")

        await self._try(server, act)

    async def pause(self, who: Who, server: str, why: str = "") -> None:
        """Hold what is going on: nothing new starts, no step is taken, no watch ends. A breach still goes back.

        Raises: as `rollback`.
        """
        why = self._wanted(who, server, why or "somebody holds it")

        async def act(now: Deployment, _seen: Seen) -> None:
            if now.paused:
                raise _not_now(f"It is paused already: {now.paused_why}.", "Resume it, or leave it.")
            after = replace(now, paused=True, paused_why=why)
            await self._deployments.hold(now, after, who.actor, "pause rollout", why)

        await self._try(server, act)

    async def resume(self, who: Who, server: str, why: str = "") -> None:
        """Go on from where it was paused.

        Raises: as `rollback`.
        """
        why = self._wanted(who, server, why or "it goes on")

        async def act(now: Deployment, seen: Seen) -> None:
            if not now.paused:
                raise _not_now("It is not paused.", "There is nothing to resume.")
            await self._go_on(now, seen, who, why)

        await self._try(server, act)

    async def scale(self, who: Who, server: str, why: str, least: int | None, most: int | None) -> None:
        """Have other numbers of replicas than the manifest says; None: what that says.

        Raises: as `rollback`.
        """
        why = self._wanted(who, server, why or "other numbers of replicas")
        for field, value, lowest in (("min", least, 0), ("max", most, 1)):
            if value is not None and not lowest <= value <= MOST_REPLICAS:
                message = f"It is less than {lowest}, or more than {MOST_REPLICAS}."
                raise DeploymentRefused("invalid", field, message, "Choose another number.")
        if least is not None and most is not None and least > most:
            raise DeploymentRefused("invalid", "min", "It is more than max.", "Choose a lower one, or a higher max.")

        async def act(now: Deployment, _seen: Seen) -> None:
            self._check_memory(who, now, max(most or 0, least or 0))
            after = replace(now, replicas_min=least, replicas_max=most)
            fields = {"replicas": (_numbers(now), _numbers(after))}
            await self._deployments.hold(now, after, who.actor, "scale", why, fields)

        await self._try(server, act)

    def _check_memory(self, who: Who, now: Deployment, most: int) -> None:
        """Where nobody reviews what a server asks for, its owners have no more memory than the operator's file says.

        Raises:
            DeploymentRefused: so many replicas could use more together.
        """
        file = self._registry.grants_file
        known = self._deployments.known.get(now.live or now.candidate or "")
        operates = who.machine or self._roles().operate(who.groups)
        if file is None or known is None or operates or not most:
            return
        if ServerName.parse(now.server).namespace not in file.reviews.unreviewed:
            return
        memory, limit = memory_of(known.manifest, most), file.publishing.limits.memory_mb
        if memory > limit:
            message = f"{most} replicas may use {memory:,} MiB together, and {limit:,} is the most."
            mend = "Choose fewer, or ask the operator to raise memory_mb in [publishing.limits] of the grants file."
            raise DeploymentRefused("invalid", "max", message, mend)

    async def restart(self, who: Who, server: str, why: str) -> None:
        """Have its processes started anew, as after a secret changed: each ends once another answers in its place.

        Raises: as `rollback`.
        """
        why = self._wanted(who, server, why or "its processes are started anew")

        async def act(now: Deployment, _seen: Seen) -> None:
            if now.live is None and now.candidate is None:
                raise _not_now("Nothing of it runs.", "Submit a release.")
            await self._deployments.hold(now, replace(now, turn=now.turn + 1), who.actor, "restart", why)

        await self._try(server, act)

    async def _go_on(self, now: Deployment, seen: Seen, who: Who, why: str) -> None:
        until = now.until_ms
        if now.stage is Stage.STARTING and until is not None:
            # Nobody knows how much of its time the pause took.
            until = max(until, seen.now_ms + int(DRAIN_S * 1000))
        after = replace(now, paused=False, paused_why="", until_ms=until)
        await self._deployments.hold(now, after, who.actor, "resume rollout", why)

    def _wanted(self, who: Who, server: str, why: str) -> str:
        """The reason, as it is kept.

        Raises:
            DeploymentRefused: there is no such server for them, its releases are not submitted, or it cannot be one.
        """
        found = self._registry.current.servers.get(server)
        if found is None or not self.may(who, found):
            message = (
                f"What runs of {server[:80]} is for its owners and operators to decide, if there is such a server."
            )
            raise DeploymentRefused("not_yours", "server", message, "Ask one of them.")
        if not found.submitted:
            message = f"{server} is followed from a folder of the operator’s: its releases are not submitted."
            raise DeploymentRefused("not_now", "server", message, "Change what is in the folder.")
        if found.lifecycle is Lifecycle.RETIRED:
            message = f"{server} is retired: nothing of it runs."
            raise DeploymentRefused("not_now", "server", message, "Bring it back first, on its page.")
        try:
            return check_why(why)
        except ChangeRefused as error:
            raise DeploymentRefused("invalid", "why", f"{error.fault}.".capitalize(), error.mend) from error

    async def _try(self, server: str, act: _Act) -> None:
        """Do what a person wants, and again with what is so by then where something else happened meanwhile."""
        for _ in range(TRIES):
            now, seen = await self._deployments.see(server)
            try:
                await act(now, seen)
            except Met:
                continue
            return
        raise _not_now("It changes all the time.", "Look at it again, and try once more.")

    async def _back_to(self, now: Deployment, release: str) -> str:
        if release:
            return await self._named(now, release)
        async with self._database.read() as connection:
            found = now.previous or await store.last_good(connection, now.server, [now.live] if now.live else [])
            if found is None:
                mend = "Stop the server, or submit a release that is mended."
                raise _not_now("There is no release to go back to.", mend)
            await self._deployments.learn(connection, [found])
        return found

    async def _named(self, now: Deployment, release: str) -> str:
        """The submission that somebody names by its id, its release's version, or how its digest begins."""
        unknown = DeploymentRefused(
            "unknown", "release", f"{now.server} has no approved release of that name.", "Look at its releases."
        )
        if not _NAME.fullmatch(release):
            raise unknown
        async with self._database.read() as connection:
            rows = [row for row in await store.named(connection, now.server, release) if row.release is not None]
            if len({row.release for row in rows}) > 1:
                message = "Several releases begin like that."
                raise DeploymentRefused("invalid", "release", message, "Write more of its digest.")
            if not rows or not await is_approved(connection, now.server, rows[0].release):
                raise unknown
            tried = [row.id for row in rows if row.state in _TRIED]
            if not tried:
                mend = "Name one that was live, failed, or was rolled back."
                raise _not_now(f"That release is {rows[0].state}.", mend)
            await self._deployments.learn(connection, tried[:1])
            if not await artifacts.kept(connection, tried[0]):
                raise _not_now("Its files are not kept any more.", "Submit its source again.")
        return str(tried[0])


def _not_now(message: str, mend: str) -> DeploymentRefused:
    return DeploymentRefused("not_now", "deployment", message, mend)


def _numbers(of: Deployment) -> str:
    return f"min {_number(of.replicas_min)}, max {_number(of.replicas_max)}"


def _number(value: int | None) -> str:
    return "as declared" if value is None else str(value)
