"""`/metrics` on the public origin: the hub's own figures, and what the supervisor gathered of everything else."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.stops import CALLER_KINDS
from pegboard_hub.common.home import Home
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.edges.service import Edges
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.status import StatusReader
from pegboard_hub.stopping.callers import CallerStops
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry import table
from pegboard_hub.telemetry.exposition import CONTENT_TYPE, together
from pegboard_hub.telemetry.meter import HubMeter

log = logging.getLogger(__name__)

OWN = "/metrics/hub"
"""Where a hub tells its own figures alone."""

ANSWER_S = 2.0
"""How long another hub may take to tell its own, in seconds."""


class MetricsPage:
    """What a scraper gets, and whom it is given to."""

    def __init__(
        self, home: Home, meter: HubMeter, refresh: Callable[[], None], hubs: tuple[str, ...] = (), name: str = "hub"
    ) -> None:
        """Prepare.

        Args:
            home: the instance.
            meter: this hub's figures.
            refresh: brings those up to date that are counted when the page is asked for.
            hubs: what all hubs of the home are called, where there are several.
            name: this one.
        """
        self._home = home
        self._refresh = refresh
        self._hubs = hubs
        self._name = name
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

    def text(self, token: str = "") -> bytes:
        """The hub's figures, then those that were gathered; without a supervisor the former alone.

        Of several hubs whichever is asked tells of them all, each under its name: a collector meets any of them.

        Args:
            token: the scrape credential, to ask the others with.
        """
        self._refresh()
        if not self._hubs:
            return self._meter.page() + _text(self._gathered).encode()
        own = self._meter.page().decode()
        pages = {name: own if name == self._name else self._ask(name, token) for name in self._hubs}
        return (together(pages) + _text(self._gathered)).encode()

    def own(self) -> bytes:
        """This hub's figures alone."""
        self._refresh()
        return self._meter.page()

    def _ask(self, name: str, token: str) -> str:
        """Another hub's figures; none where it does not answer, as one that is being started again."""
        transport = httpx2.HTTPTransport(uds=str(self._home.hub_door(name)))
        try:
            with httpx2.Client(transport=transport, timeout=ANSWER_S) as client:
                headers = {"authorization": f"Bearer {token}"}
                answer = client.get(f"http://localhost{OWN}", headers=headers)
                return answer.text if answer.status_code == httpx2.codes.OK else ""
        except httpx2.HTTPError:
            return ""


def watch_hub(meter: HubMeter, database: Database, registry: Registry, stops: CallerStops) -> None:
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
    meter.watch(
        table.STOPPED, lambda: sum(bool(each.stopped) for each in registry.current.servers.values()), "server"
    )
    meter.watch(
        table.STOPPED, lambda: sum(len(each.stopped_tools) for each in registry.current.servers.values()), "tool"
    )
    for kind in CALLER_KINDS:
        meter.watch(table.STOPPED, partial(_ordered, stops, kind), kind)
    meter.watch(table.REGISTRY_SERVERS, lambda: _not_deployed(registry), "not_deployed")


JOINED = (table.JOINED_UP, table.JOINED_HEARD, table.JOINED_VERSION, table.JOINED_FAULTS)


def show_edges(meter: HubMeter, edges: Edges) -> None:
    """How each joined edge is that has come; one that was removed is no figure any more."""
    for metric in JOINED:
        meter.forget(metric)
    for edge in edges.listed:
        if edge.removed_at_ms is not None or edge.heard_at_ms is None:
            continue
        meter.set(table.JOINED_UP, 1 if edges.standing(edge) == "live" else 0, edge.name)
        meter.set(table.JOINED_HEARD, edge.heard_at_ms / 1000, edge.name)
        meter.set(table.JOINED_VERSION, edge.word.version if edge.word else 0, edge.name)
        meter.set(table.JOINED_FAULTS, len(edge.word.faults) if edge.word else 0, edge.name)


def show_states(meter: HubMeter, registry: Registry, status: StatusReader) -> None:
    """Count the servers in each state."""
    now = status.read()
    found = Counter[str](now.state(server) for server in registry.current.servers.values())
    for state in table.SERVER_STATES:
        meter.set(table.HEALTH_SERVERS, found[state], state)


def metrics_routes(page: MetricsPage) -> APIRouter:
    """The route."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        """All metrics. In a worker thread: the page may be long, and nobody who calls waits for it."""
        token = _bearer(request)
        page.check(token)
        return _answer(page.text(token))

    @router.get(OWN)
    def own(request: Request) -> Response:
        """What one of several hubs tells another."""
        page.check(_bearer(request))
        return _answer(page.own())

    return router


def _answer(text: bytes) -> Response:
    return Response(text, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def _ordered(stops: CallerStops, kind: str) -> int:
    return stops.ordered.get(kind, 0)


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
