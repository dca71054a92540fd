"""From a submitted project to what runs of it."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.health.service import HealthBoard
from pegboard_hub.opening.deciding import Deciding
from pegboard_hub.opening.ground import Ground
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.logs import Logs
from pegboard_hub.publishing.service import Publishing
from pegboard_hub.publishing.serving import reaching_by, serving_by
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.steering import Steering
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import StatusReader


@dataclass(frozen=True, slots=True)
class Releasing:
    """From a submitted project to what runs of it."""

    publishing: Publishing
    deployments: Deployments
    steering: Steering
    status: StatusReader
    logs: Logs


async def open_releasing(ground: Ground, registry: Registry, deciding: Deciding, health: HealthBoard) -> Releasing:
    """Open the pipeline: what was submitted, what runs, and how it does."""
    home, settings, database, reviewing = ground.home, ground.settings, ground.database, deciding.reviewing
    publishing = Publishing(
        database,
        registry,
        Signing(ground.keys.releases),
        lambda: reviewing.rights.roles,
        f"{settings.public_url}/packages/simple",
        leads=ground.leads,
    )
    deployments = Deployments(
        database,
        registry,
        leads=ground.leads,
        serve=serving_by(lambda: registry.grants_file),
        egress=reaching_by(lambda: registry.grants_file),
        moved=publishing.tell,
        meter=ground.meter,
    )
    await deployments.start()
    publishing.on_approved(deployments.wake)
    publishing.on_renewed(deployments.forget)
    steering = Steering(database, registry, deployments, lambda: reviewing.rights.roles)
    status = StatusReader(
        home.status, settings.status_stale_s, prober=health.word, submitted=lambda: deployments.healths
    )
    logs = Logs(home)
    ground.ended.push_async_callback(logs.close)
    return Releasing(publishing, deployments, steering, status, logs)
