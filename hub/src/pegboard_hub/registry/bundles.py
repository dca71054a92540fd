"""Writing the signed bundles that edges and servers decide with.

The edge comes first: what is taken from somebody counts for everybody as soon as the edge has it, whenever a server's
own layer follows. One changed server is two bundles, the edge's and its own. What stands in all of them (a revoked
session, a key) makes all of them due: they are written in parts, and between two parts whatever is newer goes first.
Those that only want a fresh date come last, a few at a time over a while, so that nobody who asks the hub meanwhile
waits for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pegboard.core.bundle import EDGE, Ages, Bundle, BundledServer, BundleSigner, edge_consumer
from pegboard.core.coarse import CoarseRule, RuleSet
from pegboard.core.names import ServerName
from pegboard.core.rates import Limits
from pegboard.core.revoked import Revoked
from pegboard.core.stops import Stops
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.runtimes import MACHINE, known_runtimes, runtime_of
from pegboard_hub.common.waiting import Waiting
from pegboard_hub.identity.keys import Keys
from pegboard_hub.registry.model import RegisteredServer, Snapshot
from pegboard_hub.registry.store import bundle_versions, save_bundle_versions
from pegboard_hub.storage.database import Database

Versions = dict[str, tuple[int, str]]
"""Version and content digest of each consumer's newest bundle."""

PART = 200
"""Bundles that are written in a row, before others who wait for their turn get one; some 0.1 s."""

FEW = 20
"""Bundles that are dated again in a row; some 5 ms."""

PAUSE_S = 0.1
"""Seconds between two of those, at most."""


class _Said(NamedTuple):
    """One server as JSON, and its digest."""

    text: str
    digest: str


class _Own(NamedTuple):
    """What stands in bundles of one server, and of what it was made.

    Attributes:
        of: the server.
        server: what its own bundle has.
        edge: what the edge's has, which asks nobody for approvals; None where it is not told of the server.
        rules: coarse rules that name it alone.
    """

    of: RegisteredServer
    server: _Said
    edge: _Said | None
    rules: tuple[CoarseRule, ...]


class _Part(NamedTuple):
    """What stands in every bundle of one kind, and its digest."""

    signer: BundleSigner
    digest: str


class _Shared(NamedTuple):
    """What stands in every bundle of one writing.

    Attributes:
        edge: in each edge's: the limits, and all general rules.
        of: in the bundles of each namespace: its general rules.
    """

    edge: _Part
    of: Mapping[str, _Part]


class BundleWriter:
    """Signs one document per consumer and puts it where the consumer looks.

    A version goes up when what its consumer decides with changes, and never falls behind the clock: a database that
    was lost or restored from a backup cannot make consumers refuse every new bundle as older than the one in use.

    Attributes:
        versions: the newest version of each edge's bundle that was written here, by consumer.
        written: wakes those who wait for a consumer's bundle, by its name; also once it has none any more.
        signed_at: when all bundles were last signed, in seconds since the epoch; 0 before.
    """

    def __init__(
        self,
        home: Home,
        database: Database,
        keys: Keys,
        issuer: str,
        ages: Ages,
        *,
        revoked: Callable[[], Revoked],
        stops: Callable[[], Stops],
        limits: Callable[[], Limits],
        rules: Callable[[], RuleSet],
        edges: Callable[[], Collection[str]],
    ) -> None:
        """Prepare. Nothing has a default: whoever forgot one would open everywhere what it closes.

        Args:
            home: where bundles go.
            database: keeps their versions.
            keys: sign them, and are told in them.
            issuer: of tokens.
            ages: that bundles may reach.
            revoked: tells what is revoked; asked at every writing.
            stops: tells which callers are stopped; asked as often.
            limits: tells what the edge holds callers to; asked at every writing.
            rules: tells the coarse rules in force; asked as often.
            edges: tells the joined edges' names; asked at every writing.
        """
        self._names_of_edges = edges
        self._edges: dict[str, Path] = {EDGE: home.edge_bundle}
        self._stops = stops
        self._limits = limits
        self._rules = rules
        self._revoked = revoked
        self._home = home
        self._database = database
        self._keys = keys
        self._issuer = issuer
        self._ages = ages
        self._one_at_a_time = asyncio.Lock()
        self._own: dict[str, _Own] = {}
        self._shared: _Shared | None = None
        self._due: dict[str, None] = {}
        self._dated: dict[str, None] = {}
        self._now = 0.0
        self._refresh_of = 0.0
        self.versions: dict[str, int] = {}
        self.written = Waiting(alone=True)
        self.signed_at = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether bundles are due that were not written yet."""
        return bool(self._due or self._dated)

    async def write(self, snapshot: Snapshot, now: float, *, refresh: bool) -> list[str]:
        """Write the bundles whose content changed; with `refresh` also the others, freshly dated.

        Returns:
            The consumers whose content changed.

        Raises:
            OSError: a bundle cannot be written; the next call tries again, because versions are kept last.
        """
        return await self.write_first(snapshot, now, refresh=refresh) + await self.write_rest()

    async def write_first(self, snapshot: Snapshot, now: float, *, refresh: bool) -> list[str]:
        """`write`, as far as it cannot wait: the edges' bundles, and those of servers that changed themselves."""
        async with self._one_at_a_time:
            # Bundles of thousands of servers take long: the loop goes on answering, and keys may rotate, meanwhile.
            edges = set(self._edges)
            changed = await asyncio.to_thread(self._take_in, snapshot, now, refresh)
            self.written.wake(edges - self._edges.keys())
            first = [edge for edge in self._edges if edge in self._due or edge in self._dated]
            return await self._write(first + changed[:PART])

    async def write_rest(self, within_s: float = 0.0) -> list[str]:
        """What is still due, part by part. What only wants a fresh date takes up to `within_s` seconds."""
        changed: list[str] = []
        few = FEW if within_s else PART
        pause_s = min(PAUSE_S, within_s * few / max(len(self._dated), 1))
        while self.unfinished:
            urgent = bool(self._due)
            async with self._one_at_a_time:
                part = islice(self._due, PART) if urgent else islice(self._dated, few)
                changed += await self._write(list(part))
            if not urgent and self.unfinished:
                await asyncio.sleep(pause_s)
        return changed

    def _take_in(self, snapshot: Snapshot, now: float, refresh: bool) -> list[str]:
        """Note what is due. Returns the servers whose own part changed."""
        rules = self._rules()
        namespaces = {server.name.namespace for server in snapshot.servers.values()}
        shared, self._now = self._share(now, rules, namespaces), now
        before, self._own = self._own, self._texts(snapshot, rules)
        changed = [name for name, own in self._own.items() if name not in before or before[name].server != own.server]
        placed = any(name in before and before[name].edge != own.edge for name, own in self._own.items())
        edges, self._edges = self._edges, self._paths_of_edges()
        self._due |= dict.fromkeys(self._edges.keys() - edges.keys())
        others = self._shared.of if self._shared else {}
        moved = {name for name, part in shared.of.items() if name not in others or others[name].digest != part.digest}
        if moved:
            told = [name for name in self._own if name.partition("/")[0] in moved]
            self._due |= dict.fromkeys([*self._edges, *told])
        if self._shared is None or shared.edge.digest != self._shared.edge.digest:
            self._due |= dict.fromkeys(self._edges)
        if changed or placed or before.keys() != self._own.keys():
            self._due |= dict.fromkeys([*self._edges, *changed])
        if refresh:
            # Those that are still to be dated since the last time stay in front.
            self._dated |= dict.fromkeys([*self._edges, *self._own])
            self._refresh_of = now
        known = self._own.keys() | self._edges.keys()
        self._due, self._dated = (
            {name: None for name in names if name in known} for names in (self._due, self._dated)
        )
        self._shared = shared
        return changed

    def _paths_of_edges(self) -> dict[str, Path]:
        """Where the bundle of each edge goes: first of the instance's own."""
        joined = {edge_consumer(name): self._home.joined_edge_bundle(name) for name in self._names_of_edges()}
        return {EDGE: self._home.edge_bundle} | joined

    def _share(self, now: float, rules: RuleSet, namespaces: Iterable[str]) -> _Shared:
        keys = self._keys
        shared = Bundle(
            consumer=EDGE,
            version=0,
            issued_at=int(now),
            issuer=self._issuer,
            jwks=keys.token_jwks,
            servers=(),
            revoked=self._revoked(),
            stops=self._stops(),
            max_age_s=self._ages.grants_s,
            stops_max_age_s=self._ages.stops_s,
        )
        signer = keys.bundles.signer

        def part(**more: Any) -> _Part:
            told = shared.model_copy(update=more)
            return _Part(BundleSigner(told, signer), _told(told))

        limits = self._limits()
        limits = limits.model_copy(update={"rates": limits.rates + rules.limits})
        return _Shared(
            part(limits=limits, rules=rules.general),
            {name: part(rules=rules.of_namespace(name)) for name in namespaces},
        )

    def _texts(self, snapshot: Snapshot, rules: RuleSet) -> dict[str, _Own]:
        """Every consumer but the edge. What was made of a server that is still the same is taken as it is."""
        found: dict[str, _Own] = {}
        for server in snapshot.all_deployed:
            own = rules.named.get(str(server.name), ())
            # A submitted server stands at the edge once there is somewhere to go.
            at_edge = bool(server.endpoints) or not server.submitted
            found[str(server.name)] = self._known(server, own) or _own(server, server.bundled(), own, at_edge=at_edge)
        for server in snapshot.shut:
            # Its process may run: it must learn that nobody is granted, not go on with what it has.
            found[str(server.name)] = self._known(server, ()) or _own(
                server, server.bundled_shut(), (), at_edge=False
            )
        elsewhere = known_runtimes(self._home.runtimes)
        for server in snapshot.servers.values() if elsewhere else ():
            # A cluster asks a pod itself whether it is ready: without any bundle its first release never is.
            name = str(server.name)
            if name not in found and server.submitted and runtime_of(elsewhere, server.name.namespace) != MACHINE:
                found[name] = self._known(server, ()) or _own(server, server.bundled_shut(), (), at_edge=False)
        return found

    def _known(self, server: RegisteredServer, rules: tuple[CoarseRule, ...]) -> _Own | None:
        known = self._own.get(str(server.name))
        return known if known is not None and known.of is server and known.rules == rules else None

    async def _write(self, consumers: Sequence[str]) -> list[str]:
        async with self._database.read() as connection:
            known = await bundle_versions(connection, consumers)
        changed = await asyncio.to_thread(self._replace, consumers, known)
        self.written.wake(consumers)
        if changed:
            async with self._database.write() as connection:
                await save_bundle_versions(connection, changed)
        for consumer in consumers:
            self._due.pop(consumer, None)
            self._dated.pop(consumer, None)
        if not self._dated and self._refresh_of:
            self.signed_at, self._refresh_of = self._refresh_of, 0.0
        return [consumer for consumer, _, _ in changed]

    def _replace(self, consumers: Iterable[str], known: Versions) -> list[tuple[str, int, str]]:
        changed: list[tuple[str, int, str]] = []
        shared = self._shared
        assert shared is not None  # noqa: S101 - nothing is due before
        for consumer in consumers:
            said = self._said(consumer)
            signer, digest = shared.edge if consumer in self._edges else shared.of[consumer.partition("/")[0]]
            content = _digest(digest, *(each.digest for each in said))
            version, before = known.get(consumer, (0, ""))
            if content != before:
                version = max(version + 1, int(self._now))
                changed.append((consumer, version, content))
            if consumer in self._edges:
                self.versions[consumer] = version
            # An edge that was removed and added again has no file, though nothing in it is another.
            gone = consumer in self._edges and not self._path(consumer).exists()
            if content != before or consumer in self._dated or gone:
                text = signer.sign(consumer, version, (each.text for each in said))
                replace_file(self._path(consumer), text)
        return changed

    def _said(self, consumer: str) -> list[_Said]:
        if consumer in self._edges:
            return [own.edge for own in self._own.values() if own.edge is not None]
        return [self._own[consumer].server]

    def _path(self, consumer: str) -> Path:
        return self._edges.get(consumer) or self._home.bundle(ServerName.parse(consumer))


def _own(server: RegisteredServer, bundled: BundledServer, rules: tuple[CoarseRule, ...], *, at_edge: bool) -> _Own:
    whole = bundled.model_copy(update={"rules": rules})
    said = _said(whole.model_copy(update={"endpoints": ()}) if whole.endpoints else whole, at_edge=at_edge)
    told = whole.model_copy(update={"approvals": {}}) if whole.approvals else whole
    edge = said if told is whole and not whole.endpoints else _said(told, at_edge=at_edge)
    return _Own(server, said, edge if at_edge else None, rules)


def _said(bundled: BundledServer, *, at_edge: bool) -> _Said:
    text = bundled.model_dump_json()
    return _Said(text, _digest(text, str(at_edge)))


def _told(shared: Bundle) -> str:
    """The digest of what they share but for the moment, which is another one each time."""
    return _digest(json.dumps(shared.model_dump(mode="json", exclude={"issued_at"}), sort_keys=True))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
