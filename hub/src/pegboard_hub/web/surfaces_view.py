"""Registered surfaces as the API and the internal door tell them, and what is read of a request to change them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.surfaces.errors import SurfaceRefused
from pegboard_hub.identity.surfaces.model import ActingSurface, Event, Exchange
from pegboard_hub.identity.surfaces.service import surface_of_text

STATUSES = {"unknown": 404, "taken": 409, "invalid": 422, "changed": 409}
"""What each reason of a `SurfaceRefused` is over HTTP."""

_CODES = {404: "not_found", 409: "conflict", 422: "invalid_request"}


class SurfaceEntry(BaseModel):
    """A surface that acts for people."""

    client_id: str = Field(description="what `act` of its tokens names")
    name: str
    surface: Literal["chat", "bot"]
    groups: list[str] = Field(description="for whose people it may act")
    servers: list[str] = Field(description="namespace/name, or namespace/* for all of one")
    channels: list[str] = Field(description="of a bot, those it was invited to")
    redirect_uris: list[str] = Field(description="where people's sign-in to it answers")
    keys: list[str] = Field(description="ids of its public keys")
    version: int

    @classmethod
    def of(cls, surface: ActingSurface) -> SurfaceEntry:
        """A surface, told. Its keys are named and not repeated."""
        facts = surface.facts()
        keys = [str(key["kid"]) for key in facts.pop("jwks")["keys"]]
        return cls(client_id=surface.client_id, version=surface.version, keys=keys, **facts)


class SurfacesAnswer(BaseModel):
    """The surfaces that are registered."""

    surfaces: list[SurfaceEntry]


class SurfaceEvent(BaseModel):
    """One entry of the history of surfaces. `at` is in milliseconds since the epoch."""

    seq: int
    at: int
    action: Literal["register", "change", "remove"]
    by: str
    why: str
    surface: SurfaceEntry = Field(description="as it is since; of one that was removed, as it was")

    @classmethod
    def of(cls, event: Event) -> SurfaceEvent:
        """An entry, told."""
        surface = SurfaceEntry.of(event.surface)
        return cls(
            seq=event.seq, at=event.at_ms, action=event.action, by=event.by.sub, why=event.why, surface=surface
        )


class SurfaceHistory(BaseModel):
    """What was done with surfaces, newest first."""

    events: list[SurfaceEvent]


class ExchangeEntry(BaseModel):
    """One exchange: who acted for whom. Times are milliseconds since the epoch."""

    id: str = Field(description="`jti` of the token; of a refusal an id of its own")
    at: int
    act: str = Field(description="the surface")
    person: str = Field(description="empty where nobody verified says who")
    channel: str | None
    resource: str
    scope: str
    expires_at: int | None = Field(description="when the token ends; null of a refusal")
    error: str = Field(description="of a refusal, OAuth's word; empty of a token")
    detail: str

    @classmethod
    def of(cls, exchange: Exchange) -> ExchangeEntry:
        """An exchange, told."""
        return cls(
            id=exchange.id,
            at=exchange.at_ms,
            act=exchange.client_id,
            person=exchange.sub,
            channel=exchange.channel,
            resource=exchange.resource,
            scope=exchange.scope,
            expires_at=exchange.expires_at_ms,
            error=exchange.error,
            detail=exchange.detail,
        )


class ExchangesAnswer(BaseModel):
    """Exchanges of one surface, newest first."""

    exchanges: list[ExchangeEntry]


class SurfaceBody(BaseModel):
    """A surface as it shall be."""

    model_config = ConfigDict(extra="forbid")

    client_id: str
    name: str
    surface: str
    jwks: dict[str, Any]
    groups: list[str]
    servers: list[str]
    channels: list[str] = []
    redirect_uris: list[str] = []
    why: str
    version: int | None = Field(default=None, description="that was looked at; null changes whatever there is")

    def read(self) -> ActingSurface:
        """What it describes.

        Raises:
            SurfaceRefused: a value has the wrong form.
        """
        return surface_of_text(self.client_id, self.model_dump(exclude={"client_id", "why", "version"}))


class RemoveBody(BaseModel):
    """What to remove."""

    model_config = ConfigDict(extra="forbid")

    client_id: str
    why: str


def surface_refusal(error: SurfaceRefused) -> Refused:
    """A `SurfaceRefused` over HTTP."""
    status = STATUSES[error.reason]
    return refuse(status, _CODES[status], f"{error.field}: {error.message}", error.mend, error.reason)
