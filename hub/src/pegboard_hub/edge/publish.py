"""Putting a rendered configuration where Envoy sees it, in an order in which nothing points at what is not there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

from pegboard_hub.common.home import replace_file
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.config import CLUSTERS, ROUTES
from pegboard_hub.edge.envoy import Json, discovery
from pegboard_hub.edge.filters import WATCHED, file_of

logger = logging.getLogger(__name__)

ACKNOWLEDGED_WITHIN_S = 3.0
"""How long Envoy may take to say that it uses a file, in seconds."""

_STATISTICS = {
    CLUSTERS: "cluster_manager.cds",
    ROUTES: "http.edge.rds.pegboard",
    **{file_of(name): f"extension_config_discovery.http_filter.{name}" for name in WATCHED},
}
"""Files whose use is waited for, by the statistics that name their version."""


class Publisher:
    """Writes the files of one edge. A file whose content did not change is left alone."""

    def __init__(self, folder: Path, admin: EnvoyAdmin) -> None:
        self._folder = folder
        self._admin = admin
        self._written: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self._clusters: list[Json] | None = None

    async def publish(self, documents: dict[str, Json]) -> None:
        """Make `documents` the configuration.

        Clusters come before the routes that name them and go after them.

        Raises:
            OSError: a file cannot be written.
        """
        wanted = documents[CLUSTERS]
        if leaving := self._leaving(wanted):
            documents = {**documents, CLUSTERS: discovery(*wanted["resources"], *leaving)}
        for name, document in documents.items():
            await self._put(name, document)
        if leaving:
            await self._put(CLUSTERS, wanted)
        self._clusters = wanted["resources"]
        put = {**documents, CLUSTERS: wanted}
        self._versions = {statistic: put[name]["version_info"] for name, statistic in _STATISTICS.items()}

    async def used(self) -> bool:
        """Whether Envoy says that it uses all of what was published last; one that does not answer says nothing."""
        versions = await self._admin.versions() or {}
        return bool(self._versions) and self._versions.items() <= versions.items()

    def _leaving(self, wanted: Json) -> list[Json]:
        """Clusters that are in use and will not be any more."""
        if self._clusters is None:
            try:
                self._clusters = json.loads(self._text(CLUSTERS))["resources"]
            except (ValueError, KeyError):
                self._clusters = []
        names = {cluster["name"] for cluster in wanted["resources"]}
        return [cluster for cluster in self._clusters if cluster["name"] not in names]

    async def _put(self, name: str, document: Json) -> None:
        version = document.get("version_info", "")
        if version and version == self._versions.get(name):
            return  # it is the content's digest: nothing has to be written out to be compared
        self._versions[name] = version
        text = json.dumps(document, separators=(",", ":"))
        if text == self._text(name):
            return
        try:
            replace_file(self._folder / name, text)
        except OSError:
            del self._versions[name]
            raise
        self._written[name] = text
        if name in _STATISTICS:
            await self._acknowledged(_STATISTICS[name], version)

    def _text(self, name: str) -> str:
        if name not in self._written:
            try:
                self._written[name] = (self._folder / name).read_text(encoding="utf-8")
            except OSError:
                self._written[name] = ""
        return self._written[name]

    async def _acknowledged(self, source: str, version: str) -> None:
        """Wait until Envoy uses this version. An Envoy that is not running needs no waiting for."""
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        while time.monotonic() < deadline:
            versions = await self._admin.versions()
            if versions is None or versions.get(source) == version:
                return
            await asyncio.sleep(0.02)
        logger.error("envoy does not use version %s of %s; its log says why", version, source)
