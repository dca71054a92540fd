"""Writing the signed bundles that edge and servers decide with.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pegboard.core.bundle import EDGE, Ages, Bundle, BundledServer, BundleSigner
from pegboard.core.names import ServerName
from pegboard.core.revoked import Revoked
from pegboard_hub.common.home import Home, replace_file
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


class _Own(NamedTuple):
    """What stands in a bundle of one server, and of which server it was made.

    Attributes:
        text: the server as JSON.
        digest: of that.
        at_edge: whether the edge's bundle has it too.
    """

    server: RegisteredServer
    text: str
    digest: str
    at_edge: bool


@dataclass(frozen=True, slots=True)
class _Shared:
    """What stands in every bundle of one writing, and its digest."""

    signer: BundleSigner
    digest: str


class BundleWriter:
    """Signs one document per consumer and puts it where the consumer looks.

    A version goes up when what its consumer decides with changes, and never falls behind the clock: a database that
    was lost or restored from a backup cannot make consumers refuse every new bundle as older than the one in use.

    Attributes:
        signed_at: when all bundles were last signed, in seconds since the epoch; 0 before.
    """

    def __init__(
        self,
        home: Home,
        database: Database,
        keys: Keys,
        issuer: str,
        ages: Ages,
        revoked: Callable[[], Revoked] = Revoked,
    ) -> None:
        """Prepare.

        Args:
            home: where bundles go.
            database: keeps their versions.
            keys: sign them, and are told in them.
            issuer: of tokens.
            ages: that bundles may reach.
            revoked: tells what is revoked; asked at every writing.
        """
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
        """`write`, as far as it cannot wait: the edge's bundle, and those of servers that changed themselves."""
        async with self._one_at_a_time:
            # Bundles of thousands of servers take long: the loop goes on answering, and keys may rotate, meanwhile.
            changed = await asyncio.to_thread(self._take_in, snapshot, now, refresh)
            first = [EDGE] if EDGE in self._due or EDGE in self._dated else []
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
        shared, self._now = self._share(now), now
        before, self._own = self._own, self._texts(snapshot)
        changed = [name for name, own in self._own.items() if name not in before or before[name].digest != own.digest]
        if self._shared is None or shared.digest != self._shared.digest:
            self._due |= dict.fromkeys([EDGE, *self._own])
        if changed or before.keys() != self._own.keys():
            self._due |= dict.fromkeys([EDGE, *changed])
        if refresh:
            # Those that are still to be dated since the last time stay in front.
            self._dated |= dict.fromkeys([EDGE, *self._own])
            self._refresh_of = now
        self._due, self._dated = (
            {name: None for name in names if name in self._own or name == EDGE} for names in (self._due, self._dated)
        )
        self._shared = shared
        return changed

    def _share(self, now: float) -> _Shared:
        keys = self._keys
        shared = Bundle(
            consumer=EDGE,
            version=0,
            issued_at=int(now),
            issuer=self._issuer,
            jwks=keys.token_jwks,
            servers=(),
            revoked=self._revoked(),
            max_age_s=self._ages.grants_s,
            stops_max_age_s=self._ages.stops_s,
        )
        told = shared.model_dump(mode="json", exclude={"issued_at"})
        return _Shared(BundleSigner(shared, keys.bundles.signer), _digest(json.dumps(told, sort_keys=True)))

    def _texts(self, snapshot: Snapshot) -> dict[str, _Own]:
        """Every consumer but the edge. What was made of a server that is still the same is taken as it is."""
        found: dict[str, _Own] = {}
        for server in snapshot.all_deployed:
            found[str(server.name)] = self._known(server) or _own(server, server.bundled(), at_edge=True)
        for server in snapshot.shut:
            # Its process may run: it must learn that nobody is granted, not go on with what it has.
            found[str(server.name)] = self._known(server) or _own(server, server.bundled_shut(), at_edge=False)
        return found

    def _known(self, server: RegisteredServer) -> _Own | None:
        known = self._own.get(str(server.name))
        return known if known is not None and known.server is server else None

    async def _write(self, consumers: Sequence[str]) -> list[str]:
        async with self._database.read() as connection:
            known = await bundle_versions(connection, consumers)
        changed = await asyncio.to_thread(self._replace, consumers, known)
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
            content = _digest(shared.digest, *(own.digest for own in said))
            version, before = known.get(consumer, (0, ""))
            if content != before:
                version = max(version + 1, int(self._now))
                changed.append((consumer, version, content))
            if content != before or consumer in self._dated:
                text = shared.signer.sign(consumer, version, (own.text for own in said))
                replace_file(self._path(consumer), text)
        return changed

    def _said(self, consumer: str) -> list[_Own]:
        if consumer == EDGE:
            return [own for own in self._own.values() if own.at_edge]
        return [self._own[consumer]]

    def _path(self, consumer: str) -> Path:
        return self._home.edge_bundle if consumer == EDGE else self._home.bundle(ServerName.parse(consumer))


def _own(server: RegisteredServer, bundled: BundledServer, *, at_edge: bool) -> _Own:
    text = bundled.model_dump_json()
    return _Own(server, text, _digest(text, str(at_edge)), at_edge)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
