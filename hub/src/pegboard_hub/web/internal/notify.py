"""Notifications at the internal door: how each destination stands, and a message that tries one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from pegboard_hub.common.requests import refuse
from pegboard_hub.notify.service import Standing, UnknownDestination
from pegboard_hub.notify.settings import Event
from pegboard_hub.web.internal.operator import check_operator, read_model
from pegboard_hub.web.parts import Parts


class DestinationWord(BaseModel):
    """One destination. Of its URL the path is not told: it may hold a secret."""

    name: str
    origin: str = Field(description="scheme, host and port of its URL")
    groups: tuple[str, ...] | None = Field(description="whose decisions it is told of; null: all")
    events: tuple[Event, ...]
    waiting: int = Field(description="messages that it has not taken yet")
    oldest_at: int | None = Field(description="when the oldest of them happened, in milliseconds since the epoch")
    given_up: int = Field(description="messages of the last week that it never took")
    trouble: str = Field(description="what is wrong, in a line; empty where nothing is")

    @classmethod
    def of(cls, standing: Standing) -> DestinationWord:
        """One destination as it is told."""
        receiver, queue = standing.receiver, standing.queue
        return cls(
            name=receiver.name,
            origin=receiver.origin,
            groups=receiver.asked.groups,
            events=receiver.asked.events,
            waiting=queue.waiting,
            oldest_at=queue.oldest_ms,
            given_up=queue.given_up,
            trouble=standing.trouble,
        )


class NotificationsWord(BaseModel):
    """All destinations."""

    destinations: tuple[DestinationWord, ...]
    fault: str = Field(description="why nobody is told: the file is wrong; empty where it is good")


class TestBody(BaseModel):
    """Which destination is tried."""

    destination: str = Field(max_length=64)


class TestWord(BaseModel):
    """How it went."""

    delivered: bool
    origin: str
    trouble: str


def notify_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/notifications`."""
    router = APIRouter(prefix="/internal/v1/notifications", include_in_schema=False)

    @router.get("")
    async def look(request: Request) -> NotificationsWord:
        check_operator(parts, request)
        found = await parts.notifying.standing()
        words = tuple(DestinationWord.of(each) for each in found)
        return NotificationsWord(destinations=words, fault=parts.notifying.fault)

    @router.post("/test")
    async def test(request: Request) -> TestWord:
        check_operator(parts, request)
        body = await read_model(request, TestBody)
        try:
            receiver, attempt = await parts.notifying.test(body.destination)
        except UnknownDestination as error:
            raise refuse(404, "not_found", f"{error}.", "Name one of them.") from error
        return TestWord(delivered=not attempt.trouble, origin=receiver.origin, trouble=attempt.trouble)

    return router
