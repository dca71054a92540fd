"""A version of a server as the official API tells it: `ServerResponse`, its `server` by the schema of 2025-12-11.

What is told is a list of its own and not the manifest less some fields: owner, support channel, groups, sensitivity,
the reasons people wrote, and whatever a manifest gains later stay behind the sign-in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pegboard_hub.registry.official.catalogue import Listed, Status
from pegboard_hub.registry.official.text import first_that_fits
from pegboard_hub.registry.official.versions import ReleaseVersion

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
OFFICIAL = "io.modelcontextprotocol.registry/official"
"""The key in `_meta` for what a registry says of an entry. It is closed: nothing of ours goes in."""

_MESSAGES = {
    Status.DEPRECATED: "Deprecated. Its page says why, and what to use instead: {page}",
    Status.DELETED: "No longer served.",
}
"""What is said of a standing. The reasons that people wrote are for those who sign in."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a listed server.

    Attributes:
        place: its number among the server's versions, oldest first.
        is_latest: whether it is the one that is called, after a rollback not the newest; of a server that nobody can
            call the newest.
        title: as the author wrote it for this version.
        description: likewise.
        status_changed_at_ms: when the server's lifecycle changed last; None for unknown.
    """

    listed: Listed
    version: ReleaseVersion
    place: int
    is_latest: bool
    title: str | None = None
    description: str = ""
    status_changed_at_ms: int | None = None

    @property
    def updated_at_ms(self) -> int:
        """When what is told here changed last, or later: a change of the server counts for all its versions."""
        own = self.version.superseded_at_ms or self.version.published_at_ms
        return max(own, self.version.published_at_ms, self.listed.server.updated_at_ms)

    def as_json(self, public_url: str) -> dict[str, Any]:
        """The entry as a `ServerResponse`."""
        page = f"{public_url}/servers/{self.listed.key}"
        return {"server": self._server(public_url, page), "_meta": {OFFICIAL: self._official(page)}}

    def _server(self, public_url: str, page: str) -> dict[str, Any]:
        title = first_that_fits(self.title)
        told = {
            "$schema": SCHEMA,
            "name": self.listed.official,
            **({"title": title} if title else {}),
            "description": first_that_fits(self.description, title) or f"MCP server {self.listed.server.name.name}",
            "version": self.version.semver,
        }
        if self.listed.status is Status.DELETED:
            return told
        url = self.listed.server.name.resource_url(public_url)
        return {**told, "websiteUrl": page, "remotes": [{"type": "streamable-http", "url": url}]}

    def _official(self, page: str) -> dict[str, Any]:
        status = self.listed.status
        message, changed = _MESSAGES.get(status), self.status_changed_at_ms
        return {
            "status": status.value,
            **({"statusMessage": message.format(page=page)} if message else {}),
            **({"statusChangedAt": rfc3339(changed)} if changed is not None else {}),
            "publishedAt": rfc3339(self.version.published_at_ms),
            "updatedAt": rfc3339(self.updated_at_ms),
            "isLatest": self.is_latest,
        }


def rfc3339(at_ms: int) -> str:
    """A moment as RFC 3339 §5.6 has it, in UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
