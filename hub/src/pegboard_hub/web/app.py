"""The hub's two doors as ASGI applications: the public one behind the edge, and the internal one."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from sqlalchemy import select
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from pegboard_hub.common.requests import RequestEnvelope, add_refusal_handlers
from pegboard_hub.identity.api import identity_routes
from pegboard_hub.ledger.api import internal_routes
from pegboard_hub.web.api import api_routes
from pegboard_hub.web.operator import operator_routes
from pegboard_hub.web.pages import HERE, page_routes
from pegboard_hub.web.parts import Parts


def public_app(parts: Parts) -> FastAPI:
    """The door the edge proxies to: pages, API, sign-in, probes."""
    app = _app("Pegboard", "public")
    app.include_router(page_routes(parts))
    app.include_router(api_routes(parts))
    app.include_router(identity_routes(parts.sign_in, parts.public_url, lambda name: _title(parts, name)))
    app.include_router(_probes(parts))
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app


def internal_app(parts: Parts) -> FastAPI:
    """The door that only this machine's processes reach: deliveries to the ledger, and the operator's questions."""
    app = _app("Pegboard, internal", "internal")
    app.include_router(internal_routes(parts.ledger, parts.channels))
    app.include_router(operator_routes(parts))
    app.include_router(_probes(parts))
    return app


def _app(title: str, door: str) -> FastAPI:
    app = FastAPI(
        title=title,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(RequestEnvelope, door=door)],
    )
    add_refusal_handlers(app)
    return app


def _title(parts: Parts, name: str) -> str | None:
    server = parts.registry.current.deployed(name)
    if server is None or server.release is None:
        return None
    return server.release.manifest.title or name


def _probes(parts: Parts) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive: the loop turns."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Ready: the database answers. The registry was loaded before the sockets were opened."""
        async with parts.database.read() as connection:
            await connection.execute(select(1))
        return {"status": "ok"}

    return router
