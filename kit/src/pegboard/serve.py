"""`python -m pegboard.serve`: one server process, configured by its environment alone. The runtime starts it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import uvicorn

from pegboard.core import metrics
from pegboard.core.environment import DECLARES_OTHERWISE, DOES_NOT_FIT, SMOKE_YES, ServerEnvironment
from pegboard.core.errors import ConfigurationError, DeclarationError, PegboardError
from pegboard.core.manifest import read_manifest
from pegboard.core.names import ServerName
from pegboard.core.pinned import differs
from pegboard.core.release import Declaration
from pegboard.project import Project, load_project
from pegboard.remote.acknowledging import Acknowledging
from pegboard.remote.approvals import HubApprovals
from pegboard.remote.bundle import BundleFile
from pegboard.remote.delivery import Delivery
from pegboard.remote.logs import configure_logging
from pegboard.remote.metrics import ServerMeter
from pegboard.remote.process import OthersOver, OwnProcess
from pegboard.remote.spool import Spool, SpoolReader
from pegboard.remote.undeclared import Undeclared
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
    digest_key = bytes.fromhex(credentials["digest_key"])
    project = load_project(environment.project)
    _hold(environment, project)
    spool = Spool(environment.spool, digest_key)
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
    approvals = HubApprovals(environment.hub_socket, credentials["channel_token"])
    process = OwnProcess(environment.spool)
    others = OthersOver(
        environment.spool, process, delivery.whole, environment.hub_socket, credentials["channel_token"]
    )

    meter.watch(metrics.SPOOL_BYTES, reader.undelivered_bytes)
    meter.watch(metrics.BUNDLE_VERSION, lambda: bundle.facts().version)
    meter.watch(metrics.BUNDLE_ISSUED, lambda: bundle.facts().issued_at)
    meter.watch(metrics.BUNDLE_MAX_AGE, lambda: bundle.facts().max_age_s)
    return build_application(
        project,
        server,
        environment.public_url,
        bundle,
        spool,
        environment.release,
        meter,
        approvals,
        process.id,
        _state_key(digest_key),
        partial(_talking_to_the_hub, spool, delivery, acknowledging, approvals, others, process),
        smoke=environment.smoke == SMOKE_YES,
    )


@asynccontextmanager
async def _talking_to_the_hub(
    spool: Spool,
    delivery: Delivery,
    acknowledging: Acknowledging,
    approvals: HubApprovals,
    others: OthersOver,
    process: OwnProcess,
) -> AsyncIterator[None]:
    """Deliver records, and say which bundle is in use and which processes are over, while the block runs."""
    tasks = [asyncio.create_task(each.run()) for each in (spool, delivery, acknowledging, others)]
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
        for client in (delivery, acknowledging, approvals, others):
            await client.close()
        spool.close()
        process.close()


def _hold(environment: ServerEnvironment, project: Project) -> None:
    """Hold the code to what was pinned when its release was made.

    Raises:
        DeclaresOtherwise: it declares something else.
        OSError: what was pinned cannot be read.
    """
    if not environment.pinned:
        return
    try:
        pinned = Declaration.model_validate_json(Path(environment.pinned).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(environment.pinned, ["is no declaration"]) from error
    if found := differs(pinned, project.declaration):
        raise DeclaresOtherwise(*found)


class DeclaresOtherwise(DeclarationError):
    """A process's code declares something else than its release did when it was made."""


def _state_key(digest_key: bytes) -> bytes:
    """The key that seals what clients bring back: of the server's own key, which outlives its processes.

    HKDF-Expand to one block (RFC 5869 §2.3); the key is random as it is (§3.3).
    """
    return hmac.digest(digest_key, b"pegboard/request-state/v1\x01", "sha256")


def main() -> int:
    """Run until told to stop. Exit status 2 means that the project or the environment is wrong, 3 that the code
    declares something else than was pinned."""
    configure_logging(None)
    try:
        environment = ServerEnvironment.read(os.environ)
        configure_logging(ServerName.parse(environment.server), environment.release, environment.replica)
        Undeclared(read_manifest(environment.project).egress).watch()
        application = assemble(environment)
    except DeclaresOtherwise as error:
        logger.error("this server does not start, since its code is not what its release declared: %s", error)
        return DECLARES_OTHERWISE
    except PegboardError as error:
        logger.error("this server does not start: %s", error)
        return DOES_NOT_FIT
    config = uvicorn.Config(
        application,
        uds=str(environment.socket),
        lifespan="on",
        ws="none",  # whatever an author's packages bring along, only HTTP is spoken
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=4,
    )
    if environment.listen_fd:
        # Bound by whoever started this: those who called while nobody listened are waiting in its queue.
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(environment.listen_fd))])
    else:
        environment.socket.unlink(missing_ok=True)
        uvicorn.Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
