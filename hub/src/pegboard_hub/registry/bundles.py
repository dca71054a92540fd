"""Writing the signed bundles that edge and servers decide with."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from pegboard.core.bundle import EDGE, Ages, Bundle, BundledServer
from pegboard.core.revoked import Revoked
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.keys import Keys
from pegboard_hub.registry.model import RegisteredServer, Snapshot
from pegboard_hub.registry.store import bundle_versions, save_bundle_versions
from pegboard_hub.storage.database import Database

Versions = dict[str, tuple[int, str]]
"""Version and content digest of each consumer's newest bundle."""


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
        self.signed_at = 0.0

    async def write(self, snapshot: Snapshot, now: float, *, refresh: bool) -> list[str]:
        """Write the bundles whose content changed; with `refresh` also the others, freshly dated.

        Returns:
            The consumers whose content changed.

        Raises:
            OSError: a bundle cannot be written; the next call tries again, because versions are kept last.
        """
        async with self._one_at_a_time:
            async with self._database.read() as connection:
                known = await bundle_versions(connection)
            # Signing thousands of bundles takes seconds: the loop goes on answering, and keys may rotate, meanwhile.
            self._signer, self._jwks = self._keys.bundles.signer, self._keys.token_jwks
            self._void = self._revoked()
            self._common = json.dumps([self._issuer, self._jwks, self._ages, self._void.as_json()], sort_keys=True)
            changed = await asyncio.to_thread(self._write, snapshot, known, now, refresh)
            if changed:
                async with self._database.write() as connection:
                    await save_bundle_versions(connection, changed)
            if refresh:
                self.signed_at = now
        return [consumer for consumer, _, _ in changed]

    def _write(self, snapshot: Snapshot, known: Versions, now: float, refresh: bool) -> list[tuple[str, int, str]]:
        changed: list[tuple[str, int, str]] = []
        for consumer, path, bundled in self._consumers(snapshot):
            content = self._digest(bundled)
            version, before = known.get(consumer, (0, ""))
            if content != before:
                version = max(version + 1, int(now))
                changed.append((consumer, version, content))
            if content != before or refresh:
                replace_file(path, self._signed(consumer, version, bundled, now))
        return changed

    def _consumers(self, snapshot: Snapshot) -> Iterable[tuple[str, Path, tuple[BundledServer, ...]]]:
        deployed = snapshot.all_deployed
        yield EDGE, self._home.edge_bundle, tuple(server.bundled() for server in deployed)
        for server in deployed:
            yield self._own(server, server.bundled())
        for server in snapshot.shut:
            # Its process may run: it must learn that nobody is granted, not go on with what it has.
            yield self._own(server, server.bundled_shut())

    def _own(self, server: RegisteredServer, bundled: BundledServer) -> tuple[str, Path, tuple[BundledServer, ...]]:
        return str(server.name), self._home.bundle(server.name), (bundled,)

    def _digest(self, bundled: tuple[BundledServer, ...]) -> str:
        own = json.dumps([server.model_dump(mode="json") for server in bundled], sort_keys=True)
        return hashlib.sha256(f"{self._common}\n{own}".encode()).hexdigest()

    def _signed(self, consumer: str, version: int, bundled: tuple[BundledServer, ...], now: float) -> str:
        bundle = Bundle(
            consumer=consumer,
            version=version,
            issued_at=int(now),
            issuer=self._issuer,
            jwks=self._jwks,
            servers=bundled,
            revoked=self._void,
            max_age_s=self._ages.grants_s,
            stops_max_age_s=self._ages.stops_s,
        )
        return bundle.sign(self._signer)
