"""The registry, and what edges and servers are told beside it."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard.core.bundle import Ages
from pegboard_hub.edges.service import Edges
from pegboard_hub.health.service import HealthBoard
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.opening.ground import Ground
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.sources import Sources
from pegboard_hub.ruling.current import CoarseRules
from pegboard_hub.stopping.callers import CallerStops


@dataclass(frozen=True, slots=True)
class Standing:
    """What edges and servers are told beside the registry, and follow at once."""

    revocations: Revocations
    stops: CallerStops
    rules: CoarseRules
    edges: Edges


async def open_standing(ground: Ground) -> Standing:
    """Open what is told beside the registry, as it is now."""
    database = ground.database
    edges = Edges(database, ground.home, leads=ground.leads)
    standing = Standing(Revocations(database), CallerStops(database), CoarseRules(database), edges)
    for each in (standing.revocations, standing.stops, standing.rules, standing.edges):
        await each.reload()
    return standing


async def open_registry(ground: Ground, standing: Standing) -> Registry:
    """Open the registry; its bundles are written then."""
    settings = ground.settings
    sources = Sources(ground.home, settings.grants)
    writer = BundleWriter(
        ground.home,
        ground.database,
        ground.keys,
        settings.public_url,
        Ages(settings.grants_max_age_s, settings.stops_max_age_s),
        revoked=lambda: standing.revocations.current,
        stops=lambda: standing.stops.current,
        limits=lambda: sources.limits,
        rules=lambda: standing.rules.current,
        edges=lambda: standing.edges.names,
    )
    registry = Registry(ground.database, sources, writer, leads=ground.leads)
    for each in (standing.revocations, standing.stops, standing.rules, standing.edges):
        each.on_change(registry.revoked)
    await registry.start()
    return registry


async def open_health(ground: Ground, registry: Registry) -> HealthBoard:
    """Open what is known of how servers do."""
    health = HealthBoard(
        ground.database,
        lambda: _probed(registry),
        lambda: registry.current.servers,
        ground.home.instance,
        ground.meter,
    )
    await health.start()
    return health


def _probed(registry: Registry) -> list[str]:
    """Servers that the prober looks at: whoever connects to a replica of a submitted one may wake it."""
    return [str(server.name) for server in registry.current.all_deployed if not server.submitted]
