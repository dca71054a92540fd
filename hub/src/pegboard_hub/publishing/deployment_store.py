"""The tables `deployments` and `replicas`: reading them, and changing them one condition at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Row, and_, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Artifact, State
from pegboard.core.release import Declaration
from pegboard_hub.publishing.model import artifact_uses, deployments, replicas, submission_events, submissions
from pegboard_hub.publishing.orders import Observed, Replica
from pegboard_hub.publishing.rollout import Deployment, Running, Stage
from pegboard_hub.registry.tables import releases
from pegboard_hub.storage.database import batches, insert_and_tell_new, insert_new

FOLLOWED: Final = "followed from a folder"
"""Step of a submission that ended because its server left the pipeline."""


@dataclass(frozen=True)
class Deployable:
    """A release as far as running it goes. Nothing of it ever changes."""

    id: str
    server: str
    release: str
    artifact: Artifact
    declaration: Declaration
    signature: str
    created_at_ms: int

    @property
    def manifest(self) -> Manifest:
        """What its author says of it."""
        return self.declaration.manifest


async def load(connection: AsyncConnection, servers: Collection[str] | None = None) -> dict[str, Deployment]:
    """Deployments by server; of some servers, or of all."""
    query = select(deployments)
    if servers is not None:
        query = query.where(deployments.c.server.in_(sorted(servers)))
    return {row.server: _deployment(row) for row in await connection.execute(query)}


async def find(connection: AsyncConnection, server: str) -> Deployment:
    """The deployment of a server; one that never had any is settled, with nothing."""
    return (await load(connection, [server])).get(server) or Deployment(server)


async def change(connection: AsyncConnection, before: Deployment, after: Deployment, now_ms: int) -> bool:
    """Write what a deployment is from now on, where it still is what it was; returns whether it was."""
    values = asdict(after) | {"version": before.version + 1, "updated_at_ms": now_ms}
    if before.version == 0:
        return len(await insert_and_tell_new(connection, deployments, [values])) == 1
    same = and_(deployments.c.server == before.server, deployments.c.version == before.version)
    return (await connection.execute(update(deployments).where(same).values(values))).rowcount == 1


async def approved(connection: AsyncConnection) -> dict[str, list[str]]:
    """Submissions that wait to be deployed, by server, the newest first."""
    found: dict[str, list[str]] = defaultdict(list)
    query = select(submissions.c.server, submissions.c.id).where(submissions.c.state == State.APPROVED)
    newest = query.order_by(submissions.c.created_at_ms.desc(), submissions.c.id.desc())
    for server, id_ in await connection.execute(newest):
        found[server].append(id_)
    return found


async def deployables(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Deployable]:
    """Submissions as they run, by id; one that is not built yet is left out."""
    found: dict[str, Deployable] = {}
    columns = submissions.c
    query = select(
        columns.id,
        columns.server,
        columns.release,
        columns.artifact,
        columns.declaration,
        columns.signature,
        columns.created_at_ms,
    )
    for batch in batches(sorted(ids)):
        for row in await connection.execute(query.where(columns.id.in_(batch))):
            if None not in (row.release, row.artifact, row.declaration, row.signature):
                found[row.id] = Deployable(
                    row.id,
                    row.server,
                    row.release,
                    Artifact.model_validate(row.artifact),
                    Declaration.model_validate(row.declaration),
                    row.signature,
                    row.created_at_ms,
                )
    return found


async def last_good(connection: AsyncConnection, server: str, besides: Collection[str]) -> str | None:
    """The submission that was live last and was not rolled back, besides some."""
    event = submission_events.c
    was_live = (
        select(event.submission, func.max(event.seq).label("seq"))
        .join(submissions, submissions.c.id == event.submission)
        .where(submissions.c.server == server, event.state == State.LIVE)
        .group_by(event.submission)
        .subquery()
    )
    # Whatever was live before its server was followed from a folder for a while is of another time.
    followed = (
        select(func.coalesce(func.max(event.seq), 0))
        .join(submissions, submissions.c.id == event.submission)
        .where(submissions.c.server == server, event.step == FOLLOWED)
        .scalar_subquery()
    )
    query = (
        select(submissions.c.id)
        .join(was_live, was_live.c.submission == submissions.c.id)
        .where(
            submissions.c.server == server,
            submissions.c.state == State.SUPERSEDED,
            submissions.c.id.not_in(sorted(besides)),
            was_live.c.seq > followed,
            exists().where(artifact_uses.c.submission == submissions.c.id),
        )
        .order_by(was_live.c.seq.desc())
        .limit(1)
    )
    return await connection.scalar(query)


async def in_states(connection: AsyncConnection, server: str, states: Collection[State]) -> list[tuple[str, State]]:
    """Submissions of a server that are in one of these states, with it."""
    columns = submissions.c
    query = select(columns.id, columns.state).where(columns.server == server, columns.state.in_([*states]))
    return [(id_, State(state)) for id_, state in await connection.execute(query)]


async def live_before(
    connection: AsyncConnection, server: str, submission: str, created_at_ms: int
) -> Deployable | None:
    """The newest submission before another that ever was live; None where there is none."""
    event = submission_events.c
    was_live = exists().where(event.submission == submissions.c.id, event.state == State.LIVE)
    query = (
        select(submissions.c.id)
        .where(
            submissions.c.server == server,
            submissions.c.id != submission,
            submissions.c.created_at_ms <= created_at_ms,
            was_live,
        )
        .order_by(submissions.c.created_at_ms.desc())
        .limit(1)
    )
    found = await connection.scalar(query)
    return (await deployables(connection, [found])).get(found) if found is not None else None


async def named(connection: AsyncConnection, server: str, release: str) -> list[Row[Any]]:
    """Submissions of a server by their id, their release's version, or how its digest begins; the newest first."""
    digest = submissions.c.release
    of_version = select(releases.c.digest).where(releases.c.server == server, releases.c.semver == release)
    named_so = (submissions.c.id == release) | digest.startswith(release, autoescape=True) | digest.in_(of_version)
    query = select(submissions.c.id, digest, submissions.c.state).where(submissions.c.server == server, named_so)
    return list(await connection.execute(query.order_by(submissions.c.created_at_ms.desc())))


async def save_observed(connection: AsyncConnection, observed: Observed, now_ms: int) -> None:
    """Keep what a runtime sees, in place of what it saw before."""
    await connection.execute(delete(replicas).where(replicas.c.runtime == observed.runtime))
    rows = [
        {
            "server": each.server,
            "release": each.release,
            "id": replica.id,
            "runtime": observed.runtime,
            "address": replica.address,
            "state": replica.state,
            "in_flight": replica.in_flight,
            "restarts": replica.restarts,
            "memory_mb": replica.memory_mb,
            "started_at_ms": replica.started_at_ms,
            "last_failure": replica.last_failure,
            "smoke": replica.smoke,
            "seen_at_ms": now_ms,
        }
        for each in observed.releases
        for replica in each.replicas
    ]
    if rows:
        await insert_new(connection, replicas, rows)


async def load_running(connection: AsyncConnection, server: str | None = None) -> dict[tuple[str, str], Running]:
    """What was seen last, by server and release."""
    found: dict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
    query = select(replicas).order_by(replicas.c.id)
    if server is not None:
        query = query.where(replicas.c.server == server)
    for row in await connection.execute(query):
        found[row.server, row.release].append(row)
    return {
        key: Running(tuple(map(_replica, rows)), max(row.seen_at_ms for row in rows), "running")
        for key, rows in found.items()
    }


def _replica(row: Row[Any]) -> Replica:
    return Replica(
        id=row.id,
        address=row.address,
        state=row.state,
        in_flight=row.in_flight,
        restarts=row.restarts,
        memory_mb=None if row.memory_mb is None else int(row.memory_mb),
        started_at_ms=row.started_at_ms,
        smoke=row.smoke,
        last_failure=row.last_failure,
    )


def _deployment(row: Row[Any]) -> Deployment:
    told: Mapping[str, Any] = dict(row._mapping)
    return Deployment(**{**told, "stage": Stage(told["stage"])})
