"""The registry: what exists, whose it is and who may reach it, kept in line with its sources while the hub runs."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.grants import GrantsFile, PublicRegistry, Reviews
from pegboard_hub.common.waiting import Waiting
from pegboard_hub.registry import store
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.following import Following, Imported
from pegboard_hub.registry.history import newest_seq
from pegboard_hub.registry.model import Snapshot
from pegboard_hub.registry.sources import Looked, Sources
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Seconds until a writing that failed is tried again."""


Kept = Callable[[], None]
Settle = Callable[[Changing], Awaitable[Kept | None]]
"""What another subject does in each transaction of changes before it is kept; gives what to do once it is."""


class Registry:
    """The registry in memory: kept in line with its tables, and they with the operator's sources.

    What everybody decides with is `current`. It is replaced after each change, by this hub's own changes at once and
    by another replica's when `watch` sees them.
    """

    def __init__(
        self,
        database: Database,
        sources: Sources,
        bundles: BundleWriter,
        clock: Callable[[], float] = time.time,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare.

        Args:
            database: has the registry's tables.
            sources: the grants file and the declarations.
            bundles: writes what edge and servers decide with.
            clock: seconds since the epoch.
            leads: whether this hub is the one that follows the sources and writes the bundles.
        """
        self._database = database
        self._sources = sources
        self._bundles = bundles
        self._clock = clock
        self._leads = leads
        self._imported: Imported | None = None
        self._one_at_a_time = asyncio.Lock()
        self._untold = False
        self._stands_by = False
        self._revoked = asyncio.Event()
        self._rest = asyncio.Event()
        self._dating_s = 0.0
        self._settle: Settle | None = None
        self.current = Snapshot()

    @property
    def public(self) -> PublicRegistry | None:
        """What the operator says of the official registry API; None while no grants file could be read."""
        return self._sources.file.registry if self._sources.file else None

    @property
    def bundles_signed_at(self) -> float:
        """When all bundles were last signed, in seconds since the epoch; 0 before."""
        return self._bundles.signed_at

    @property
    def written(self) -> Waiting:
        """Who waits for a bundle of a consumer, by its name."""
        return self._bundles.written

    def version_of(self, consumer: str) -> int | None:
        """The newest bundle of a consumer that this hub has written or seen; None where it has done neither."""
        return self._bundles.versions.get(consumer)

    @property
    def grants_file(self) -> GrantsFile | None:
        """The operator's file that is in force; None before there was a good one."""
        return self._sources.file

    @property
    def reviews(self) -> Reviews:
        """Who reviews servers, as the operator's file says."""
        return self._sources.file.reviews if self._sources.file else Reviews()

    async def start(self) -> None:
        """Begin with what the tables say from last time, then take over what the sources say now.

        A full disk leaves it with the former, so that the hub can at least be asked; `watch` does the rest later.

        Raises:
            OSError: bundles cannot be written for another reason.
        """
        async with self._database.read() as connection:
            servers = await store.load(connection, {})
            seq = await newest_seq(connection)
        self.current = Snapshot({str(server.name): server for server in servers}, seq=seq)
        if not self._leads():
            await self._stand_by()
            return
        try:
            while not await self.refresh():
                log.info("waiting for the grants file to be written")
            await self._bundles.write_rest()
        except (OSError, StorageUnavailable) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.exception("the registry goes on with what it knew: there is no room on the disk")

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Changing]:
        """One transaction of changes. Once they are kept, `current` has them, and edge and servers are told.

        Raises:
            StorageUnavailable: the database takes no writes; nothing was changed.
        """
        async with self._transaction() as changing:
            yield changing
        if changing.changed and self._leads():
            try:
                await self._tell()
            except OSError:
                log.exception("bundles could not be written, and are tried again")

    async def refresh(self) -> bool:
        """Look at the sources and take over what changed.

        A broken grants file changes nothing but the list of problems: the last good one stays in force, also across
        a restart, because the tables still say it.

        Returns:
            True when something was taken over.

        Raises:
            OSError: bundles cannot be written.
        """
        looked = await self._sources.look(self.current)
        if looked is None or not (looked.news or self._untold):
            return False
        following: Following | None = None
        async with self._transaction() as changing:
            following = await self._take_over(changing, looked)
        problems: tuple[str, ...] = ()
        if following is not None:
            self._imported = following.imported
            problems = self._sources.problems(looked, following.conflicts)
        first = not self._sources.taken_over
        self._sources.took(looked, self.current)
        self.current = replace(self.current, fault=looked.fault, unusable=problems)
        for problem in self.current.problems:
            log.error("registry problem", extra={"problem": problem})
        changed = await self._tell(refresh=first)
        log.info("registry loaded", extra={"servers": len(self.current.servers), "new_bundles": changed})
        return True

    @property
    def conflicting(self) -> tuple[str, ...]:
        """Servers of which the grants file says something else than the registry, which was changed since."""
        return self._sources.conflicting

    @property
    def conflicts(self) -> tuple[str, ...]:
        """What the grants file says otherwise than the registry, which was changed since, a line each."""
        return self._sources.conflicts

    async def follow_tables(self) -> bool:
        """Take over what another replica changed; true when it changed something."""
        # What this hub changes meanwhile must not be taken back by what was read before.
        async with self._one_at_a_time:
            async with self._database.read() as connection:
                newest = await self._newest(connection)
            if newest is self.current:
                return False
            self.current = newest.with_servers({}, newest.seq)
        return True

    async def resign(self) -> None:
        """Sign every bundle again with the time of now, so that its age tells consumers the hub is alive."""
        await self._bundles.write(self.current, self._clock(), refresh=True)

    def on_changing(self, settle: Settle) -> None:
        """Have something done in every transaction of changes, before it is kept, and what it gives once it is."""
        self._settle = settle

    def revoked(self) -> None:
        """Take note that something was revoked or stopped, or that it is no more; `watch_revoked` tells everybody."""
        self._revoked.set()

    async def watch_revoked(self) -> None:
        """Bring what was revoked to edge and servers at once, until cancelled.

        All bundles have it, the edge's first. What is revoked while that one is written goes into the next, and
        between the two the hub has as long for everything else.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_rest())
            while True:
                await self._revoked.wait()
                self._revoked.clear()
                if not self._leads():
                    continue  # the hub that does sees it in the table
                began = time.monotonic()
                try:
                    await self._bundles.write_first(self.current, self._clock(), refresh=False)
                    self._rest.set()
                except Exception:
                    log.exception("what was revoked could not be told to edge and servers, and is tried again")
                    self._revoked.set()
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(time.monotonic() - began)

    async def _watch_rest(self) -> None:
        """Write the bundles that the edge's did not wait for."""
        while True:
            await self._rest.wait()
            self._rest.clear()
            try:
                await self._bundles.write_rest(self._dating_s)
            except Exception:
                log.exception("some servers' bundles could not be written, and are tried again")
                self._rest.set()
                await asyncio.sleep(RETRY_S)

    async def watch(self, poll_s: float, resign_s: float) -> None:
        """Follow the sources until cancelled. A failure is logged and tried again at the next look.

        Args:
            poll_s: seconds between two looks.
            resign_s: seconds after which every bundle is dated again; half of them go by while that is done.
        """
        self._dating_s = resign_s / 2
        due = time.monotonic() + resign_s
        while True:
            await asyncio.sleep(poll_s)
            try:
                followed = await self.follow_tables()
                if not self._leads():
                    await self._stand_by()
                    continue
                if self._stands_by:
                    await self._take_over_places()
                    self._stands_by = False
                # What another hub changed, this one tells edge and servers.
                self._untold = self._untold or followed
                await self.refresh()
                if time.monotonic() >= due:
                    await self._bundles.write_first(self.current, self._clock(), refresh=True)
                    self._rest.set()
                    due = time.monotonic() + resign_s
            except Exception:
                log.exception("the registry could not be refreshed")

    async def _stand_by(self) -> None:
        """Know the grants file, and take nothing over: who comes to lead looks at everything anew, and signs it."""
        self._imported = None
        self._stands_by = True
        fault = await self._sources.follow()
        if fault != self.current.fault:
            self.current = replace(self.current, fault=fault)

    async def _take_over_places(self) -> None:
        """Know where the hub that led before has placed replicas: no history tells those that stand by."""
        async with self._one_at_a_time:
            async with self._database.read() as connection:
                placed = await store.placed(connection)
            known = {name: server for name, server in self.current.servers.items() if name in placed}
            moved = {
                name: replace(server, endpoints=placed[name])
                for name, server in known.items()
                if server.endpoints != placed[name]
            }
            if moved:
                self.current = self.current.with_servers(moved, self.current.seq)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Changing]:
        async with self._one_at_a_time:
            kept: Kept | None = None
            async with self._database.write() as connection:
                snapshot = await self._newest(connection)
                changing = Changing(connection, snapshot, int(self._clock() * 1000))
                yield changing
                if self._settle is not None and changing.changed:
                    kept = await self._settle(changing)
            self.current = snapshot.with_servers(changing.changed, changing.seq)
            if kept is not None:
                kept()

    async def _newest(self, connection: AsyncConnection) -> Snapshot:
        """`current`, with what others have changed since."""
        current = self.current
        seq = await newest_seq(connection)
        if seq <= current.seq:
            return current
        names = await store.changed_since(connection, current.seq)
        known = {
            (str(server.name), release.digest): release
            for server in (current.servers[name] for name in names if name in current.servers)
            for release in (server.release, server.waiting)
            if release is not None
        }
        servers = await store.load(connection, known, names)
        return current.with_servers({str(server.name): server for server in servers}, seq)

    async def _take_over(self, changing: Changing, looked: Looked) -> Following | None:
        """Take over what is due; None where there never was a good file."""
        file = self._sources.file
        if file is None:
            return None
        imported = await store.imported(changing.connection) if self._imported is None else dict(self._imported)
        following = Following(changing, file, imported)
        for name in sorted({*imported, *looked.gone} - file.servers.keys()):
            await following.let_go(name)
        for name in looked.due:
            if not file.servers[name].source:
                await following.take_over(name, None)
                continue
            before = changing.find(name)
            found = await asyncio.to_thread(self._sources.declarations.read, name)
            last_good = before.release or before.waiting if before else None
            await following.take_over(name, last_good if found.problem else found.release)
        return following

    async def _tell(self, *, refresh: bool = False) -> list[str]:
        self._untold = True
        changed = await self._bundles.write_first(self.current, self._clock(), refresh=refresh)
        self._untold = False
        self._rest.set()
        return changed
