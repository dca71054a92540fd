"""The registry: what exists, whose it is and who may reach it, kept in line with its sources while the hub runs."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import GrantsFile
from pegboard_hub.registry import store
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.model import RegisteredServer, Release, Snapshot
from pegboard_hub.registry.sources import Declarations, Fingerprint, fingerprint, read_grants_file, settled
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Seconds until a writing that failed is tried again."""

_State = tuple[Fingerprint | None, tuple[Fingerprint | None, ...]]


class Registry:
    """Loads the sources into the tables, the tables into a snapshot, and the snapshot into bundles."""

    def __init__(
        self,
        database: Database,
        declarations: Declarations,
        bundles: BundleWriter,
        grants: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._declarations = declarations
        self._bundles = bundles
        self._grants = grants
        self._clock = clock
        self._file: GrantsFile | None = None
        self._parsed: dict[tuple[str, str], Release] = {}
        self._seen: _State | None = None
        self._revoked = asyncio.Event()
        self.current = Snapshot()

    @property
    def bundles_signed_at(self) -> float:
        """When all bundles were last signed, in seconds since the epoch; 0 before."""
        return self._bundles.signed_at

    async def start(self) -> None:
        """Begin with what the tables say from last time, then take over what the sources say now.

        A full disk leaves it with the former, so that the hub can at least be asked; `watch` does the rest later.

        Raises:
            OSError: bundles cannot be written for another reason.
        """
        async with self._database.read() as connection:
            self._replace(await store.load(connection, self._parsed), "", [])
        try:
            while not await self.refresh():
                log.info("waiting for the grants file to be written")
        except (OSError, StorageUnavailable) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.exception("the registry goes on with what it knew: there is no room on the disk")

    async def refresh(self) -> bool:
        """Look at the sources and take over what changed.

        A broken grants file changes nothing but the list of problems: the last good one stays in force, also across
        a restart, because the tables still say it.

        Returns:
            True when something changed.

        Raises:
            OSError: bundles cannot be written.
        """
        names = self._names()
        state = await asyncio.to_thread(self._look, names)
        if state == self._seen or not await settled(self._grants, state[0]):
            return False
        await self._take_over()
        changed = await self._bundles.write(self.current, self._clock(), refresh=self._seen is None)
        # A grants file that names other servers brings declarations nobody has looked at: look once more, next time.
        self._seen = state if self._names() == names else None
        for problem in self.current.problems:
            log.error("registry problem", extra={"problem": problem})
        log.info("registry loaded", extra={"servers": len(self.current.servers), "new_bundles": changed})
        return True

    async def resign(self) -> None:
        """Sign every bundle again with the time of now, so that its age tells consumers the hub is alive."""
        await self._bundles.write(self.current, self._clock(), refresh=True)

    def revoked(self) -> None:
        """Take note that something was revoked, or that an entry has left; `watch_revoked` tells edge and servers."""
        self._revoked.set()

    async def watch_revoked(self) -> None:
        """Bring what was revoked to edge and servers at once, until cancelled.

        All bundles are written for it. What is revoked during one writing goes into the next, and between the two
        the hub has as long for everything else.
        """
        while True:
            await self._revoked.wait()
            self._revoked.clear()
            began = time.monotonic()
            try:
                await self._bundles.write(self.current, self._clock(), refresh=False)
            except Exception:
                log.exception("what was revoked could not be told to edge and servers, and is tried again")
                self._revoked.set()
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(time.monotonic() - began)

    async def watch(self, poll_s: float, resign_s: float) -> None:
        """Follow the sources until cancelled. A failure is logged and tried again at the next look."""
        due = time.monotonic() + resign_s
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.refresh()
                if time.monotonic() >= due:
                    await self.resign()
                    due = time.monotonic() + resign_s
            except Exception:
                log.exception("the registry could not be refreshed")

    def _names(self) -> tuple[str, ...]:
        return tuple(self._file.servers) if self._file else tuple(self.current.servers)

    def _look(self, names: tuple[str, ...]) -> _State:
        return fingerprint(self._grants), self._declarations.fingerprints(names)

    async def _take_over(self) -> None:
        fault, unusable = "", list[str]()
        try:
            self._file = await asyncio.to_thread(read_grants_file, self._grants)
        except ConfigurationError as error:
            fault = str(error)
        async with self._database.write() as connection:
            if self._file is not None:
                deployed = await self._deployed(self._file, unusable)
                await store.sync(connection, self._file, deployed, int(self._clock() * 1000))
            servers = await store.load(connection, self._parsed)
        self._replace(servers, fault, unusable)

    async def _deployed(self, file: GrantsFile, unusable: list[str]) -> dict[str, Release | None]:
        """The release of each server; where its declaration is broken, the last good one."""
        deployed: dict[str, Release | None] = {}
        for name in file.servers:
            found = await asyncio.to_thread(self._declarations.read, name)
            deployed[name] = found.release
            if found.problem:
                unusable.append(found.problem)
                before = self.current.servers.get(name)
                deployed[name] = before.release if before else None
            elif found.release:
                deployed[name] = self._parsed.get((name, found.release.digest), found.release)
        return deployed

    def _replace(self, servers: list[RegisteredServer], fault: str, unusable: list[str]) -> None:
        self._parsed = {(str(s.name), s.release.digest): s.release for s in servers if s.release}
        self.current = Snapshot(
            servers={str(server.name): server for server in servers if server.registered},
            withdrawn=tuple(server for server in servers if not server.registered and server.release),
            fault=fault,
            unusable=tuple(unusable),
        )
