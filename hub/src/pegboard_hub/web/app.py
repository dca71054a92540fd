"""The hub's two doors as ASGI applications: the public one behind the edge, and the internal one."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from sqlalchemy import select
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from pegboard_hub.common.requests import RequestEnvelope, Tell, add_refusal_handlers, refuse, tell_as_json
from pegboard_hub.health.api import health_door
from pegboard_hub.identity.api import identity_routes
from pegboard_hub.ledger.api import internal_routes
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.web.api.routes import api_routes
from pegboard_hub.web.internal.approvals import approval_door
from pegboard_hub.web.internal.deploying import deployment_door
from pegboard_hub.web.internal.edges import edge_door, joined_edge_door
from pegboard_hub.web.internal.keys import acknowledgement_routes, key_routes
from pegboard_hub.web.internal.notify import notify_door
from pegboard_hub.web.internal.operator import operator_routes, prober_alone
from pegboard_hub.web.internal.pods import pod_door, runtime_door
from pegboard_hub.web.internal.publishing import publishing_door
from pegboard_hub.web.internal.registry import registry_door
from pegboard_hub.web.internal.required import required_door
from pegboard_hub.web.internal.rules import rule_door
from pegboard_hub.web.internal.sessions import session_door
from pegboard_hub.web.internal.stops import stop_door
from pegboard_hub.web.internal.surfaces import surface_door
from pegboard_hub.web.metrics import metrics_routes
from pegboard_hub.web.official import official_routes
from pegboard_hub.web.packages import package_routes
from pegboard_hub.web.pages.browser import Browsers, SignInNeeded
from pegboard_hub.web.pages.frame import HERE, Framer
from pegboard_hub.web.pages.identity.unanswerable import led_here, unanswerable
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.routes import page_routes
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.service_access import more_grants

NO_STORAGE = "The hub's database takes no writes now, as when its disk is full; nothing of this request was kept."
MEND_STORAGE = "Tell the platform team: `pegboard doctor` shows the disk. Records wait, and come later."


def public_app(parts: Parts) -> FastAPI:
    """The door the edge proxies to: pages, API, sign-in, probes."""
    identity = parts.identity
    framer = Framer(parts, Browsers(identity.sessions, identity.cookie, parts.public_url))
    app = _app("Pegboard", "public", parts.meter, framer.refusal)
    app.router.routes += [
        # Programs ask more often than people, and a request is held against one route after the other.
        *api_routes(parts),
        *page_routes(parts, framer),
        *official_routes(parts).routes,
        *package_routes(parts.shelf).routes,
        *identity_routes(identity, unanswerable(parts, framer), led_here(framer), more_grants(parts)).routes,
        *_probes(parts).routes,
        *metrics_routes(parts.page).routes,
    ]
    app.mount("/static", StaticFiles(directory=HERE / "static"))

    @app.exception_handler(SignInNeeded)
    async def to_sign_in(request: Request, needed: SignInNeeded) -> Response:
        if "hx-request" in request.headers:
            # htmx would put the sign-in page into the page that it is on: that one is to be opened again instead.
            return Response(status_code=401, headers={"HX-Refresh": "true", "Cache-Control": "no-store"})
        return see_other(needed.location)

    return app


def internal_app(parts: Parts) -> FastAPI:
    """The door that only this machine's processes reach: for records, reports of health, and the operator."""
    app = _app("Pegboard, internal", "internal", parts.meter, tell_as_json)
    app.router.routes += [
        *internal_routes(parts.ledger, parts.channels).routes,
        *health_door(parts.health, prober_alone(parts)).routes,
        *operator_routes(parts).routes,
        *acknowledgement_routes(parts).routes,
        *key_routes(parts).routes,
        *session_door(parts).routes,
        *registry_door(parts).routes,
        *stop_door(parts).routes,
        *rule_door(parts).routes,
        *required_door(parts).routes,
        *surface_door(parts).routes,
        *edge_door(parts).routes,
        *joined_edge_door(parts).routes,
        *pod_door(parts).routes,
        *runtime_door(parts).routes,
        *approval_door(parts).routes,
        *notify_door(parts).routes,
        *deployment_door(parts).routes,
        *publishing_door(parts).routes,
        *_probes(parts).routes,
    ]
    return app


def _app(title: str, door: str, meter: HubMeter, tell: Tell) -> FastAPI:
    app = FastAPI(
        title=title,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(RequestEnvelope, door=door, answered=meter.request, tell=tell)],
    )
    add_refusal_handlers(app, tell)

    @app.exception_handler(StorageUnavailable)
    async def no_storage(request: Request, _error: StorageUnavailable) -> Response:
        """The disk is the operator's to mend; `Database` logged what it said."""
        return await tell(request, refuse(503, "storage_unavailable", NO_STORAGE, MEND_STORAGE))

    return app


def _probes(parts: Parts) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive: the loop turns."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Ready: the database answers and takes writes. The registry was loaded before the sockets were opened."""
        await parts.database.check_writes()
        async with parts.database.read() as connection:
            await connection.execute(select(1))
        return {"status": "ok"}

    return router
