"""A cluster as a runtime (`runtime.interface`): the hub's word becomes objects, and the cluster's becomes the hub's.

It remembers nothing that the cluster does not: begun anew, it waits for the hub's word and finds its objects by their
labels. While the API is away what runs goes on, and what was seen last stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pegboard.core.names import ServerName
from pegboard.core.publishing import Trouble
from pegboard_hub.common.runtimes import RuntimeFile
from pegboard_hub.common.tasks import end
from pegboard_hub.publishing.orders import (
    Desired,
    DesiredRelease,
    LogPage,
    LogQuestion,
    Observed,
    ObservedRelease,
)
from pegboard_hub.runtime.kubernetes import looking
from pegboard_hub.runtime.kubernetes.api import ApiAway, ApiRefused, Cluster, WatchEnded
from pegboard_hub.runtime.kubernetes.applying import Applying, Drift, refused_of, unique
from pegboard_hub.runtime.kubernetes.asking import Ask, Said, ask_all
from pegboard_hub.runtime.kubernetes.logs import read_logs
from pegboard_hub.runtime.kubernetes.manifests import CannotRun, release_objects, spiffe_id
from pegboard_hub.runtime.kubernetes.objects import (
    NAMESPACE,
    RELEASE,
    SERVER,
    Json,
    Manifest,
    ours,
    release_labels,
    release_name,
    server_name,
)
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings
from pegboard_hub.runtime.verified import RENEWED_S, NotSigned, NotStarted, check_egress, check_release

logger = logging.getLogger(__name__)

RESYNC_S: Final = 30.0
"""Seconds after which everything is looked at, whatever was heard: what watches miss is not missed for long."""

AGAIN_S: Final = 2.0
"""Seconds until the next try while the API is away, at first; doubled up to `RESYNC_S`."""

SEEN: Final = ("Pod", "EndpointSlice", "Deployment")
"""What is watched: how releases do, and whether somebody changes them."""

ASK_S: Final = 2.0
"""How often pods are asked how they do, in seconds."""

MOST_DRIFT: Final = 50

NOTED_S: Final = 3600.0
"""Seconds for which it is told that somebody changed an object."""

MOST_NOTES: Final = 5

STAYS: Final = "one replica stays while nobody calls: in a cluster nothing holds a call until a pod is there"


_Key = tuple[str, str, str]
"""Namespace and server of Pegboard, and the release as labels have it."""


def _key(labels: Mapping[str, str]) -> _Key:
    return labels.get(NAMESPACE, ""), labels.get(SERVER, ""), labels.get(RELEASE, "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release as it should be here.

    Attributes:
        objects: its objects; empty where it is not run.
        trouble: why it is not.
    """

    server: ServerName
    desired: DesiredRelease
    objects: tuple[Manifest, ...] = ()
    trouble: Trouble | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Server and release."""
        return str(self.server), self.desired.release


class KubernetesRuntime:
    """Servers as pods.

    Args:
        cluster: the namespace that they run in.
        settings: what the operator says of it.
        credential: what this runtime shows at the hub.
        release_keys: file with the public JWKS that releases are verified with, as the hub last said.
        resync_s: seconds after which everything is looked at.
        ask: asks a pod how it does; without one nobody is asked.

    Attributes:
        drift: what others changed lately, the newest last.
        fault: why the API is not heard; empty while it is.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ClusterSettings,
        credential: RuntimeFile,
        release_keys: Path,
        resync_s: float = RESYNC_S,
        ask: Ask | None = None,
    ) -> None:
        self.drift: list[Drift] = []
        self.fault = ""
        self._cluster = cluster
        self._settings = settings
        self._credential = credential
        self._release_keys = release_keys
        self._resync_s = resync_s
        self._applying = Applying(cluster, settings.runtime)
        self._wanted: tuple[Wanted, ...] | None = None
        self._desired: Desired | None = None
        self._unsigned: dict[tuple[str, str], float] = {}
        self._version = ""
        self._seen: dict[str, dict[str, Json]] = {kind: {} for kind in SEEN}
        self._refused: dict[str, str] = {}
        self._noted: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._work(), name="make the cluster so")]
        self._said: dict[str, Said] = {}
        if ask is not None:
            self._tasks.append(asyncio.create_task(self._ask_pods(ask), name="ask pods"))
        self._tasks += [asyncio.create_task(self._follow(kind), name=f"watch {kind}") for kind in SEEN]

    @property
    def name(self) -> str:
        """As in `Observed.runtime`."""
        return self._settings.runtime

    async def bring_about(self, desired: Desired) -> None:
        """Take note of what should run."""
        self._desired = desired
        self._want_all(desired)
        self._version = desired.version
        self._wake.set()
        self._news.set()

    async def observed(self) -> Observed:
        """How everything does, as the watches last told."""
        by_release = self._by_release()
        releases = tuple(self._observe(each, by_release) for each in self._wanted or ())
        return Observed(runtime=self.name, version=self._version, releases=releases)

    async def changed(self, wait_s: float) -> None:
        """Wait for something new."""
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def logs(self, question: LogQuestion) -> LogPage:
        """Lines of one server's pods, as the kubelet keeps them: of the running container and the one before it."""
        return await read_logs(self._cluster, self.name, list(self._seen["Pod"].values()), question)

    async def close(self) -> None:
        """Leave. What runs goes on."""
        await end(*self._tasks)
        await self._cluster.close()

    def _want_all(self, desired: Desired) -> None:
        before = {each.key: each for each in self._wanted or () if each.objects}
        wanted = tuple(
            self._want(server.server, release, before.get((server.server, release.release)))
            for server in desired.servers
            for release in server.releases
        )
        self._unsigned = {key: at for key, at in self._unsigned.items() if any(each.key == key for each in wanted)}
        self._wanted = wanted

    def _want(self, name: str, release: DesiredRelease, before: Wanted | None) -> Wanted:
        try:
            server = ServerName.parse(name)
        except ValueError as error:
            raise AssertionError("the hub names servers that are none") from error
        try:
            check_release(name, release, self._release_keys)
            check_egress(release)
            keys = self._release_keys.read_text(encoding="utf-8")
            objects = release_objects(server, release, self._settings, self._credential, keys)
        except NotSigned as error:
            # A key leaked, and the hub signs anew: what was verified when it started goes on for so long.
            noticed = self._unsigned.setdefault((name, release.release), time.monotonic())
            if before is not None and time.monotonic() - noticed < RENEWED_S:
                return before
            return Wanted(server, release, trouble=error.trouble)
        except NotStarted as error:
            return Wanted(server, release, trouble=error.trouble)
        except CannotRun as error:
            return Wanted(server, release, trouble=Trouble(step="starting", what=str(error), mend=error.mend))
        self._unsigned.pop((name, release.release), None)
        return Wanted(server, release, objects)

    def _observe(self, wanted: Wanted, by_release: Mapping[_Key, Mapping[str, list[Json]]]) -> ObservedRelease:
        server, release = wanted.server, wanted.desired.release
        if wanted.trouble is not None:
            return ObservedRelease(server=str(server), release=release, step="failed", trouble=wanted.trouble)
        labels = release_labels(self.name, server, release)
        seen = looking.observe(
            str(server),
            release,
            spiffe_id(server, self._settings),
            wanted.desired.manifest.resources,
            by_release.get(_key(labels), {}),
        )
        replicas = tuple(each.model_copy(update=self._word_of(each.id)) for each in seen.replicas)
        seen = seen.model_copy(update={"replicas": replicas, "notes": self._notes(wanted)})
        refused = self._refused.get(release, "")
        if refused and not any(each.state == "ready" for each in seen.replicas):
            trouble = Trouble(step="starting", what=refused, mend="have the operator look at the cluster")
            return seen.model_copy(update={"step": "failed", "trouble": trouble})
        return seen

    def _word_of(self, pod: str) -> dict[str, object]:
        said = self._said.get(pod)
        return {} if said is None else {"in_flight": said.in_flight, "smoke": said.smoke}

    async def _ask_pods(self, ask: Ask) -> None:
        while True:
            there = [
                (name, str(pod["status"]["podIP"]))
                for name, pod in self._seen["Pod"].items()
                if pod.get("status", {}).get("podIP") and not pod["metadata"].get("deletionTimestamp")
            ]
            try:
                said = await ask_all(ask, there)
            except Exception:
                logger.exception("pods could not be asked how they do")
                said = {}
            if said != self._said:
                self._said = said
                self._news.set()
            await asyncio.sleep(ASK_S)

    def _by_release(self) -> dict[_Key, dict[str, list[Json]]]:
        """What is seen of each release, by kind."""
        sorted_out: defaultdict[_Key, defaultdict[str, list[Json]]] = defaultdict(lambda: defaultdict(list))
        for kind, objects in self._seen.items():
            for each in objects.values():
                sorted_out[_key(each.get("metadata", {}).get("labels") or {})][kind].append(each)
        return {key: dict(found) for key, found in sorted_out.items()}

    async def _work(self) -> None:
        wait = AGAIN_S
        while True:
            self._wake.clear()
            if self._unsigned and self._desired is not None:
                self._want_all(self._desired)
            if self._wanted is not None:
                try:
                    await self._make_so(self._wanted)
                    self._say("")
                    wait = AGAIN_S
                except ApiAway as error:
                    self._say(str(error))
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, self._resync_s)
                    continue
                except Exception:
                    logger.exception("the cluster could not be made so")
            try:
                async with asyncio.timeout(self._resync_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _make_so(self, wanted: tuple[Wanted, ...]) -> None:
        # What does not verify is not started. What of it runs was verified once, and no such word ends it.
        kept = {
            name
            for each in wanted
            if each.trouble is not None
            for name in (server_name(each.server), release_name(each.server, each.desired.release))
        }
        outcome = await self._applying.make_so(unique(o for each in wanted for o in each.objects), kept)
        self._refused = {
            each.desired.release: words for each in wanted if (words := refused_of(outcome, each.objects))
        }
        self._note_drift(outcome.drift)
        if outcome.applied or outcome.removed or outcome.refused:
            self._news.set()

    def _note_drift(self, found: list[Drift]) -> None:
        now = time.monotonic()
        self.drift = [*self.drift, *found][-MOST_DRIFT:]
        self._noted = {name: noted for name, noted in self._noted.items() if now - noted[0] < NOTED_S}
        for each in found:
            before = self._noted.get(each.name, (now, ()))[1]
            lines = tuple(dict.fromkeys((*before, str(each))))[-MOST_NOTES:]
            self._noted[each.name] = (now, lines)
        if found:
            self._news.set()

    def _notes(self, wanted: Wanted) -> tuple[str, ...]:
        names = server_name(wanted.server), release_name(wanted.server, wanted.desired.release)
        stays = (STAYS,) if wanted.desired.scale.min == 0 else ()
        return (*stays, *(line for name in names for line in self._noted.get(name, (0.0, ()))[1]))

    async def _follow(self, kind: str) -> None:
        """Keep what is seen of a kind: list, then watch, and again whenever the watch ends."""
        wait, began = 0.0, time.monotonic()
        while True:
            try:
                listed, version = await self._cluster.list(kind, ours(self.name))
                self._take(kind, {each["metadata"]["name"]: each for each in listed})
                wait, began = 0.0, time.monotonic()
                async for event, each in self._cluster.watch(kind, ours(self.name), version):
                    self._take_one(kind, event, each)
            except WatchEnded:
                # One that ends at once is not begun again at once.
                wait = 0.0 if time.monotonic() - began > AGAIN_S else min(max(wait * 2, 0.05), AGAIN_S)
            except (ApiAway, ApiRefused) as error:
                wait = min(max(wait * 2, AGAIN_S / 4), self._resync_s)
                self._say(str(error))
            except Exception:
                logger.exception("%s could not be watched", kind)
                wait = AGAIN_S
            await asyncio.sleep(wait)

    def _take(self, kind: str, found: dict[str, Json]) -> None:
        if found != self._seen[kind]:
            self._seen[kind] = found
            self._news.set()

    def _take_one(self, kind: str, event: str, found: Json) -> None:
        name = found["metadata"]["name"]
        if event == "DELETED":
            self._seen[kind].pop(name, None)
        elif event in ("ADDED", "MODIFIED"):
            before = self._seen[kind].get(name)
            self._seen[kind][name] = found
            if kind == "Deployment" and before is not None and before.get("spec") != found.get("spec"):
                self._wake.set()
        else:
            return
        if kind == "Deployment" and event == "DELETED":
            self._wake.set()
        self._news.set()

    def _say(self, fault: str) -> None:
        if fault and not self.fault:
            logger.warning("the cluster's API is not heard, and what runs goes on: %s", fault)
        elif self.fault and not fault:
            logger.warning("the cluster's API is heard again")
        self.fault = fault
