"""What people decide: reviews, stops, rules, approvals."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.approvals.rights import Owned
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.notify.announcing import Announcing
from pegboard_hub.notify.service import Notifying
from pegboard_hub.opening.ground import Ground
from pegboard_hub.opening.people import People
from pegboard_hub.opening.standing import Standing
from pegboard_hub.registry.reviews.service import Reviewing
from pegboard_hub.registry.service import Registry
from pegboard_hub.requiring.service import Requiring
from pegboard_hub.ruling.service import Ruling
from pegboard_hub.stopping.service import Stopping


@dataclass(frozen=True, slots=True)
class Deciding:
    """What people decide: reviews, stops, rules, approvals."""

    reviewing: Reviewing
    stopping: Stopping
    ruling: Ruling
    requiring: Requiring
    notifying: Notifying
    approvals: Approvals


def open_deciding(ground: Ground, standing: Standing, registry: Registry, people: People) -> Deciding:
    """What people decide with, and those that are told of it."""
    database, settings, identity = ground.database, ground.settings, people.identity
    reviewing = Reviewing(registry, database, ground.sign_in.file.operators)
    stopping = Stopping(
        database,
        registry,
        standing.stops,
        identity.clients,
        identity.sessions,
        lambda: reviewing.rights.roles,
        leads=ground.leads,
    )
    notifying = Notifying(database, ground.told, settings.public_url, ground.meter, leads=ground.leads)
    ground.ended.push_async_callback(notifying.close)
    requiring = Requiring(database, registry, lambda: reviewing.rights.roles)
    approvals = Approvals(
        database,
        registry,
        ground.keys,
        settings.public_url,
        lambda: reviewing.rights.roles,
        revoked=lambda: standing.revocations.current,
        stops=lambda: standing.stops.current,
        announcer=Announcing(notifying, Owned(lambda: registry.current).owner),
        leads=ground.leads,
        meter=ground.meter,
        registered=requiring.effective,
    )
    ruling = Ruling(database, standing.rules)
    return Deciding(reviewing, stopping, ruling, requiring, notifying, approvals)
