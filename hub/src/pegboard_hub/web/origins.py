"""Where the code of a release comes from: who submitted it, what the check warned of, which packages are others.

What a release declares says nothing of its code; whoever reviews it, or follows it, reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import Artifact, Finding, Severity
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.deployment_store import live_before
from pegboard_hub.publishing.model import submissions as table
from pegboard_hub.publishing.submissions import Submission

MOST_PACKAGES: Final = 100
"""Changed packages that are told."""


class Package(NamedTuple):
    """A package that a release has and the one before had not, or the other way round, or in another version.

    Attributes:
        before: its version then; empty where it was not there.
        now: its version now; empty where it is not there any more.
    """

    name: str
    before: str
    now: str

    @property
    def kind(self) -> str:
        """`added`, `changed` or `gone`."""
        return "added" if not self.before else "changed" if self.now else "gone"


@dataclass(frozen=True)
class Origin:
    """Where a release's code comes from.

    Attributes:
        warnings: of the check that keep nothing from happening.
        first: nothing of the server was live before, so all its packages are new.
        packages: those that differ from what was live last, by name; of the first release none is told.
        more: how many further ones differ.
        same_code: the source is the one that was live last.
    """

    submission: Submission
    warnings: tuple[Finding, ...]
    first: bool
    packages: tuple[Package, ...]
    more: int
    same_code: bool


async def origin_of(connection: AsyncConnection, server: str, release: str) -> Origin | None:
    """Where a release comes from; None where it was not submitted, as one that is followed from a folder."""
    query = (
        select(table.c.id)
        .where(table.c.server == server, table.c.release == release)
        .order_by(table.c.created_at_ms.desc())
        .limit(1)
    )
    id_ = await connection.scalar(query)
    found = await submissions.find(connection, id_) if id_ is not None else None
    return await origin(connection, found) if found is not None else None


async def origin(connection: AsyncConnection, found: Submission) -> Origin:
    """Where a submission's code comes from, beside what was live before it."""
    last = await live_before(connection, found.server, found.id, found.created_at_ms)
    changed = changed_packages(last.artifact, found.artifact) if last is not None and found.artifact else ()
    return Origin(
        submission=found,
        warnings=tuple(each for each in found.findings if each.severity is Severity.WARNING),
        first=last is None,
        packages=changed[:MOST_PACKAGES],
        more=max(0, len(changed) - MOST_PACKAGES),
        same_code=last is not None and last.artifact.source == found.source,
    )


def changed_packages(before: Artifact, now: Artifact) -> tuple[Package, ...]:
    """Packages that two artifacts do not have alike, by name: in another version, or as another file of the same."""
    old, new = _packages(before), _packages(now)
    return tuple(
        Package(name, _told(old.get(name), new.get(name)), _told(new.get(name), old.get(name)))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _packages(artifact: Artifact) -> Mapping[str, tuple[str, str]]:
    """Version and digest of each package, by name. What was built of a source is another file each time."""
    found: dict[str, tuple[str, str]] = {}
    for each in artifact.files:
        name = each.name.partition("-")[0].replace("_", "-").lower() if each.version else each.name
        found[name] = each.version, "" if each.origin == "own" else each.sha256[:12]
    return found


def _told(of: tuple[str, str] | None, beside: tuple[str, str] | None) -> str:
    """A version, with its digest where that alone is another; empty for none."""
    if of is None:
        return ""
    version, digest = of
    alike = beside is not None and beside[0] == version
    return " ".join(filter(None, (version, digest if alike or not version else "")))
