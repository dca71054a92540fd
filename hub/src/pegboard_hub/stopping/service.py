"""Stopping and resuming: one door for the page, the API and the operator's command.

| kind | who stops and resumes it | where it stands |
|---|---|---|
| tool, server | operators, security, and the owners of the server: their own stops | the registry's table `stops` |
| surface, person, client, service | operators and security | `stop_orders`, and so in every bundle |

To stop only ever takes away, so a token is enough for it. To resume widens access: the doors see to it that a person
at a browser, or somebody at the machine, does it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, get_args

from pegboard.core.names import SURFACES, TOOL_PATTERN
from pegboard.core.spiffe import SCHEME, is_spiffe_id
from pegboard.core.stops import StopKind, stop_reason
from pegboard_hub.identity.clients.service import Clients
from pegboard_hub.identity.sessions.service import Sessions
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.history import GRANTS_FILE, PEGBOARD, RESUME, STOP, Actor
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import SECURITY, Roles
from pegboard_hub.stopping import store
from pegboard_hub.stopping.callers import CallerStops
from pegboard_hub.stopping.errors import StopRefused
from pegboard_hub.stopping.model import NAME_LENGTH, Event, Role, Stop
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

ENDS_EVERY_S = 1.0
"""How often stops are looked for whose end has come, in seconds."""

LONGEST_MS = 366 * 24 * 3600 * 1000
"""A stop ends by itself within a year, or never."""

MOST_EVENTS = 200
MOST_SESSIONS = 50

LONGEST_NAME = 512
"""Characters of a name, but of a service's: a client's id is the longest."""

_SERVER = re.compile(r"[^/]+/[^/]+")
_TOOL = re.compile(rf"([^/]+/[^/]+)/({TOOL_PATTERN})")


@dataclass(frozen=True, slots=True)
class Who:
    """Who wants something stopped or resumed.

    Attributes:
        actor: for the history.
        groups: the person's, as they are known now.
    """

    actor: Actor
    groups: tuple[str, ...] = ()

    @classmethod
    def person(cls, sub: str, groups: Iterable[str]) -> Who:
        """Somebody who is signed in."""
        return cls(Actor(sub), tuple(groups))


MACHINE: Final = Who(Actor("operator", "operator"))
"""Whoever holds the operator's own credential on the machine: it works when the login is down, and when every
operator is stopped."""


class Stopping:
    """Everything that is done about stops.

    Args:
        database: has the tables.
        registry: of servers and tools.
        callers: the stops of callers that are in force.
        clients: who is known as what.
        sessions: of people, for their ids.
        roles: who operates, as the operator's files say now.
        leads: whether this hub is the one that ends what has come to its end.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        callers: CallerStops,
        clients: Clients,
        sessions: Sessions,
        roles: Callable[[], Roles],
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._registry = registry
        self._callers = callers
        self._clients = clients
        self._sessions = sessions
        self._roles = roles
        self._leads = leads
        self._clock = clock

    def governs(self, who: Who) -> bool:
        """Whether somebody stops and resumes everything: at the machine, an operator, or one of security."""
        return who == MACHINE or self._roles().operate(who.groups) or SECURITY in who.groups

    async def stop(self, who: Who, kind: str, name: str, why: str, until_ms: int | None = None) -> Stop:
        """Stop something for everybody. What is stopped already has this reason and end from now on.

        Args:
            who: wants it.
            kind: one of `core.stops.STOP_KINDS`.
            name: what, as `Stop.name`; of a person also the e-mail address, of a client also an id.
            why: what callers are told.
            until_ms: when it ends by itself, in milliseconds since the epoch; None: when somebody resumes it.

        Raises:
            StopRefused: there is no such thing, it is not theirs to stop, or a value cannot be.
            StorageUnavailable: the database takes no writes; nothing was stopped.
        """
        kind, now = _kind(kind), self._now_ms()
        try:
            why = stop_reason(why)
        except ValueError as error:
            raise StopRefused("invalid", "why", f"The reason {_said(error)}.", "Say it in one line.") from error
        if until_ms is not None and not now < until_ms <= now + LONGEST_MS:
            message = "The end is over already, or is more than a year away."
            raise StopRefused("invalid", "until", message, "Choose another, or none.")
        stop = Stop(kind, await self._named(kind, name), why, who.actor, self._role(who), now, until_ms)
        if kind in ("server", "tool"):
            await self._stop_in_registry(who, stop)
        else:
            self._check_governs(who, kind)
            async with self._database.write() as db:
                await store.put(db, stop)
                await store.note(db, stop, "stop", why, who.actor, now)
            await self._callers.reload()
        log.warning("stopped", extra={"kind": kind, "stopped": stop.name, "sub": who.actor.sub, "why": why})
        return stop

    async def resume(self, who: Who, kind: str, name: str, why: str = "") -> Stop:
        """End a stop; gives what it was.

        Raises:
            StopRefused: nothing of that is stopped, or it is not theirs to resume.
            StorageUnavailable: the database takes no writes; it stays stopped.
        """
        kind, why = _kind(kind), _line(why)
        async with self._database.read() as db:
            exact = await store.find(db, kind, name.strip())
        return await self._resume(who, kind, exact.name if exact else await self._named(kind, name), why)

    async def listed(self, who: Who) -> list[Stop]:
        """What is stopped, as far as it is somebody's to know: everything, or that of the servers they own."""
        async with self._database.read() as db:
            ordered = await store.orders(db)
        found = [*self._of_registry(ordered), *(stop for stop in ordered if stop.kind not in ("server", "tool"))]
        if not self.governs(who):
            found = [stop for stop in found if stop.kind in ("server", "tool") and self._owns(who, stop)]
        return sorted(found, key=lambda stop: (-(stop.at_ms or 0), stop.kind, stop.name))

    async def history(self, who: Who, limit: int = MOST_EVENTS) -> list[Event]:
        """What was stopped and resumed, newest first; for those who govern all of it."""
        if not self.governs(who):
            return []
        async with self._database.read() as db:
            return await store.events(db, min(limit, MOST_EVENTS))

    async def end_due(self) -> None:
        """Resume what has come to its end, and forget orders whose stop the grants file has ended."""
        now = self._now_ms()
        async with self._database.read() as db:
            ordered = await store.orders(db)
        in_registry = {(stop.kind, stop.name) for stop in self._of_registry(ordered)}
        for stop in ordered:
            if stop.until_ms is not None and stop.until_ms <= now:
                await self._resume(_PEGBOARD, stop.kind, stop.name, "its end has come")
            elif stop.kind in ("server", "tool") and (stop.kind, stop.name) not in in_registry:
                await self._forget(stop)

    async def keep(self) -> None:
        """End what is due, until cancelled."""
        while True:
            try:
                if self._leads():
                    await self.end_due()
            except Exception:
                log.exception("stops whose end has come could not be ended, and are tried again")
            await asyncio.sleep(ENDS_EVERY_S)

    async def _resume(self, who: Who, kind: StopKind, name: str, why: str) -> Stop:
        if kind in ("server", "tool"):
            ended = await self._resume_in_registry(who, kind, name, why)
        else:
            self._check_governs(who, kind)
            async with self._database.write() as db:
                found = await store.find(db, kind, name)
                if found is None:
                    raise _not_stopped(kind, name)
                await store.take(db, kind, name)
                await store.note(db, found, "resume", why, who.actor, self._now_ms())
            await self._callers.reload()
            ended = found
        log.warning("resumed", extra={"kind": kind, "stopped": name, "sub": who.actor.sub, "why": why})
        return ended

    async def _stop_in_registry(self, who: Who, stop: Stop) -> None:
        async with self._registry.changing() as changing:
            server, tool = self._mine(who, changing, stop.kind, stop.name)
            if tool and server.release is not None and tool not in server.release.governed:
                raise _unknown("tool", f"{server.name} has no tool {tool}.")
            before = await self._standing(changing, server, stop.kind, stop.name)
            self._check_rank(who, before)
            stops = {**_stops(server), tool: stop.why}
            await changing.apply(Change(str(server.name), who.actor, STOP, stop.why, stops=stops))
            await store.put(changing.connection, stop)
            await store.note(changing.connection, stop, "stop", stop.why, who.actor, changing.now_ms)

    async def _resume_in_registry(self, who: Who, kind: StopKind, name: str, why: str) -> Stop:
        async with self._registry.changing() as changing:
            server, tool = self._mine(who, changing, kind, name)
            before = await self._standing(changing, server, kind, name)
            if before is None:
                raise _not_stopped(kind, name)
            self._check_rank(who, before)
            stops = {each: said for each, said in _stops(server).items() if each != tool}
            await changing.apply(Change(str(server.name), who.actor, RESUME, why, stops=stops))
            await store.take(changing.connection, kind, name)
            await store.note(changing.connection, before, "resume", why, who.actor, changing.now_ms)
        return before

    async def _forget(self, stop: Stop) -> None:
        """Forget an order where the newest registry says that nothing is stopped."""
        async with self._registry.changing() as changing:
            server, tool = _place(stop.kind, stop.name)
            found = changing.find(server)
            if found is None or tool not in _stops(found):
                await store.take(changing.connection, stop.kind, stop.name)
                await store.note(
                    changing.connection, stop, "resume", "the grants file ended it", GRANTS_FILE, changing.now_ms
                )

    async def _standing(self, changing: Changing, server: RegisteredServer, kind: StopKind, name: str) -> Stop | None:
        """The stop that there is of a server or tool; one that nobody ordered here is the grants file's."""
        why = _stops(server).get(_place(kind, name)[1])
        if why is None:
            return None
        ordered = await store.find(changing.connection, kind, name)
        return ordered or Stop(kind, name, why, GRANTS_FILE, "operator")

    def _of_registry(self, ordered: Iterable[Stop]) -> list[Stop]:
        """The stops of servers and tools that are in force, each with who ordered it."""
        known = {(stop.kind, stop.name): stop for stop in ordered}
        found: list[Stop] = []
        for server in self._registry.current.servers.values():
            for tool, why in _stops(server).items():
                kind: StopKind = "tool" if tool else "server"
                name = f"{server.name}/{tool}" if tool else str(server.name)
                stop = known.get((kind, name)) or Stop(kind, name, why, GRANTS_FILE, "operator")
                found.append(replace(stop, why=why))
        return found

    def _mine(self, who: Who, changing: Changing, kind: StopKind, name: str) -> tuple[RegisteredServer, str]:
        """The server and the tool, of one who may stop them; nobody else learns whether they exist.

        Raises:
            StopRefused: there is none, or it is somebody else's.
        """
        place, tool = _place(kind, name)
        server = changing.find(place)
        if server is None or not (self.governs(who) or who == _PEGBOARD or self._roles().own(who.groups, server)):
            message = f"There is no {kind} {name[:120]} here for you: it does not exist, or is not yours to stop."
            raise StopRefused("not_yours", "name", message, "Ask its owners, or the operators.")
        return server, tool

    def _owns(self, who: Who, stop: Stop) -> bool:
        server = self._registry.current.servers.get(_place(stop.kind, stop.name)[0])
        return server is not None and self._roles().own(who.groups, server)

    def _check_rank(self, who: Who, before: Stop | None) -> None:
        """Keep an owner from ending, or taking over, what an operator stopped."""
        if before is not None and before.role == "operator" and self._role(who) == "owner" and who != _PEGBOARD:
            message = f"The operators stopped it: {before.why}."
            raise StopRefused("not_yours", "name", message, "Ask them: they alone change or resume it.")

    def _check_governs(self, who: Who, kind: StopKind) -> None:
        if not self.governs(who) and who != _PEGBOARD:
            message = f"Only operators and security stop and resume a {kind}."
            raise StopRefused("not_yours", "kind", message, "Ask one of them.")

    def _role(self, who: Who) -> Role:
        return "operator" if self.governs(who) else "owner"

    async def _named(self, kind: StopKind, name: str) -> str:
        """The name as stops have it.

        Raises:
            StopRefused: it cannot be one.
        """
        name = name.strip()
        longest = NAME_LENGTH if kind == "service" else LONGEST_NAME
        if not 0 < len(name) <= longest or not name.isprintable():
            raise StopRefused("invalid", "name", "It is empty, too long, or has characters that hide.", "Name it.")
        match kind:
            case "surface" if name not in SURFACES:
                raise StopRefused("invalid", "name", f"Unknown surface; known are {', '.join(SURFACES)}.", "Use one.")
            case "service" if not is_spiffe_id(name):
                mend = "Write it as spiffe://example.org/reporting."
                raise StopRefused("invalid", "name", "It is not a SPIFFE ID.", mend)
            case "server" if not _SERVER.fullmatch(name):
                raise StopRefused("invalid", "name", "It is not a server’s name.", "Write it as NAMESPACE/NAME.")
            case "tool" if not _TOOL.fullmatch(name):
                raise StopRefused("invalid", "name", "It is not a tool’s name.", "Write it as NAMESPACE/NAME/TOOL.")
            case "person":
                if name.startswith(SCHEME):
                    raise StopRefused("invalid", "name", "It is a service’s id.", "Stop the service.")
                return await self._person(name)
            case "client":
                found = await self._clients.last_known(name)
                return found.software if found else name
        return name

    async def _person(self, name: str) -> str:
        """The id of who is called so: an id is itself, whoever else has it as an e-mail address."""
        people = {session.facts.sub for session in await self._sessions.called(name, MOST_SESSIONS)}
        if name in people or not people:
            return name
        if len(people) > 1:
            raise StopRefused("invalid", "name", "Several people have that e-mail address.", "Name the person’s id.")
        return people.pop()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


_PEGBOARD: Final = Who(PEGBOARD)


def _kind(kind: str) -> StopKind:
    for known in get_args(StopKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    message = f"Unknown kind; known are {', '.join(get_args(StopKind))}."
    raise StopRefused("invalid", "kind", message, "Use one of them.")


def _place(kind: StopKind, name: str) -> tuple[str, str]:
    """The server's name, and the tool's; that is empty of the server as a whole."""
    if kind == "server":
        return name, ""
    server, _, tool = name.rpartition("/")
    return server, tool


def _stops(server: RegisteredServer) -> dict[str, str]:
    return {**({"": server.stopped} if server.stopped else {}), **server.stopped_tools}


def _line(text: str) -> str:
    """A reason for the history; it may be left out."""
    try:
        return stop_reason(text) if text.strip(" .") else ""
    except ValueError as error:
        raise StopRefused("invalid", "why", f"The reason {_said(error)}.", "Say it in one line.") from error


def _said(error: ValueError) -> str:
    return "is empty" if str(error).startswith("say in") else str(error)


def _unknown(field: str, message: str) -> StopRefused:
    return StopRefused("unknown", field, message, "Look at its page for what it has.")


def _not_stopped(kind: StopKind, name: str) -> StopRefused:
    return StopRefused("not_stopped", "name", f"Nothing stops the {kind} {name[:120]}.", "Look at the list of stops.")
