"""Deployments as API, internal door and pages tell them, and what is read of a request to change one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from pegboard.core.manifest import Rollout
from pegboard.core.publishing import Provenance
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.publishing.model import submissions
from pegboard_hub.publishing.orders import Replica, Role
from pegboard_hub.publishing.placing import roles, scale
from pegboard_hub.publishing.refusals import DeploymentRefused, Reason
from pegboard_hub.publishing.rollout import MINIMUM_CALLS, NOTHING, Running, Stage
from pegboard_hub.publishing.standing import Standing
from pegboard_hub.publishing.steering import Who
from pegboard_hub.publishing.watching import Compared, Figures
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.tables import releases
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submission_shapes import CameFrom

STATUSES: dict[Reason, int] = {"not_yours": 403, "unknown": 404, "not_now": 409, "invalid": 422}
"""What each reason of a `DeploymentRefused` is over HTTP."""

_CODES = {403: "access_denied", 404: "not_found", 409: "conflict", 422: "invalid_request"}

Action = Literal["promote", "rollback", "pause", "resume", "scale", "restart"]

LONGEST_WHY = 1000


class DeployedRelease(CameFrom):
    """A release that runs, or is kept to go back to. Times are milliseconds since the epoch."""

    submission: str
    release: str = Field(description="its digest")
    version: str = Field(description="that its digest maps to")
    state: str = Field(description="of its life: deploying, live, superseded, rolled back, failed, …")
    step: str = Field(description="what it is at, or waits for")
    message: str = Field(description="what is new in it; text of whoever submitted it")
    submitted_at: int
    percent: int = Field(description="of the callers that it has")
    ready: int = Field(description="replicas that answer")
    wanted: int = Field(description="replicas that it should have at least")
    trouble: str = Field(description="why it does not come up, as its runtime says; empty where it does")
    notes: list[str] = Field(
        description="what its operators should know of how it runs, as its runtime says: that nothing keeps it apart "
        "there, or that somebody changed it"
    )


class DeployedReplica(BaseModel):
    """One process, or pod, as its runtime said last."""

    id: str
    release: str = Field(description="the digest of its release")
    role: str = Field(description="`live`, `candidate`, `warm`: kept to go back to, or `draining`")
    state: str = Field(description="`starting`, `ready`, `asleep`, `failing` or `stopping`")
    in_flight: int = Field(description="calls under way")
    restarts: int
    memory_mb: int | None
    started: int | None = Field(description="milliseconds since the epoch")
    last_failure: str = Field(description="in words; empty where it never failed")
    smoke: dict[str, str] = Field(description="smoke calls that did not go well, by tool")


class DeployedScale(BaseModel):
    """How many replicas the live release has."""

    min: int
    max: int
    declared_min: int = Field(description="as its manifest says")
    declared_max: int
    overridden: bool = Field(description="an owner or operator said otherwise than the manifest")


class ReleaseFigures(BaseModel):
    """What the ledger counts of a release."""

    calls: int
    error_percent: float = Field(description="of a hundred calls, those that failed")
    median_ms: float | None = Field(description="of calls that ended well; null: there was none")
    denial_percent: float = Field(description="of a hundred that came, those that its policies denied")

    @classmethod
    def of(cls, figures: Figures) -> ReleaseFigures:
        """Figures, told."""
        return cls(
            calls=figures.calls + figures.denials,
            error_percent=round(figures.error_percent, 2),
            median_ms=None if figures.median_ms is None else round(figures.median_ms, 2),
            denial_percent=round(figures.denial_percent, 2),
        )


class WatchWindow(BaseModel):
    """A new release beside the one before."""

    wanted_calls: int = Field(description="before anything is said of rates")
    unsaid: str = Field(description="why nothing can be said yet; empty where it can")
    worse: str = Field(description="how it is worse; empty where it is not")
    errors_percent: float = Field(description="more calls of a hundred that may fail than before")
    slower: float = Field(description="times as long that the median may be")
    denials_percent: float = Field(description="more calls of a hundred that its policies may deny than before")
    after: ReleaseFigures = Field(description="of the new release")
    before: ReleaseFigures = Field(description="of the one before it")

    @classmethod
    def of(cls, compared: Compared, allowed: Rollout) -> WatchWindow:
        """What was compared, told, with what the manifest allows."""
        return cls(
            wanted_calls=MINIMUM_CALLS,
            unsaid=compared.unsaid,
            worse=compared.worse,
            errors_percent=allowed.errors_percent,
            slower=allowed.slower,
            denials_percent=allowed.denials_percent,
            after=ReleaseFigures.of(compared.after),
            before=ReleaseFigures.of(compared.before),
        )


class RolloutStep(BaseModel):
    """A step of percent that the manifest asks for."""

    percent: int
    calls: float = Field(description="that would come in it, as busy as the server was in the last hour")
    says_something: bool = Field(description="whether they are enough to say anything; else it is skipped")


class DeploymentDetail(BaseModel):
    """What runs of a server, and what is on its way. Times are milliseconds since the epoch."""

    server: str
    lifecycle: str = Field(description="of the server; nothing of one that is retired runs")
    stage: Stage
    since: int = Field(description="when the stage began")
    until: int | None = Field(description="when it ends by itself; null: it waits for something")
    percent: int = Field(description="of the callers that the candidate has")
    paused: bool
    paused_why: str
    going_back: str = Field(description="why the candidate is one that is gone back to; empty: it is new")
    live: DeployedRelease | None
    candidate: DeployedRelease | None
    previous: DeployedRelease | None = Field(description="the last good one, to which `rollback` goes")
    replicas: list[DeployedReplica]
    scale: DeployedScale | None = Field(description="null where nothing is live")
    watch: WatchWindow | None = Field(description="null where nobody watches")
    calls_per_minute: float = Field(description="of the server in the last hour")
    steps: list[RolloutStep] = Field(description="that the release asks for which is on its way, or live")
    may: bool = Field(description="whether you decide on it")


class DeploymentBody(BaseModel):
    """What to do with a deployment."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(default="", max_length=LONGEST_WHY + 1, description="one line, for the history")
    release: str = Field(
        default="", max_length=64, description="a version, how a release's digest begins, or a submission"
    )
    min: int | None = Field(default=None, description="fewest replicas; left out: as the manifest says")
    max: int | None = Field(default=None, description="most replicas; left out: as the manifest says")


async def deployment_detail(parts: Parts, server: RegisteredServer, *, may: bool) -> DeploymentDetail:
    """A server's deployment, told."""
    name = str(server.name)
    standing = await parts.deployments.standing(name)
    now = standing.deployment
    told = await _releases(parts, standing)
    subject = standing.known.get(now.candidate or now.live or "")
    live = standing.known.get(now.live or "")
    return DeploymentDetail(
        server=name,
        lifecycle=server.lifecycle.value,
        stage=now.stage,
        since=now.since_ms,
        until=now.until_ms,
        percent=now.percent,
        paused=now.paused,
        paused_why=now.paused_why,
        going_back=now.going_back,
        live=told.get(now.live or ""),
        candidate=told.get(now.candidate or ""),
        previous=told.get(now.previous or ""),
        replicas=list(_replicas(standing)),
        scale=_scale(standing, live.manifest.replicas.min, live.manifest.replicas.max) if live else None,
        watch=WatchWindow.of(standing.compared, subject.manifest.rollout) if standing.compared and subject else None,
        calls_per_minute=round(standing.calls_per_minute, 2),
        steps=_steps(standing, subject.manifest.rollout.steps, subject.manifest.rollout.step_minutes)
        if subject
        else [],
        may=may,
    )


async def act(parts: Parts, who: Who, server: str, action: Action, body: DeploymentBody) -> None:
    """Do what somebody wants of a deployment.

    Raises:
        Refused: it cannot be done, or not by them.
    """
    steering = parts.steering
    try:
        match action:
            case "promote":
                await steering.promote(who, server, body.why, body.release)
            case "rollback":
                await steering.rollback(who, server, body.why, body.release)
            case "pause":
                await steering.pause(who, server, body.why)
            case "resume":
                await steering.resume(who, server, body.why)
            case "scale":
                await steering.scale(who, server, body.why, body.min, body.max)
            case "restart":
                await steering.restart(who, server, body.why)
    except DeploymentRefused as error:
        raise deployment_refusal(error) from error


def deployment_refusal(error: DeploymentRefused) -> Refused:
    """A `DeploymentRefused` over HTTP."""
    message = f"{error.field}: {error.message}" if error.reason == "invalid" else error.message
    status = STATUSES[error.reason]
    return refuse(status, _CODES[status], message, error.mend, error.reason)


async def _releases(parts: Parts, standing: Standing) -> dict[str, DeployedRelease]:
    if not standing.known:
        return {}
    columns = submissions.c
    version = (releases.c.server == columns.server) & (releases.c.digest == columns.release)
    query = (
        select(submissions, releases.c.semver)
        .outerjoin_from(submissions, releases, version)
        .where(columns.id.in_(sorted(standing.known)))
    )
    async with parts.database.read() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return {row["id"]: _release(row, standing) for row in rows}


def _release(row: Mapping[Any, Any], standing: Standing) -> DeployedRelease:
    role, percent = roles(standing.deployment).get(row["id"], (None, 0))
    running = standing.running.get(row["id"], NOTHING)
    wanted = 0
    if role is not None:
        wanted = scale(standing.deployment, standing.known[row["id"]].manifest.replicas, role).min
    return DeployedRelease(
        submission=row["id"],
        release=row["release"],
        version=row["semver"] or "",
        state=row["state"],
        step=row["step"],
        **Provenance.model_validate(row["provenance"]).model_dump(),
        submitted_by=row["actor"],
        submitted_by_kind=row["actor_kind"],
        submitted_at=row["created_at_ms"],
        percent=percent,
        ready=sum(each.state == "ready" for each in running.replicas),
        wanted=wanted,
        trouble=running.trouble.what if running.trouble else "",
        notes=list(running.notes),
    )


def _replicas(standing: Standing) -> Iterable[DeployedReplica]:
    for submission, (role, _) in roles(standing.deployment).items():
        if submission in standing.known:
            running: Running = standing.running.get(submission, NOTHING)
            for each in running.replicas:
                yield _replica(each, standing.known[submission].release, role)


def _replica(replica: Replica, release: str, role: Role) -> DeployedReplica:
    return DeployedReplica(
        id=replica.id,
        release=release,
        role=role.value,
        state=replica.state,
        in_flight=replica.in_flight,
        restarts=replica.restarts,
        memory_mb=replica.memory_mb,
        started=replica.started_at_ms,
        last_failure=replica.last_failure,
        smoke=replica.smoke,
    )


def _scale(standing: Standing, least: int, most: int) -> DeployedScale:
    now = standing.deployment
    found = scale(now, standing.known[now.live or ""].manifest.replicas, Role.LIVE)
    overridden = now.replicas_min is not None or now.replicas_max is not None
    return DeployedScale(min=found.min, max=found.max, declared_min=least, declared_max=most, overridden=overridden)


def _steps(standing: Standing, steps: Iterable[int], minutes: float) -> list[RolloutStep]:
    found = []
    for step in steps:
        calls = standing.calls_per_minute * minutes * step / 100
        found.append(RolloutStep(percent=step, calls=round(calls, 1), says_something=calls >= MINIMUM_CALLS))
    return found
