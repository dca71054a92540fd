"""Between the hub's word that a release is live and the edge's: whoever reads "live" calls it the next moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pegboard.cli.exit import Failure
from pegboard.core.names import ServerName
from pegboard.core.publishing import State

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient

LIMIT_S: Final = 5.0
"""Seconds for which an edge is waited for: it takes a change over within two, unless it is away."""

EVERY_S: Final = 0.1


def arrive(
    hub: HubClient, server: str, found: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until the edge knows a server whose first release has just become live; of others it knows already.

    It is no failure that it does not: what is live stays so.

    Args:
        hub: the connection of the command.
        server: `namespace/name`.
        found: its submission, as the hub has it.
        sleep: waits so many seconds.
    """
    if found.get("state") != State.LIVE:
        return
    name, deadline = ServerName.parse(server), time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and not _known(hub, name):
        sleep(EVERY_S)


def _known(hub: HubClient, name: ServerName) -> bool:
    try:
        return hub.knows(name)
    except Failure:
        return True  # nobody can say; nothing is waited for
