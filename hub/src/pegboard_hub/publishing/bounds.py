"""How much authors may ask for: each bound a row, counted in the transaction that would go beyond it.

The figures are the operator's (`[publishing.limits]` in the grants file). Whoever is refused is told the number, the
limit, and whom to ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, select

from pegboard.core.grants import GrantsFile, PublishingLimits
from pegboard.core.manifest import Manifest
from pegboard.core.publishing import State
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.model import submissions
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.sweeping import make_room
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.model import RegisteredServer

HOUR_MS: Final = 3_600_000
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody is about to submit.

    Attributes:
        size: bytes of the archive.
        servers: those that there are.
    """

    changing: Changing
    file: GrantsFile
    who: Submitter
    server: RegisteredServer
    manifest: Manifest
    size: int
    servers: Collection[RegisteredServer]

    @property
    def limits(self) -> PublishingLimits:
        """As the operator's file says."""
        return self.file.publishing.limits

    @property
    def unreviewed(self) -> bool:
        """Whether nobody looks at what the server asks for."""
        return self.server.name.namespace in self.file.reviews.unreviewed


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit.

    Attributes:
        field: of `PublishingLimits`.
        counted: how much there would be with what is submitted; None: this bound is not about it.
        what: is counted, in words that follow the number.
        mend: what to do beside asking the operator.
    """

    field: str
    counted: Callable[[Asked], Awaitable[int | None]]
    what: str
    mend: str


async def check_bounds(asked: Asked) -> None:
    """See to it that what is submitted stays within every bound.

    Raises:
        PublishingRefused: it does not; it names the first that it goes beyond.
    """
    for bound in BOUNDS:
        limit, count = int(getattr(asked.limits, bound.field)), await bound.counted(asked)
        if count is not None and count > limit:
            what = bound.what.format(server=asked.server.name, owner=asked.server.owner, who=asked.who.sub)
            message = f"That would be {count:,} {what}, and {limit:,} is the most."
            ask = f"Or ask the operator to raise {bound.field} in [publishing.limits] of the grants file."
            raise PublishingRefused("too_many", message, f"{bound.mend} {ask}")


def memory_of(manifest: Manifest, most: int | None = None) -> int:
    """MiB that all replicas of a server may use together: as its manifest says, or with so many replicas."""
    return (most or manifest.replicas.max) * manifest.resources.memory_mb


async def _of_server(asked: Asked) -> int:
    return 1 + await _under_way(asked, submissions.c.server == str(asked.server.name))


async def _of_team(asked: Asked) -> int:
    team = {str(each.name) for each in asked.servers if each.owner == asked.server.owner} | {str(asked.server.name)}
    return 1 + await _under_way(asked, submissions.c.server.in_(sorted(team)))


async def _of_person(asked: Asked) -> int | None:
    if asked.who.kind == "operator":
        return None
    return 1 + await _under_way(asked, _by(asked))


async def _in_an_hour(asked: Asked) -> int | None:
    if asked.who.kind == "operator":
        return None
    since = submissions.c.created_at_ms > asked.changing.now_ms - HOUR_MS
    query = select(func.count()).select_from(submissions).where(_by(asked), since)
    return 1 + int(await asked.changing.connection.scalar(query) or 0)


async def _stored(asked: Asked) -> int:
    connection, name = asked.changing.connection, str(asked.server.name)
    left = await make_room(connection, name, asked.limits.stored_mb * MIB - asked.size)
    return -(-(left + asked.size) // MIB)


async def _memory(asked: Asked) -> int | None:
    return memory_of(asked.manifest) if asked.unreviewed else None


async def _memory_of_team(asked: Asked) -> int | None:
    if not asked.unreviewed:
        return None
    own = asked.server.name
    others = (
        memory_of(each.release.manifest)
        for each in asked.servers
        if each.release is not None
        and each.name != own
        and each.owner == asked.server.owner
        and each.submitted
        and each.name.namespace in asked.file.reviews.unreviewed
    )
    return memory_of(asked.manifest) + sum(others)


BOUNDS: Final = (
    Bound("server_waiting", _of_server, "submissions of {server} to be built", "Wait until one of them is built."),
    Bound("team_waiting", _of_team, "submissions of {owner} to be built", "Wait until some of them are built."),
    Bound("person_waiting", _of_person, "submissions by {who} to be built", "Wait until some of them are built."),
    Bound("per_hour", _in_an_hour, "submissions by {who} within an hour", "Wait; pegboard dev needs no submission."),
    Bound(
        "stored_mb",
        _stored,
        "MiB of {server} that are kept: what is on its way, runs, or is ready to be gone back to",
        "Withdraw what waits, or leave out of the project what no release needs.",
    ),
    Bound(
        "memory_mb",
        _memory,
        "MiB of memory for {server} where nobody reviews, replicas.max × resources.memory_mb",
        "Ask for less in pegboard.toml, or submit it where servers are reviewed.",
    ),
    Bound(
        "team_memory_mb",
        _memory_of_team,
        "MiB of memory for servers of {owner} where nobody reviews, replicas.max × resources.memory_mb of each",
        "Ask for less in pegboard.toml, retire a server of yours, or submit it where servers are reviewed.",
    ),
)


async def _under_way(asked: Asked, whose: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(submissions).where(submissions.c.state == State.SUBMITTED, whose)
    return int(await asked.changing.connection.scalar(query) or 0)


def _by(asked: Asked) -> ColumnElement[bool]:
    return and_(submissions.c.actor == asked.who.sub, submissions.c.actor_kind == asked.who.kind)
