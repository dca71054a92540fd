"""Tells a server's author, in its log, when its code looks for a place that `egress` in pegboard.toml does not name.

Nothing is refused here, and nothing can be: the runtime closes the network. What an author would see of that is a
name that is not known, somewhere deep in a client's trace.
"""

from __future__ import annotations

import ipaddress
import logging
import sys
from collections.abc import Iterable
from typing import Final

logger = logging.getLogger("pegboard.egress")

MOST_SAID: Final = 100
"""Places that one process tells of."""


class Undeclared:
    """What is said of places that are looked for, each once.

    Args:
        egress: `host:port` each, as the manifest names them.
    """

    def __init__(self, egress: Iterable[str]) -> None:
        self._declared = {place.lower() for place in egress}
        self._said: set[str] = set()

    def watch(self) -> None:
        """Look at every name that this process looks up from now on (`sys.addaudithook`), to its end."""
        sys.addaudithook(self._happens)

    def note(self, host: object, port: object) -> None:
        """Say it if a place that is looked for is not declared."""
        name = host.decode(errors="replace") if isinstance(host, bytes) else host
        if not isinstance(name, str) or not name or _is_own(name):
            return
        written = name.lower().rstrip(".")[:253]
        place = f"[{written}]:{port}" if ":" in written else f"{written}:{port}"
        known = place in self._declared or (
            not port and any(each.startswith(f"{written}:") for each in self._declared)
        )
        if known or place in self._said or len(self._said) >= MOST_SAID:
            return
        self._said.add(place)
        named = place if port else f"{written}:PORT"
        logger.warning(
            "%s is looked for, and egress in pegboard.toml does not name it, so it cannot be reached where servers "
            'are kept apart. If this server needs it, add "%s" to egress and submit again; else see who asks for it',
            named,
            named,
        )

    def _happens(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "socket.getaddrinfo":  # this sees whatever the interpreter does
            return
        try:
            self.note(*arguments[:2])
        except Exception:  # whatever was asked for is not ours to break
            logger.debug("a place that is looked for could not be told of", exc_info=True)


def _is_own(name: str) -> bool:
    """Whether it is this process's own loopback."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
