"""The one door for changes of the registry: what is changed, who changes it, and the history of it, together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.bundle import Endpoint
from pegboard_hub.registry import history, store
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused, NameTaken, TooManyDrafts, UnknownServer
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release, Required, Snapshot
from pegboard_hub.registry.record import RECORD_FIELDS, check_apart, check_record, check_server_name, record_of

STATE_FIELDS = (
    "source",
    "reason",
    "lifecycle",
    "lifecycle_why",
    "takes_any",
    "submitted",
    "ends_at_ms",
    "successor",
)
"""What stands of a server beside its record, its access, its releases and its stops."""

MOST_DRAFTS = 100
"""Drafts of one team: whoever may register could otherwise fill the registry with names, which stay taken."""

GIVEN_UP_MS = 86_400_000
"""For how long a draft that was given up still counts, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one server. What is None stays as it is.

    Attributes:
        expected: the version that the editor saw; None for the file and the system, which look before they write.
        action: what it is, in a word or two, for the history.
        values: of `RECORD_FIELDS` and `STATE_FIELDS`.
        stops: why each stopped tool is stopped, the server itself under the empty name; they replace what was.
        approvals: what is required of each tool before it runs; they replace what was.
        release: the approved release that is deployed from now on.
        undeploys: nothing is deployed any more.
        waiting: the release that is declared and waits.
        describes: whether that release says what the server is; else its record stays as it was.
        waits_no_more: no release waits any more.
    """

    server: str
    actor: Actor
    action: str
    why: str
    expected: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    requested: Access | None = None
    granted: Access | None = None
    stops: Mapping[str, str] | None = None
    approvals: Mapping[str, Required] | None = None
    release: Release | None = None
    undeploys: bool = False
    waiting: Release | None = None
    describes: bool = False
    waits_no_more: bool = False


def check_room(owner: str, servers: Iterable[RegisteredServer], now_ms: int) -> None:
    """Keep a team from having more drafts than it can have.

    Args:
        owner: the team.
        servers: all of them.
        now_ms: the time, in milliseconds since the epoch.

    Raises:
        TooManyDrafts: it has as many.
    """
    since_ms = now_ms - GIVEN_UP_MS
    drafts = sum(
        server.owner == owner
        and not server.published
        and (server.lifecycle is Lifecycle.DRAFT or server.updated_at_ms > since_ms)
        for server in servers
    )
    if drafts >= MOST_DRAFTS:
        raise TooManyDrafts(owner, MOST_DRAFTS)


class Changing:
    """Changes of one transaction. A server that was changed is here as it will be.

    Attributes:
        connection: for what a subject writes into its own tables with them.
        now_ms: the time of all of them, in milliseconds since the epoch.
        seq: the newest entry of the history.
    """

    def __init__(self, connection: AsyncConnection, snapshot: Snapshot, now_ms: int) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.seq = snapshot.seq
        self._snapshot = snapshot
        self.changed: dict[str, RegisteredServer] = {}

    @property
    def servers(self) -> Mapping[str, RegisteredServer]:
        """All of them, as they are now."""
        return {**self._snapshot.servers, **self.changed}

    def server(self, name: str) -> RegisteredServer:
        """The server as it is now.

        Raises:
            UnknownServer: there is none.
        """
        found = self.find(name)
        if found is None:
            raise UnknownServer(name)
        return found

    def find(self, name: str) -> RegisteredServer | None:
        """The server as it is now, if there is one."""
        return self.changed.get(name) or self._snapshot.servers.get(name)

    async def register(
        self, name: str, record: Mapping[str, Any], actor: Actor, why: str, *, source: str = ""
    ) -> RegisteredServer:
        """A new draft, which nobody can call.

        Raises:
            NameTaken: there is a server of that name, be it one that nobody may know of.
            ChangeRefused: its name or record cannot be.
        """
        parsed, values = check_server_name(name), check_record(record)
        if actor.kind == "person":
            self._check_room(values.get("owner", ""))
        # Last: whoever asks for what cannot be registered anyway tries names for nothing.
        if self.find(name) is not None:
            raise NameTaken(name)
        if actor.kind == "person":
            servers, owner = self._snapshot.servers, values.get("owner", "")
            check_apart(
                parsed,
                (server.name for server in servers.values()),
                lambda other: servers[other].published or servers[other].owner == owner,
            )
        draft = RegisteredServer(
            name=parsed,
            source=source,
            granted=Access(),
            requested=Access(),
            reason="",
            release=None,
            lifecycle=Lifecycle.DRAFT,
            version=0,
            created_at_ms=self.now_ms,
            **values,
        )
        await store.insert_server(self.connection, draft)
        fields = {"lifecycle": (None, Lifecycle.DRAFT)} | {key: (None, value) for key, value in values.items()}
        return await self._keep(draft, actor, history.REGISTER, why, fields)

    async def apply(self, change: Change) -> RegisteredServer:
        """Make a change, and write it into the history; one that changes nothing leaves nothing behind.

        Raises:
            UnknownServer: there is no such server.
            ChangeConflict: somebody changed it since the version that was expected.
            ChangeRefused: a value cannot be.
        """
        before = self.server(change.server)
        if change.expected is not None and change.expected != before.version:
            raise ChangeConflict(before, await history.since(self.connection, change.server, change.expected))
        after = _settled(before, replace(before, **_values(before, change)))
        fields = _differences(before, after)
        if not fields:
            return before
        if "owner" in fields and after.lifecycle is Lifecycle.DRAFT and change.actor.kind == "person":
            self._check_room(after.owner)
        await store.write_server(self.connection, before, after)
        if after.release is not None and after.release is not before.release:
            await store.mark_release(self.connection, change.server, after.release.digest, self.now_ms)
            after = replace(after, semver=await store.semver(self.connection, change.server, after.release.digest))
        if after.reachable and after.first_live_at_ms is None:
            after = replace(after, first_live_at_ms=self.now_ms)
        return await self._keep(after, change.actor, change.action, change.why, fields)

    async def place(self, server: str, endpoints: Iterable[Endpoint]) -> None:
        """Note where a server's replicas answer. Edges are told with whatever else changes here; no history is.

        Raises:
            UnknownServer: there is no such server.
        """
        before, found = self.server(server), tuple(endpoints)
        if before.endpoints == found:
            return
        placed = replace(before, endpoints=found)
        await store.place_server(self.connection, placed)
        self.changed[server] = placed

    async def note(
        self, server: str, actor: Actor, action: str, why: str, fields: history.Fields | None = None
    ) -> RegisteredServer:
        """Write into a server's history what was done about it in another subject's tables.

        Raises:
            UnknownServer: there is no such server.
        """
        return await self._keep(self.server(server), actor, action, why, fields or {})

    def _check_room(self, owner: str) -> None:
        """Keep a team from having more drafts than it can have."""
        check_room(owner, {**self._snapshot.servers, **self.changed}.values(), self.now_ms)

    async def _keep(
        self, server: RegisteredServer, actor: Actor, action: str, why: str, fields: history.Fields
    ) -> RegisteredServer:
        name, version = str(server.name), server.version + 1
        self.seq = await history.append(self.connection, name, version, actor, action, why, fields, self.now_ms)
        kept = replace(server, version=version, seq=self.seq, updated_at_ms=self.now_ms)
        await store.stamp_server(self.connection, kept)
        self.changed[name] = kept
        return kept


def _values(before: RegisteredServer, change: Change) -> dict[str, Any]:
    """What `dataclasses.replace` makes the changed server with."""
    record = {key: value for key, value in change.values.items() if key in RECORD_FIELDS}
    state = {key: value for key, value in change.values.items() if key not in RECORD_FIELDS}
    if unknown := sorted(state.keys() - set(STATE_FIELDS)):
        raise ChangeRefused(unknown[0], "there is no such field", "")
    if record and before.released:
        field_name = next(iter(record))
        raise ChangeRefused(
            field_name, "it is what the release’s pegboard.toml says", "Change it there, and make a new release."
        )
    values = check_record(record) | state
    if change.requested is not None:
        values["requested"] = _ordered(change.requested)
    if change.granted is not None:
        values["granted"] = _ordered(change.granted)
    if change.stops is not None:
        values["stopped"] = change.stops.get("", "")
        values["stopped_tools"] = {tool: why for tool, why in change.stops.items() if tool}
    if change.approvals is not None:
        values["approvals"] = dict(change.approvals)
    return values | _releases(change)


def _releases(change: Change) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.release is not None or change.undeploys:
        values["release"] = change.release
    if change.waiting is not None or change.waits_no_more:
        values["waiting"] = change.waiting
    shown = change.release or (change.waiting if change.describes else None)
    if shown is not None:
        values |= record_of(shown.manifest)
    return values


def _ordered(access: Access) -> Access:
    return Access(*(tuple(sorted(set(values))) for values in access))


def _settled(before: RegisteredServer, after: RegisteredServer) -> RegisteredServer:
    """With the lifecycle that follows from what is deployed, where nobody said another."""
    if after.lifecycle != before.lifecycle and after.lifecycle is not Lifecycle.APPROVED:
        return after
    if after.lifecycle in (Lifecycle.DEPRECATED, Lifecycle.RETIRED, Lifecycle.DRAFT):
        return after
    if after.release is not None and (after.lifecycle is not Lifecycle.IN_REVIEW or any(after.granted)):
        return replace(after, lifecycle=Lifecycle.LIVE)
    if after.lifecycle is Lifecycle.LIVE:
        return replace(after, lifecycle=Lifecycle.IN_REVIEW if after.waiting else Lifecycle.APPROVED)
    return after


def _told(server: RegisteredServer) -> dict[str, Any]:
    """Everything of a server that the history tells, as JSON has it."""
    return {
        **{name: getattr(server, name) for name in (*RECORD_FIELDS, *STATE_FIELDS)},
        "links": dict(server.links),
        "stopped": server.stopped,
        "stopped_tools": dict(server.stopped_tools),
        "approvals": {tool: _required(each) for tool, each in server.approvals.items()},
        "release": server.release.digest if server.release else None,
        "waiting": server.waiting.digest if server.waiting else None,
        **{f"requested_{kind}": list(values) for kind, values in server.requested._asdict().items()},
        **{f"granted_{kind}": list(values) for kind, values in server.granted._asdict().items()},
    }


def _required(required: Required) -> dict[str, Any]:
    """A requirement as the history keeps it; who required it, and since when, an entry says anyway."""
    return {**required.requirement.model_dump(mode="json", exclude={"source"}), "role": required.role}


def _differences(before: RegisteredServer, after: RegisteredServer) -> dict[str, tuple[Any, Any]]:
    was = _told(before)
    return {name: (was[name], value) for name, value in _told(after).items() if was[name] != value}
