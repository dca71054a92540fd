"""`/metrics` on the public origin: the hub's own figures, and what the supervisor gathered of everything else."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard_hub.common.home import Home
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.service import Registry
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry import table
from pegboard_hub.telemetry.exposition import CONTENT_TYPE
from pegboard_hub.telemetry.meter import HubMeter

log = logging.getLogger(__name__)


class MetricsPage:
    """What a scraper gets, and whom it is given to."""

    def __init__(self, home: Home, meter: HubMeter) -> None:
        self._digest = home.scrape_digest
        self._gathered = home.gathered
        self._meter = meter

    def check(self, token: str) -> None:
        """Let the scrape credential pass.

        Raises:
            Refused: it is another one, or the supervisor made none.
        """
        expected = _text(self._digest).strip()
        if not expected or not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), expected):
            raise _unauthenticated()

    def text(self) -> bytes:
        """The hub's figures, then those that were gathered; without a supervisor the former alone."""
        return self._meter.page() + _text(self._gathered).encode()


def watch_hub(meter: HubMeter, database: Database, registry: Registry) -> None:
    """Show what database and registry are like whenever the metrics are asked for, and what may never happen as 0."""
    for kind in ("disk", "server", "other"):
        meter.count(table.DATABASE_ERRORS, kind, by=0)
    for kind in ("intent", "outcome", "denial", "edge", "unreadable"):
        meter.count(table.RECORDS, kind, by=0)
    meter.watch(table.DATABASE_BYTES, lambda: database.bytes)
    meter.watch(table.DATABASE_REFUSES, lambda: database.refuses_writes)
    meter.watch(table.BUNDLES_SIGNED, lambda: registry.bundles_signed_at)
    meter.watch(table.REGISTRY_PROBLEMS, lambda: len(registry.current.problems))
    meter.watch(table.REGISTRY_SERVERS, lambda: len(registry.current.all_deployed), "deployed")
    meter.watch(table.REGISTRY_SERVERS, lambda: _not_deployed(registry), "not_deployed")


def metrics_routes(page: MetricsPage) -> APIRouter:
    """The route."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        """All metrics. In a worker thread: the page may be long, and nobody who calls waits for it."""
        page.check(_bearer(request))
        return Response(page.text(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return router


def _not_deployed(registry: Registry) -> int:
    return len(registry.current.servers) - len(registry.current.all_deployed)


def _bearer(request: Request) -> str:
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _unauthenticated() -> Refused:
    refused = refuse(
        401,
        "unauthenticated",
        "Metrics are for the operator's collector: no scrape credential came with the request, or another one.",
        "Send `Authorization: Bearer` with the content of PEGBOARD_HOME/scrape.token "
        "(Prometheus: authorization.credentials_file).",
        "scrape_credential",
    )
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        log.error("metrics lack a part that cannot be read: %s", error)
        return ""
