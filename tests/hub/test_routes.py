"""The routes of most tests are worked out late (`tests.hub.routes`): here they are what a hub that runs has."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from pegboard_hub.web.app import internal_app, public_app
from pegboard_hub.web.parts import Parts
from tests.folders import new_folder
from tests.hub.company import Hub, found_company, opened
from tests.hub.routes import LateRoute, late_routes

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("door", [public_app, internal_app])
async def test_routes_that_are_worked_out_late_are_those_of_a_hub_that_runs(
    hub: Hub, door: Callable[[Parts], FastAPI]
) -> None:
    at_once = [route for route in door(hub.parts).routes if isinstance(route, APIRoute)]
    with late_routes():
        late = [route for route in door(hub.parts).routes if isinstance(route, LateRoute)]
    assert not any(isinstance(route, LateRoute) for route in at_once)
    assert [told(route) for route in late] == [told(route) for route in at_once]


async def test_a_hub_that_was_closed_is_let_go_of() -> None:
    root = new_folder()
    async with opened(found_company(root)) as closed:
        assert (await closed.api("ana", "servers")).status_code == 200
        left = weakref.ref(closed.parts.registry)
    shutil.rmtree(root)
    del closed
    gc.collect()
    assert left() is None


def told(route: APIRoute) -> tuple[object, ...]:
    """What a route answers, and with what."""
    fields = [*route.dependant.path_params, *route.dependant.query_params, *route.dependant.header_params]
    names = [field.name for field in fields]
    return (route.path, route.methods, route.name, route.unique_id, route.response_model, route.status_code, names)
