"""The hub's process: `python -m pegboard_hub.main --home DIR`. Opens the parts and the two doors to them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from pegboard.core.errors import PegboardError
from pegboard_hub.command_line import read_settings
from pegboard_hub.common.home import Home
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.opening import open_hub
from pegboard_hub.publishing.overview import Measures
from pegboard_hub.storage.schema import schema_of
from pegboard_hub.web.app import internal_app, public_app
from pegboard_hub.web.doors import Door, FarDoor, LeadersDoor, listen
from pegboard_hub.web.parts import Parts

log = logging.getLogger(__name__)

TIDY_EVERY_S = 60


async def serve(home: Home, settings: HubSettings) -> None:
    """Serve both doors until SIGTERM or SIGINT, finishing the requests that are under way.

    Raises:
        PegboardError: as `open_hub`.
        OSError: a socket cannot be opened.
    """
    if not settings.database_url:
        schema_of(home.database).check()
    async with open_hub(home, settings) as parts:
        parts.catalogue.follow()
        _spare_what_stays()
        app = public_app(parts)
        public, far = Door(app), Door(FarDoor(app))
        internal = LeadersDoor(lambda: Door(internal_app(parts)), home.internal_socket, lambda: parts.locks.leads)
        with listen(home.hub_door(settings.name)) as listener, listen(home.far_hub_door(settings.name)) as outer:
            _on_signals(_ending([public, far]))
            internal.look()
            keepers = _keep(parts, settings, internal, _ending([public, far]))
            facts = {"public_url": settings.public_url, "home": str(home.root), "database": parts.database.shown}
            log.info("hub ready", extra=facts)
            await asyncio.gather(public.serve(sockets=[listener]), far.serve(sockets=[outer]))
            parts.approvals.release()
            parts.publishing.release()
            parts.registry.written.release()
            await internal.close()
            await end(*keepers)
    log.info("hub ended")


def _spare_what_stays() -> None:
    """Leave out of later garbage collections what was loaded.

    It is some million objects for thousands of servers, and looking through them would hold everybody up for a second
    now and then. What is replaced is freed all the same: by its count of references.
    """
    gc.collect()
    gc.freeze()


def _ending(doors: list[Door]) -> Callable[[], None]:
    """What ends the hub."""

    def end_them() -> None:
        for door in doors:
            door.should_exit = True

    return end_them


def _on_signals(ending: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending)


def _keep(
    parts: Parts, settings: HubSettings, internal: LeadersDoor, ending: Callable[[], None]
) -> list[asyncio.Task[None]]:
    """Begin all that a hub does beside answering. A hub without some of it is none: it ends, and is started again."""
    work = {
        "internal door": internal.run(),
        "registry": parts.registry.watch(settings.poll_s, settings.resign_s),
        "revocations": parts.registry.watch_revoked(),
        "tidying": _tidy(parts),
        "rotation of keys": parts.rotation.run(),
        "status": parts.status.keep(),
        "health": parts.health.follow(),
        "stops": parts.stopping.keep(),
        "edges": parts.edges.keep(),
        "approvals": parts.approvals.keep(),
        "notifications": parts.notifying.run(),
        "deployments": parts.deployments.keep(),
        "closing": parts.closing.keep(),
        "submissions": parts.publishing.run(),
        "measures": Measures(parts.database, parts.meter, lambda: parts.locks.leads).keep(),
    }
    return [begin(each, name, ending) for name, each in (work | _between_hubs(parts)).items()]


def _between_hubs(parts: Parts) -> dict[str, Coroutine[Any, Any, None]]:
    """What a hub does because there may be others."""
    if parts.database.embedded:
        return {}
    return {
        "leading": parts.locks.run(),
        "others' revocations": parts.identity.revocations.follow(),
        "others' stops": parts.stops.follow(),
        "others' rules": parts.rules.follow(),
        "others' surfaces": parts.identity.surfaces.follow(),
        "others' approvals": parts.approvals.follow(),
    }


async def _tidy(parts: Parts) -> None:
    identity = parts.identity
    kept = (
        parts.ledger,
        parts.health,
        parts.approvals,
        parts.notifying,
        parts.publishing,
        identity.clients,
        identity.connections,
        identity.devices,
        identity.sessions,
        identity.surfaces,
        identity.revocations,
    )
    while True:
        for each in kept if parts.locks.leads else ():
            try:
                await each.tidy()
            except Exception:
                log.exception("what has expired could not be tidied away", extra={"of": type(each).__name__})
        await asyncio.sleep(TIDY_EVERY_S)


def main() -> int:
    """Run the hub; the exit status is 1 when it cannot start."""
    configure_logging()
    os.umask(0o022)
    try:
        home, settings = read_settings(sys.argv[1:])
        configure_logging(settings.log_level)
        uvloop.run(serve(home, settings))
    except (PegboardError, OSError) as error:
        log.error("the hub cannot start: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
