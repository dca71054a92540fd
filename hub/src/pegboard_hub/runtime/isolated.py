"""As whom Envoy runs that is started beside an instance and must reach its sockets."""

from __future__ import annotations

import sys
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.table import EDGE
from pegboard_hub.runtime.users import Users, is_root


def as_edge_of(instance: Home) -> Isolation:
    """As the user that the instance's own Envoy runs as: hub and servers let nobody else in."""
    python, folder = Path(sys.executable), instance.edge_admin_socket.parent
    if is_root() and folder.exists() and folder.stat().st_uid != 0:
        users = Users.of(instance.instance, ())
        return Isolation(Mode.USER, "Envoy has its own user", python, users, frozenset({EDGE}))
    return Isolation(Mode.OFF, "Envoy runs as who started it, and no author's code runs here", python)
