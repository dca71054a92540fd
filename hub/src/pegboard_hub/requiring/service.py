"""Requiring an approval of a tool, and lifting that again: one door for the page, the API and the operator's command.

| who                    | requires                                     | lifts         |
|------------------------|----------------------------------------------|---------------|
| operators and security | of every tool, by caller, owner or a group   | all           |
| owners of the server   | of its tools, by caller or owner             | what they did |

Owners name no group: it would take the place of the one that their code names, and that reviews have seen.

To require takes away, so a token is enough for it. What lets anybody get a yes more easily than before, and to lift,
wants a person who has just proved who they are, or somebody at the machine (docs/decisions/0045).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pegboard.core.approval import CALLER, LONGEST_S, OWNER, SHORTEST_S, USUAL_S, Requirement
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN, TOOL_PATTERN
from pegboard.core.required import effective_requirement, narrows
from pegboard.core.stops import LONGEST_WHY, stop_reason
from pegboard_hub.registry import history
from pegboard_hub.registry.approving import code_approval
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.history import LIFT, REQUIRE, Actor
from pegboard_hub.registry.model import RegisteredServer, Required
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.visibility import SECURITY, Roles
from pegboard_hub.requiring.errors import RequiringRefused
from pegboard_hub.requiring.model import Event, Standing, events_of
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

MOST_EVENTS = 200
LONGEST_REASON: Final = LONGEST_WHY
"""Characters of a reason: a caller reads it beside the names of server, tool and approvers."""

_GROUP = re.compile(NAME_PATTERN)
_TOOL = re.compile(rf"([^/]+/[^/]+)/({TOOL_PATTERN})")


@dataclass(frozen=True, slots=True)
class Who:
    """Who wants an approval required, or lifted.

    Attributes:
        actor: for the history.
        groups: the person's, as they are known now.
        proved: whether they have just proved who they are, at a browser; a token never says so.
    """

    actor: Actor
    groups: tuple[str, ...] = ()
    proved: bool = False

    @classmethod
    def person(cls, sub: str, groups: Iterable[str], *, proved: bool = False) -> Who:
        """Somebody who is signed in."""
        return cls(Actor(sub), tuple(groups), proved)


MACHINE: Final = Who(Actor("operator", "operator"), proved=True)
"""Whoever holds the operator's own credential on the machine."""


class Requiring:
    """Everything that is done about approvals that the registry requires.

    Args:
        database: has the history.
        registry: has the servers.
        roles: who operates, as the operator's files say now.
    """

    def __init__(self, database: Database, registry: Registry, roles: Callable[[], Roles]) -> None:
        self._database = database
        self._registry = registry
        self._roles = roles

    def governs(self, who: Who) -> bool:
        """Whether somebody requires and lifts everything: at the machine, an operator, or one of security."""
        return who == MACHINE or self._roles().operate(who.groups) or SECURITY in who.groups

    def may(self, who: Who, server: RegisteredServer) -> bool:
        """Whether somebody requires approvals of a server's tools, and sees what is required."""
        return self.governs(who) or self._roles().own(who.groups, server)

    async def require(
        self, who: Who, tool: str, by: str, why: str, *, own: bool = False, expires_s: int = USUAL_S
    ) -> Standing:
        """Have a tool run only with an approval. What is required of it already is replaced.

        Args:
            who: wants it.
            tool: as `namespace/name/tool`.
            by: who says yes: `caller`, `owner`, or a group.
            why: what callers and approvers are told.
            own: whether somebody may approve what they asked for themselves; for `caller` that goes without saying.
            expires_s: seconds from a request within which it must be decided and used.

        Raises:
            RequiringRefused: there is no such tool, it is not theirs, a value cannot be, or it widens.
            StorageUnavailable: the database takes no writes; nothing was changed.
        """
        place, name = _place(tool)
        asked = _requirement(by, why, own, expires_s)
        async with self._registry.changing() as changing:
            server = self._mine(who, changing, place, tool)
            before = server.approvals.get(name)
            self._check_rank(who, before)
            if not self.governs(who) and asked.by not in (CALLER, OWNER):
                message = "Owners require an approval by caller or by owner; a group is for security and operators."
                raise RequiringRefused("not_yours", "by", message, "Ask one of them.")
            if before is None and not _has_tool(server, name):
                message = f"{server.name} has no tool {name}."
                raise RequiringRefused("unknown", "tool", message, "Look at its page for what it has.")
            self._check_widens(who, server, name, asked)
            required = Required(asked, who.actor.sub, who.actor.kind, self._role(who), changing.now_ms)
            approvals = {**server.approvals, name: required}
            after = await changing.apply(Change(place, who.actor, REQUIRE, asked.why, approvals=approvals))
        log.warning("approval required", extra={"tool": tool, "by": by, "sub": who.actor.sub, "why": asked.why})
        return Standing(after, name, after.approvals[name])

    async def lift(self, who: Who, tool: str, why: str = "") -> Standing:
        """Require no approval of a tool any more; gives what was. What its code requires goes on.

        Raises:
            RequiringRefused: nothing is required of it, or it is not theirs to lift.
            StorageUnavailable: the database takes no writes; it goes on being required.
        """
        place, name = _place(tool)
        why = _reason(why) if why.strip(" .") else ""
        async with self._registry.changing() as changing:
            server = self._mine(who, changing, place, tool)
            before = server.approvals.get(name)
            if before is None:
                message = f"The registry requires no approval of {tool}."
                raise RequiringRefused("not_required", "tool", message, "Look at the list of what is required.")
            self._check_rank(who, before)
            if not who.proved:
                raise _widens("To lift it lets calls run that wait for a person now.")
            approvals = {each: required for each, required in server.approvals.items() if each != name}
            await changing.apply(Change(place, who.actor, LIFT, why, approvals=approvals))
        log.warning("approval lifted", extra={"tool": tool, "sub": who.actor.sub, "why": why})
        return Standing(server, name, before)

    def effective(self, server: str, tool: str, asked: Requirement) -> Requirement | None:
        """What a call has to meet, where its server asks for `asked`; None where nothing is required here."""
        found = self._registry.current.servers.get(server)
        required = found.approvals.get(tool) if found is not None else None
        return effective_requirement(asked, required.requirement) if required is not None else None

    def listed(self, who: Who, server: str = "") -> list[Standing]:
        """What is required now, as far as it is somebody's to know, in order of name.

        Args:
            who: asks.
            server: only of this one; empty for all.
        """
        servers = self._registry.current.servers
        among = servers.values() if not server else filter(None, [servers.get(server)])
        return [
            Standing(each, tool, required)
            for each in among
            if each.approvals and self.may(who, each)
            for tool, required in sorted(each.approvals.items())
        ]

    async def history(self, who: Who, server: str = "", limit: int = MOST_EVENTS) -> list[Event]:
        """What was required and lifted, newest first, of the servers whose requirements they may see."""
        servers = self._registry.current.servers
        governs = self.governs(who)
        if server:
            found = servers.get(server)
            among = [server] if found is not None and self.may(who, found) else []
        else:
            among = [] if governs else [name for name, each in servers.items() if self.may(who, each)]
        if not among and (server or not governs):
            return []
        return await self._events(among or None, min(limit, MOST_EVENTS))

    async def history_of(self, server: RegisteredServer, limit: int = MOST_EVENTS) -> list[Event]:
        """The same of one server, for whoever its history is told to."""
        return await self._events([str(server.name)], min(limit, MOST_EVENTS))

    async def _events(self, among: list[str] | None, limit: int) -> list[Event]:
        async with self._database.read() as db:
            entries = await history.entries(db, among=among, limit=limit, actions=(REQUIRE, LIFT))
        return [event for entry in entries for event in events_of(entry)]

    def _mine(self, who: Who, changing: Changing, place: str, tool: str) -> RegisteredServer:
        """The server, of one who may require approvals of it; nobody else learns whether it exists."""
        server = changing.find(place)
        if server is None or not self.may(who, server):
            message = f"There is no tool {tool[:120]} here for you: it does not exist, or is not yours to decide on."
            raise RequiringRefused("not_yours", "tool", message, "Ask its owners, security, or the operators.")
        return server

    def _check_rank(self, who: Who, before: Required | None) -> None:
        """Keep an owner from lifting, or taking over, what security or an operator requires."""
        if before is not None and before.role == "operator" and self._role(who) == "owner":
            message = f"Security or the operators require it: {before.requirement.why}."
            raise RequiringRefused("not_yours", "tool", message, "Ask them: they alone change or lift it.")

    def _check_widens(self, who: Who, server: RegisteredServer, tool: str, after: Requirement) -> None:
        """Keep a token from having others asked than now, be it of a call that the code asks for or of another."""
        before = server.approvals.get(tool)
        standing = before.requirement if before else None
        codes = {None, *(code_approval(release, tool)[0] for release in (server.release, server.waiting))}
        surely = (
            narrows(effective_requirement(code, standing), effective_requirement(code, after)) for code in codes
        )
        if not who.proved and not all(surely):
            raise _widens("Somebody else could say yes by it than who is asked now.")

    def _role(self, who: Who) -> str:
        return "operator" if self.governs(who) else "owner"


def _requirement(by: str, why: str, own: bool, expires_s: int) -> Requirement:
    if by not in (CALLER, OWNER) and not (
        NAME_LENGTH[0] <= len(by) <= NAME_LENGTH[1] and _GROUP.fullmatch(by) is not None
    ):
        mend = "Write caller, owner, or a group as the company’s login has it."
        raise RequiringRefused("invalid", "by", "It is nobody who could be asked.", mend)
    if not SHORTEST_S <= expires_s <= LONGEST_S:
        message = f"It is less than {SHORTEST_S} seconds, or more than {LONGEST_S // 86400} days."
        raise RequiringRefused("invalid", "expires_s", message, "Choose another time.")
    # Of one's own calls alone a caller decides: there is nothing to allow.
    own = own and by != CALLER
    return Requirement(by=by, own=own, expires_s=expires_s, source="registry", why=_reason(why))


def _reason(text: str) -> str:
    try:
        return stop_reason(text)
    except ValueError as error:
        said = "is empty" if str(error).startswith("say in") else str(error)
        raise RequiringRefused("invalid", "why", f"The reason {said}.", "Say it in one line.") from error


def _place(tool: str) -> tuple[str, str]:
    """The server's name, and the tool's."""
    found = _TOOL.fullmatch(tool)
    if found is None:
        raise RequiringRefused("invalid", "tool", "It is not a tool’s name.", "Write it as NAMESPACE/NAME/TOOL.")
    return found[1], found[2]


def _has_tool(server: RegisteredServer, tool: str) -> bool:
    """Whether the deployed release has it, or the one that waits."""
    releases = filter(None, (server.release, server.waiting))
    return any(each.name == tool for release in releases for each in release.tools)


def _widens(message: str) -> RequiringRefused:
    mend = "Do it on the server’s page, tab Security, or on the machine with --home: a token is not enough for it."
    return RequiringRefused("widens", "tool", message, mend)
