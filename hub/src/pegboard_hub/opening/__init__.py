"""The hub's parts, a file for each subject: what each is built on, and nothing of what it does.

`open_hub` is the order. What a subject needs of those before it are its function's arguments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pegboard.core.names import api_audience
from pegboard_hub.common.cursors import Cursors
from pegboard_hub.common.home import Home
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.health.service import HealthBoard
from pegboard_hub.identity.keys import RingVerifier
from pegboard_hub.identity.sealing import open_sealing_key
from pegboard_hub.ledger.channels import Channels
from pegboard_hub.ledger.service import Ledger
from pegboard_hub.opening.deciding import Deciding, open_deciding
from pegboard_hub.opening.ground import Ground, open_ground
from pegboard_hub.opening.people import People, open_people
from pegboard_hub.opening.releasing import Releasing, open_releasing
from pegboard_hub.opening.standing import Standing, open_health, open_registry, open_standing
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.registry.ending import Closing
from pegboard_hub.registry.key_rotation import KeyRotation
from pegboard_hub.registry.search import Catalogue
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import States
from pegboard_hub.web.metrics import MetricsPage, show_edges, show_states, watch_hub
from pegboard_hub.web.parts import Parts


@asynccontextmanager
async def open_hub(home: Home, settings: HubSettings) -> AsyncIterator[Parts]:
    """The hub's parts, ready to serve: keys there, schema newest, registry loaded, bundles written.

    Raises:
        PegboardError: something the operator must mend; the message says what.
    """
    async with AsyncExitStack() as ended:
        ground = await open_ground(home, settings, ended)
        standing = await open_standing(ground)
        registry = await open_registry(ground, standing)
        health = await open_health(ground, registry)
        people = await open_people(ground, standing, registry)
        deciding = open_deciding(ground, standing, registry, people)
        releasing = await open_releasing(ground, registry, deciding, health)
        watch_hub(ground.meter, ground.database, registry, standing.stops)
        yield _together(ground, standing, registry, health, people, deciding, releasing)


def _together(
    ground: Ground,
    standing: Standing,
    registry: Registry,
    health: HealthBoard,
    people: People,
    deciding: Deciding,
    releasing: Releasing,
) -> Parts:
    """What the doors are built on: each part by its name, with those that stand on several subjects."""
    home, settings, keys, meter = ground.home, ground.settings, ground.keys, ground.meter
    status, roles = releasing.status, deciding.reviewing.rights

    def show() -> None:
        show_states(meter, registry, status)
        show_edges(meter, standing.edges)

    return Parts(
        settings=settings,
        database=ground.database,
        registry=registry,
        reviewing=deciding.reviewing,
        sign_in=people.demo,
        identity=people.identity,
        api_tokens=RingVerifier(keys.tokens, settings.public_url, api_audience(settings.public_url)),
        ledger=Ledger(
            ground.database,
            lambda name: name in registry.current.servers,
            meter=meter,
            settle=deciding.approvals.settle,
        ),
        channels=Channels(home),
        status=status,
        health=health,
        rotation=KeyRotation(keys, registry, status, leads=ground.leads, edges=standing.edges.consumers),
        meter=meter,
        page=MetricsPage(home, meter, show, settings.hubs, settings.name),
        cursors=Cursors(open_sealing_key(home)),
        shelf=Shelf(home),
        locks=ground.locks,
        edge_calls=people.edge_calls,
        catalogue=Catalogue(
            lambda: registry.current,
            States(status, lambda: registry.current.servers),
            lambda: roles.roles.overseers,
        ),
        stops=standing.stops,
        stopping=deciding.stopping,
        rules=standing.rules,
        ruling=deciding.ruling,
        edges=standing.edges,
        requiring=deciding.requiring,
        approvals=deciding.approvals,
        notifying=deciding.notifying,
        publishing=releasing.publishing,
        deployments=releasing.deployments,
        logs=releasing.logs,
        closing=Closing(registry, leads=ground.leads),
        steering=releasing.steering,
    )
