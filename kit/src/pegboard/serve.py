"""`python -m pegboard.serve`: one server process, configured by its environment alone. The runtime starts it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn

from pegboard.core import metrics
from pegboard.core.environment import ServerEnvironment
from pegboard.core.errors import PegboardError
from pegboard.core.names import ServerName
from pegboard.project import load_project
from pegboard.remote.acknowledging import Acknowledging
from pegboard.remote.bundle import BundleFile
from pegboard.remote.delivery import Delivery
from pegboard.remote.logs import configure_logging
from pegboard.remote.metrics import ServerMeter
from pegboard.remote.spool import Spool, SpoolReader
from pegboard.transport.application import build_application
from pegboard.transport.http import GovernedApp

logger = logging.getLogger("pegboard.serve")


def assemble(environment: ServerEnvironment) -> GovernedApp:
    """The application that `environment` describes.

    Raises:
        PegboardError: the project does not fit.
        OSError: a file of the launch contract cannot be read.
    """
    server = ServerName.parse(environment.server)
    credentials = json.loads(environment.credentials.read_text(encoding="utf-8"))
    project = load_project(environment.project)
    spool = Spool(environment.spool, bytes.fromhex(credentials["digest_key"]))
    meter = ServerMeter(project.governed)
    reader = SpoolReader(environment.spool)
    delivery = Delivery(reader, environment.hub_socket, credentials["channel_token"], meter.delivered)
    bundle = BundleFile(
        environment.bundle,
        environment.bundle_keys,
        server,
        environment.public_url,
        accepted=environment.spool / "accepted.jws",
    )
    acknowledging = Acknowledging(bundle, environment.hub_socket, credentials["channel_token"])

    @asynccontextmanager
    async def talking_to_the_hub() -> AsyncIterator[None]:
        tasks = [asyncio.create_task(delivery.run()), asyncio.create_task(acknowledging.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            with suppress(Exception):
                # What the hub does not take now, the next start delivers.
                await asyncio.wait_for(delivery.deliver(), timeout=1)
            await delivery.close()
            await acknowledging.close()
            spool.close()

    meter.watch(metrics.SPOOL_BYTES, reader.undelivered_bytes)
    meter.watch(metrics.BUNDLE_VERSION, lambda: bundle.facts().version)
    meter.watch(metrics.BUNDLE_ISSUED, lambda: bundle.facts().issued_at)
    meter.watch(metrics.BUNDLE_MAX_AGE, lambda: bundle.facts().max_age_s)
    return build_application(
        project, server, environment.public_url, bundle, spool, environment.release, meter, talking_to_the_hub
    )


def main() -> int:
    """Run until told to stop. Exit status 2 means that the project or the environment is wrong."""
    configure_logging(None)
    try:
        environment = ServerEnvironment.read(os.environ)
        configure_logging(ServerName.parse(environment.server))
        application = assemble(environment)
    except PegboardError as error:
        logger.error("this server does not start: %s", error)
        return 2
    environment.socket.unlink(missing_ok=True)
    config = uvicorn.Config(
        application,
        uds=str(environment.socket),
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=4,
    )
    uvicorn.Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
