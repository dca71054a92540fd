"""The parts of the hub that its two doors are built on."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.approvals.service import Approvals
from pegboard_hub.common.cursors import Cursors
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.edges.service import Edges
from pegboard_hub.health.service import HealthBoard
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.keys import RingVerifier
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.ledger.channels import Channels
from pegboard_hub.ledger.service import Ledger
from pegboard_hub.notify.service import Notifying
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.logs import Logs
from pegboard_hub.publishing.service import Publishing
from pegboard_hub.publishing.steering import Steering
from pegboard_hub.registry.ending import Closing
from pegboard_hub.registry.key_rotation import KeyRotation
from pegboard_hub.registry.reviews.service import Reviewing
from pegboard_hub.registry.search import Catalogue
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import StatusReader
from pegboard_hub.requiring.service import Requiring
from pegboard_hub.ruling.current import CoarseRules
from pegboard_hub.ruling.service import Ruling
from pegboard_hub.stopping.callers import CallerStops
from pegboard_hub.stopping.service import Stopping
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.locks import Locks
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.web.edge_call import EdgeCalls
from pegboard_hub.web.metrics import MetricsPage


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the doors need, opened and put together by `pegboard_hub.opening`."""

    settings: HubSettings
    database: Database
    registry: Registry
    reviewing: Reviewing
    sign_in: DemoSignIn
    identity: AuthorizationServer
    api_tokens: RingVerifier
    ledger: Ledger
    channels: Channels
    status: StatusReader
    health: HealthBoard
    rotation: KeyRotation
    meter: HubMeter
    page: MetricsPage
    cursors: Cursors
    locks: Locks
    edge_calls: EdgeCalls
    catalogue: Catalogue
    stops: CallerStops
    stopping: Stopping
    rules: CoarseRules
    ruling: Ruling
    edges: Edges
    requiring: Requiring
    approvals: Approvals
    notifying: Notifying
    deployments: Deployments
    steering: Steering
    logs: Logs
    closing: Closing
    publishing: Publishing
    shelf: Shelf

    @property
    def public_url(self) -> str:
        """The edge's origin."""
        return self.settings.public_url
