"""Putting a rendered configuration where Envoy sees it, in an order in which nothing points at what is not there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from pegboard_hub.common.home import replace_file
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.config import CLUSTERS, ROUTES, SERVICE_ROUTES
from pegboard_hub.edge.envoy import Json, discovery
from pegboard_hub.edge.filters import WATCHED, file_of
from pegboard_hub.edge.replicas import with_leaving

logger = logging.getLogger(__name__)

ACKNOWLEDGED_WITHIN_S = 3.0
"""How long Envoy may take to say that it uses a file, in seconds."""

_STATISTICS = {
    CLUSTERS: "cluster_manager.cds",
    ROUTES: "http.edge.rds.pegboard",
    SERVICE_ROUTES: "http.services.rds.services",
    **{file_of(name): f"extension_config_discovery.http_filter.{name}" for name in WATCHED},
}
"""Files whose use is waited for, by the statistics that name their version."""


def _staying(cluster: Json, before: Json | None) -> Json:
    """A cluster while routes may still be those of the one before it."""
    same = before is None or before["load_assignment"] is cluster["load_assignment"]
    return cluster if before is None or same else with_leaving(cluster, before)


class Publisher:
    """Writes the files of one edge. A file whose content did not change is left alone."""

    def __init__(self, folder: Path, admin: EnvoyAdmin) -> None:
        self._folder = folder
        self._admin = admin
        self._written: dict[str, str] = {}
        self._put_versions: dict[str, str] = {}  # by file
        self._versions: dict[str, str] = {}  # by the statistic that Envoy tells it with, of what was published last
        self._clusters: list[Json] | None = None
        self._refused: set[str] = set()

    async def publish(self, documents: dict[str, Json]) -> None:
        """Make `documents` the configuration.

        Clusters come before the routes that name them and go after them, and so do the replicas of a release.

        Raises:
            OSError: a file cannot be written.
        """
        wanted = documents[CLUSTERS]
        at_first = self._at_first(wanted)
        for name, document in {**documents, CLUSTERS: at_first}.items():
            await self._put(name, document)
        await self._put(CLUSTERS, wanted)
        self._clusters = wanted["resources"]
        put = {**documents, CLUSTERS: wanted}
        self._versions = {
            statistic: put[name]["version_info"] for name, statistic in _STATISTICS.items() if name in put
        }

    @property
    def refused(self) -> tuple[str, ...]:
        """Files of which Envoy did not take the last version, so that it goes on with the one before."""
        return tuple(sorted(self._refused))

    async def used(self) -> bool:
        """Whether Envoy says that it uses all of what was published last; one that does not answer says nothing."""
        versions = await self._admin.versions() or {}
        self._refused -= {name for name, source in _STATISTICS.items() if versions.get(source) == self._wanted(name)}
        return bool(self._versions) and self._versions.items() <= versions.items()

    def _wanted(self, name: str) -> str | None:
        return self._versions.get(_STATISTICS[name])

    def _at_first(self, wanted: Json) -> Json:
        """The clusters with what is in use and will not be any more."""
        if self._clusters is None:
            try:
                self._clusters = json.loads(self._text(CLUSTERS))["resources"]
            except (ValueError, KeyError):
                self._clusters = []
        before = {cluster["name"]: cluster for cluster in self._clusters}
        staying = [_staying(cluster, before.pop(cluster["name"], None)) for cluster in wanted["resources"]]
        if not before and staying == wanted["resources"]:
            return wanted
        return discovery(*staying, *before.values())

    async def _put(self, name: str, document: Json) -> None:
        version = document.get("version_info", "")
        if version and version == self._put_versions.get(name):
            return  # it is the content's digest: nothing has to be written out to be compared
        self._put_versions[name] = version
        text = json.dumps(document, separators=(",", ":"))
        if text == self._text(name):
            return
        try:
            replace_file(self._folder / name, text)
        except OSError:
            del self._put_versions[name]
            raise
        self._written[name] = text
        if name in _STATISTICS:
            await self._acknowledged(name, version)

    def _text(self, name: str) -> str:
        if name not in self._written:
            try:
                self._written[name] = (self._folder / name).read_text(encoding="utf-8")
            except OSError:
                self._written[name] = ""
        return self._written[name]

    async def _acknowledged(self, name: str, version: str) -> None:
        """Wait until Envoy uses this version. One that is not running, or does not know the file yet, needs none."""
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        while time.monotonic() < deadline:
            versions = await self._admin.versions()
            if versions is None or versions.get(_STATISTICS[name], version) == version:
                self._refused.discard(name)
                return
            await asyncio.sleep(0.02)
        self._refused.add(name)
        logger.error(
            "envoy does not use version %s of %s, and goes on with the last; its log says why", version, name
        )
