"""The process `pegboard runtime kubernetes`: between the hub's internal door and a cluster's API.

It holds a credential of its own at each, and nothing of the hub's: no signing key, no database. What it brings about
must be signed by the hub's ring, whose keys it takes from the hub alone (the answer is sealed with its credential).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from pegboard.core.jose import read_public_jwks
from pegboard_hub.common.asking import NotTheHub, ask_sealed
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.runtimes import RuntimeFile, digest_of
from pegboard_hub.common.tasks import end
from pegboard_hub.publishing.orders import PLATFORM_WHEEL, RELEASE_KEYS, Desired
from pegboard_hub.runtime.conversation import Conversation
from pegboard_hub.runtime.door import RuntimeDoor
from pegboard_hub.runtime.hub_door import ANSWER_S, HubDoor
from pegboard_hub.runtime.kubernetes.api import Cluster
from pegboard_hub.runtime.kubernetes.asking import PodAsker
from pegboard_hub.runtime.kubernetes.releases import HubStore, ReleaseDoor
from pegboard_hub.runtime.kubernetes.runtime import KubernetesRuntime
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings

logger = logging.getLogger(__name__)

KEYS_EVERY_S: Final = 30.0
KEYS_AGAIN_S: Final = 1.0
BEAT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the process is started with.

    Attributes:
        cluster: what the operator says of the cluster.
        credential: what it shows at the hub.
        hub_socket: where the hub's internal door is; a sidecar makes it, where the hub is another pod.
        releases_socket: where pods' way to releases ends; a sidecar stands in front of it.
        home: folder of files that are kept, which may be lost.
        logs_socket: where the hub asks for logs, which a sidecar stands in front of; None where it cannot.
        kubeconfig: of a cluster outside; None for the one that it runs in.
    """

    cluster: ClusterSettings
    credential: RuntimeFile
    hub_socket: Path
    releases_socket: Path
    home: Path
    kubeconfig: Path | None = None
    logs_socket: Path | None = None


class Offering(KubernetesRuntime):
    """The runtime, which lets pods fetch what the hub desires."""

    door: ReleaseDoor
    renew: Callable[[], Awaitable[None]]

    async def bring_about(self, desired: Desired) -> None:
        """Take note; what pods may fetch first, so that none finds nothing, and the keys as they are now."""
        await self.renew()
        self.door.offer(release.artifact for server in desired.servers for release in server.releases)
        await super().bring_about(desired)


class RuntimeProcess:
    """All of it, put together.

    Args:
        settings: what it is started with.
        cluster: the namespace.
        hub: the way to the hub's internal door.
    """

    def __init__(self, settings: ProcessSettings, cluster: Cluster, hub: httpx2.AsyncBaseTransport) -> None:
        self._settings = settings
        self._home = Home.open(settings.home)
        (self._home.root / "artifacts").mkdir(exist_ok=True)
        credential = settings.credential.credential
        self._client = httpx2.AsyncClient(
            transport=hub,
            base_url="http://hub",
            timeout=ANSWER_S,
            trust_env=False,
            headers={"authorization": f"Bearer {credential}"},
        )
        door = HubDoor(self._client, lambda: credential)
        self._hub = door
        kept = HubStore(self._home, door.artifact, self._platform)
        self._asker = PodAsker()
        self.runtime = Offering(
            cluster, settings.cluster, settings.credential, self._home.release_keys, ask=self._asker
        )
        self.runtime.door = ReleaseDoor(kept, settings.releases_socket)
        self.runtime.renew = self._renew_keys
        self._conversation = Conversation(door, self.runtime)
        self._asked = RuntimeDoor(self.runtime, settings.logs_socket) if settings.logs_socket else None

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            OSError: a socket cannot be bound.
        """
        await self._first_keys()
        tasks = [
            asyncio.create_task(each, name=name)
            for each, name in (
                (self._conversation.run(), "talk to the hub"),
                (self.runtime.door.run(), "let pods fetch"),
                (self._keep_keys(), "keep the release keys"),
                (self._beat(), "beat"),
            )
        ]
        if self._asked is not None:
            tasks.append(asyncio.create_task(self._asked.run(), name="be asked for logs"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                if each.done():
                    each.result()
        finally:
            await end(*tasks)
            await self.close()

    async def close(self) -> None:
        """Leave. What runs goes on."""
        await self.runtime.close()
        await self._asker.close()
        await self._hub.close()

    async def take_keys(self) -> None:
        """Ask the hub for the keys that releases are verified with.

        Raises:
            NotTheHub: the answer is not the hub's to this question.
            httpx2.HTTPError: there was none.
            OSError: they cannot be written.
        """
        answer = await ask_sealed(self._client, RELEASE_KEYS, digest_of(self._settings.credential.credential))
        answer.raise_for_status()
        read_public_jwks(answer.json())
        text = answer.text
        kept = self._home.release_keys
        if not kept.exists() or kept.read_text(encoding="utf-8") != text:
            replace_file(kept, text)

    async def _first_keys(self) -> None:
        """Nothing can be verified without; those of an earlier start do."""
        while not self._home.release_keys.exists():
            try:
                await self.take_keys()
            except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
                logger.warning(
                    "the keys that releases are verified with cannot be had, and are asked for again: %s", error
                )
                await asyncio.sleep(KEYS_AGAIN_S)

    async def _keep_keys(self) -> None:
        while True:
            await self._renew_keys()
            await asyncio.sleep(KEYS_EVERY_S)

    async def _renew_keys(self) -> None:
        try:
            await self.take_keys()
        except (NotTheHub, httpx2.HTTPError, OSError, ValueError) as error:
            logger.warning("the keys that releases are verified with stay as they were: %s", error)

    async def _beat(self) -> None:
        while True:
            (self._home.root / "beat").touch()
            await asyncio.sleep(BEAT_S)

    async def _platform(self, digest: str) -> bytes:
        answer = await self._client.get(PLATFORM_WHEEL.format(digest=digest))
        answer.raise_for_status()
        return answer.content
