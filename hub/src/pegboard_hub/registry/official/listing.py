"""Finding entries: what was asked for, page by page."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.official.catalogue import Catalogue, Listed, Status
from pegboard_hub.registry.official.entry import Entry
from pegboard_hub.registry.official.versions import ReleaseVersion, manifests, servers_with, status_changes, versions

LATEST = "latest"
AT_ONCE = 500
"""Most servers whose versions are read in one statement. It begins with as many as a page has entries, and doubles:
nearly always those are enough, and a question that few versions fit takes few statements all the same."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a list is asked for; an entry has to fit all of it.

    Attributes:
        search: part of an official name or a title, in any case; empty for every one.
        version: `latest`, or the exact version; empty for every one.
        updated_since_ms: entries that changed at that time or later; None for every one.
        include_deleted: tell also of servers that have left.
    """

    search: str = ""
    version: str = ""
    updated_since_ms: int | None = None
    include_deleted: bool = False

    def fits_server(self, listed: Listed) -> bool:
        """Whether a server's entries may fit."""
        # What the API's description says: who asks what has changed is told of what has gone.
        deleted = self.include_deleted or self.updated_since_ms is not None
        if self.updated_since_ms is not None and listed.unchanged_since(self.updated_since_ms):
            return False
        return self.search.lower() in listed.found_by and (deleted or listed.status is not Status.DELETED)

    def fits(self, entry: Entry) -> bool:
        """Whether an entry of a server that fits does so too."""
        since = self.updated_since_ms
        wanted = entry.is_latest if self.version == LATEST else self.version in ("", entry.version.semver)
        return wanted and (since is None or entry.updated_at_ms >= since)


@dataclass(frozen=True, slots=True)
class Place:
    """The entry after which a page begins: a server's name, and the number of its version."""

    server: str
    version: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and where the next ones begin; None where there are no more."""

    entries: tuple[Entry, ...]
    after: Place | None


async def page(
    connection: AsyncConnection, catalogue: Catalogue, question: Question, after: Place | None, limit: int
) -> Page:
    """Up to `limit` entries: servers by name, of each the newest version first."""
    begin = bisect_left(catalogue.listed, after.server, key=lambda listed: listed.key) if after else 0
    servers = (listed for listed in islice(catalogue.listed, begin, None) if question.fits_server(listed))
    if question.version not in ("", LATEST):
        having = await servers_with(connection, question.version)
        servers = (listed for listed in servers if listed.key in having)
    found: list[Entry] = []
    async for entry in _entries(connection, servers, limit + 1):
        if after and entry.listed.key == after.server and entry.place >= after.version:
            continue
        if not question.fits(entry):
            continue
        if len(found) == limit:
            last = found[-1]
            return Page(await _told(connection, found), Place(last.listed.key, last.place))
        found.append(entry)
    return Page(await _told(connection, found), None)


async def all_versions(connection: AsyncConnection, listed: Listed) -> tuple[Entry, ...]:
    """Every version of one server, the newest first."""
    return await _told(connection, [entry async for entry in _entries(connection, [listed], 1)])


async def _entries(connection: AsyncConnection, servers: Iterable[Listed], at_once: int) -> AsyncIterator[Entry]:
    left = iter(servers)
    while some := list(islice(left, at_once)):
        at_once = min(2 * at_once, AT_ONCE)
        known = await versions(connection, [listed.key for listed in some])
        for entry in _of(some, known):
            yield entry


def _of(servers: Sequence[Listed], known: Mapping[str, list[ReleaseVersion]]) -> Iterator[Entry]:
    for listed in servers:
        numbered = list(enumerate(known.get(listed.key, [])))
        latest = _latest(listed, known.get(listed.key, []))
        for place, version in reversed(numbered):
            yield Entry(listed, version, place, version.digest == latest)


def _latest(listed: Listed, known: Sequence[ReleaseVersion]) -> str:
    """Digest of the release that is called; where none is, of the newest that was."""
    release = listed.server.release
    return release.digest if release is not None else known[-1].digest if known else ""


async def _told(connection: AsyncConnection, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries with their authors' words, as they were pinned with each release, and since when they stand so."""
    pinned = await manifests(connection, [(entry.listed.key, entry.version.digest) for entry in entries])
    changed = await status_changes(connection, {entry.listed.key for entry in entries})
    told = []
    for entry in entries:
        said = pinned[entry.listed.key, entry.version.digest]
        told.append(
            replace(
                entry,
                title=said.get("title"),
                description=said.get("description") or "",
                status_changed_at_ms=changed.get(entry.listed.key),
            )
        )
    return tuple(told)
