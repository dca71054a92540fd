"""The prober's door: at the internal socket, with a credential that is the prober's alone.

A server's own channel does not open it: no author's code says how a server is doing, least of all another's.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from pydantic import ValidationError

from pegboard_hub.common.requests import read_json, refuse
from pegboard_hub.health.report import DOOR, Answer, Report
from pegboard_hub.health.service import HealthBoard

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of one report; 10,000 servers that all changed make some two million."""


def health_door(board: HealthBoard, check: Callable[[Request], None]) -> APIRouter:
    """The route.

    Args:
        board: takes reports.
        check: lets the prober's credential pass, and raises `Refused` for any other.
    """
    router = APIRouter(include_in_schema=False)

    @router.post(DOOR)
    async def health(request: Request) -> Answer:
        check(request)
        try:
            report = Report.model_validate(await read_json(request, BODY_LIMIT))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, fault["loc"]))[:200]
            what = f"Nothing was taken: {field}: {fault['msg']}."
            raise refuse(422, "invalid_request", what, "Mend the report and send it again.") from error
        return await board.take(report)

    return router
