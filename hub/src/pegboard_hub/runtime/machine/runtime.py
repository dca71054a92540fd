"""This machine as a runtime (`runtime.interface.Runtime`)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.publishing.orders import Desired, DesiredRelease, LogPage, LogQuestion, Observed
from pegboard_hub.runtime import credentials
from pegboard_hub.runtime.confined import RUN
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.installing import Installed
from pegboard_hub.runtime.machine.log_search import prune_logs, search
from pegboard_hub.runtime.machine.replica import Site
from pegboard_hub.runtime.machine.run import ReleaseRun, Tools

logger = logging.getLogger(__name__)

NAME = "machine"

AT_ONCE = 2
"""Releases that are installed, and questions about logs that are answered, at the same time."""

_Key = tuple[str, str]


class MachineRuntime:
    """Releases of submitted servers as processes under the one supervisor.

    Args:
        site: where they run; `site.changed` is replaced by this one's own.
        store: the files of artifacts.
        uv: the program that builds environments.
    """

    def __init__(self, site: Site, store: ArtifactStore, uv: Path) -> None:
        self._site = site
        self._changed = asyncio.Event()
        self._searching = asyncio.Semaphore(AT_ONCE)
        self._installed = Installed(site.home)
        self._tools = Tools(store, self._installed, uv, asyncio.Semaphore(AT_ONCE))
        self._runs: dict[_Key, tuple[ReleaseRun, asyncio.Task[None]]] = {}
        self._desired: Desired | None = None

    @property
    def name(self) -> str:
        """As in `Observed.runtime`."""
        return NAME

    def note_change(self) -> None:
        """There may be something new to observe."""
        self._changed.set()

    async def bring_about(self, desired: Desired) -> None:
        """As `Runtime.bring_about`."""
        if self._desired is None:
            _clear_leftovers(self._site.home, self._site)
            await asyncio.to_thread(self._prune)
        self._desired = desired
        self._apply()
        self.note_change()

    async def observed(self) -> Observed:
        """As `Runtime.observed`."""
        version = self._desired.version if self._desired else ""
        runs = [run.observed() for run, _ in self._runs.values()]
        return Observed(runtime=NAME, version=version, releases=tuple(runs))

    async def changed(self, wait_s: float) -> None:
        """As `Runtime.changed`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), wait_s)
        self._changed.clear()

    async def logs(self, question: LogQuestion) -> LogPage:
        """As `Runtime.logs`."""
        async with self._searching:
            return await asyncio.to_thread(search, self._site.home, question)

    def _prune(self) -> None:
        with suppress(OSError):
            self._tools.store.prune()
            prune_logs(self._site.home)

    def hold(self) -> None:
        """Start and end nothing any more: whoever ends everything does it in an order of its own, and then closes."""
        self._desired = None
        for run, _ in self._runs.values():
            run.held = True

    async def close(self) -> None:
        """End all replicas now; the edge sends nothing any more."""
        self._desired = None
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._runs.clear()

    def _apply(self) -> None:
        if self._desired is None:
            return
        wanted = _by_key(self._desired)
        for key, (run, _) in self._runs.items():
            if key in wanted:
                run.update(wanted[key])
            else:
                run.end()
        for key, release in wanted.items():
            if key not in self._runs:
                self._begin(key, release)

    def _begin(self, key: _Key, release: DesiredRelease) -> None:
        run = ReleaseRun(self._site, self._tools, ServerName.parse(key[0]), release)
        task = asyncio.create_task(run.run(), name=f"run {key[0]} {release.release[:12]}")
        self._runs[key] = run, task
        task.add_done_callback(lambda task: self._done(key, task))

    def _done(self, key: _Key, task: asyncio.Task[None]) -> None:
        run = self._runs.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s could not be kept running: %s", key[0], error, exc_info=error)
        if self._desired is None or run is None:
            return
        wanted = _by_key(self._desired)
        server = ServerName.parse(key[0])
        prune_logs(self._site.home)
        self._installed.prune(server, {each.artifact.digest for (name, _), each in wanted.items() if name == key[0]})
        self.note_change()
        if task.cancelled() or task.exception() is None:
            self._apply()  # it may be wanted again by now
        else:
            asyncio.get_running_loop().call_later(1.0, self._apply)


def _by_key(desired: Desired) -> dict[_Key, DesiredRelease]:
    return {(each.server, release.release): release for each in desired.servers for release in each.releases}


def _clear_leftovers(home: Home, site: Site) -> None:
    """Remove what replicas of an earlier run left that nobody takes over: sockets, channels and working folders.

    Their processes ended with the supervisor that started them.
    """
    site.groups.clear(but=RUN)
    for path in (*(home.run / "s").glob("*/*.sock"), *(home.run / "s").glob("*/.*")):
        if path.name != "mcp.sock":
            path.unlink(missing_ok=True)
    for path in (home.root / "credentials").glob("*~*.json"):
        path.unlink(missing_ok=True)
    for folder in (home.root / "work").glob("*~*"):
        remove_tree(folder)
    with suppress(OSError, ValueError):
        credentials.close_replicas(home, site.isolation.now)
