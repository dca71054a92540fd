"""The process `pegboard runtime builder`: builds what was submitted, wherever it is put.

It holds a credential of its own at the hub and nothing else: no key, no database, no cluster's. What it builds with
(which package indexes, which wheels of the kit) it takes from the hub alone; what it tells is held by the hub against
the source.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.asking import NotTheHub, ask_sealed
from pegboard_hub.common.home import Home
from pegboard_hub.common.runtimes import RuntimeFile, digest_of
from pegboard_hub.common.tasks import end
from pegboard_hub.packages.shelf import Shelf, platform_wheels
from pegboard_hub.publishing.orders import BUILDING, PLATFORM_WHEEL, Grounds
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.building.builder import Builder
from pegboard_hub.runtime.building.orders import builders, clear_builds
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.hub_door import ANSWER_S, HubDoor
from pegboard_hub.runtime.isolation import SETTING, Isolation, Mode, choose
from pegboard_hub.runtime.machine.artifacts import ArtifactStore

logger = logging.getLogger(__name__)

GROUNDS_EVERY_S: Final = 15.0
GROUNDS_AGAIN_S: Final = 1.0
BEAT_S: Final = 10.0

IN_A_POD: Final = (
    "in a pod a sandbox needs user namespaces and a whole /proc (docs/guides/kubernetes.md, Building); where the "
    "cluster gives neither, only off is left, which keeps nothing apart"
)
"""What to do where the isolation that is asked for does not work."""

LONGEST_NAME: Final = 60
"""Characters of what a builder calls itself to the hub, beside the number of each build at once."""

MOST_CACHED: Final = 4 * 1024**3
"""Bytes of packages that are kept between builds."""


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """What the process is started with.

    Attributes:
        credential: what it shows at the hub.
        hub_socket: where the hub's internal door is; a sidecar makes it, where the hub is another pod.
        home: folder that it works in; it may be lost.
        isolation: how the author's code is run (`runtime.isolation`): auto, bubblewrap, user or off.
        most_cached: bytes of packages that are kept between builds.
        at_once: how many builds.
    """

    credential: RuntimeFile
    hub_socket: Path
    home: Path
    isolation: str = "auto"
    most_cached: int = MOST_CACHED
    at_once: int = 1


class BuilderProcess:
    """All of it, put together.

    Args:
        settings: what it is started with.
        hub: the way to the hub's internal door.

    Raises:
        ConfigurationError: there is no uv, or the isolation that is asked for does not work here.

    Attributes:
        isolation: how the author's code is run.
    """

    def __init__(self, settings: BuilderSettings, hub: httpx2.AsyncBaseTransport) -> None:
        self._settings = settings
        self._home = Home.open(settings.home)
        self.isolation = _chosen(settings.isolation, self._home)
        credential = settings.credential.credential
        self._digest = digest_of(credential)
        self._client = httpx2.AsyncClient(
            transport=hub,
            base_url="http://hub",
            timeout=ANSWER_S,
            trust_env=False,
            headers={"authorization": f"Bearer {credential}"},
        )
        self._hub = HubDoor(self._client, lambda: credential)
        self._grounds = Grounds(indexes=(), kit=())
        self._shelf = Shelf(self._home)
        self._store = ArtifactStore(self._home, self._hub.artifact, lambda: platform_wheels(self._home))
        builder = Builder(
            self._home,
            GrowingIsolation(self.isolation),
            preflight.find_uv(),
            self._store,
            self._shelf.of_version,
            lambda: self._grounds.indexes,
            keeps=False,
        )
        self._builder = builder

    async def run(self) -> None:
        """Build until cancelled. An order that is under way then is given to another builder by the hub."""
        tell_of(self.isolation)
        clear_builds(self._home)
        platform_wheels(self._home)
        beating = asyncio.create_task(self._beat(), name="beat")
        tasks = [beating]
        try:
            await self._first_grounds()
            stem = name_of(self._settings.credential)
            loops = builders(self._home, self._hub, self._builder, stem, self._settings.at_once)
            tasks += [asyncio.create_task(each.run(), name="build") for each in loops]
            tasks.append(asyncio.create_task(self._keep_grounds(), name="keep what to build by"))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                if each.done():
                    each.result()
        finally:
            await end(*tasks)
            await self._hub.close()

    async def take_grounds(self) -> None:
        """Ask the hub what to build by, and for the wheels of the kit that are not here.

        Raises:
            NotTheHub: the answer is not the hub's to this question.
            httpx2.HTTPError: there was none.
            ValueError: it cannot be read, or a wheel is not what its digest says.
            OSError: a wheel cannot be written.
        """
        answer = await ask_sealed(self._client, BUILDING, self._digest)
        answer.raise_for_status()
        said = Grounds.model_validate_json(answer.content)
        for each in said.kit:
            kept = self._shelf.of_version(each.version)
            if kept is None or kept.digest != each.digest:
                wheel = await self._client.get(PLATFORM_WHEEL.format(digest=each.digest))
                wheel.raise_for_status()
                self._shelf.take(each.version, each.digest, each.file, wheel.content)
        self._grounds = said

    async def _first_grounds(self) -> None:
        """Nothing can be built before: a lock file may name no index yet."""
        while True:
            try:
                return await self.take_grounds()
            except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
                logger.warning("what to build by cannot be had, and is asked for again: %s", error)
                await asyncio.sleep(GROUNDS_AGAIN_S)

    async def _keep_grounds(self) -> None:
        while True:
            await asyncio.sleep(GROUNDS_EVERY_S)
            try:
                await self.take_grounds()
                await asyncio.to_thread(self._store.prune, self._settings.most_cached)
            except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
                logger.warning("what to build by stays as it was: %s", error)

    async def _beat(self) -> None:
        while True:
            (self._home.root / "beat").touch()
            await asyncio.sleep(BEAT_S)


def _chosen(setting: str, home: Home) -> Isolation:
    try:
        return choose(setting, home, (), Path(sys.executable))
    except ConfigurationError as error:
        raise ConfigurationError(SETTING, [*error.problems, IN_A_POD]) from error


def name_of(credential: RuntimeFile) -> str:
    """What this process calls itself to the hub: another for each."""
    tail = f"-{os.getpid()}"
    return f"{credential.name}-{socket.gethostname()}"[: LONGEST_NAME - len(tail)] + tail


def tell_of(isolation: Isolation) -> None:
    """Say how the author's code is run; where nothing keeps it apart, as a warning."""
    words = "isolation of authors' code is %s: %s"
    if isolation.mode is Mode.BUBBLEWRAP:
        logger.info(words, isolation.mode, isolation.why)
        return
    logger.warning(words, isolation.mode, isolation.why)
