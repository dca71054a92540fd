"""What a server may reach outside its sandbox, as `launch.py` and `relay.py` are told of it.

Inside, each granted name is in /etc/hosts with an address of loopback that is its alone, and each granted `host:port`
listens there; what is granted as an address is an address of loopback itself. So whatever the server speaks (HTTPS, a
database's own protocol) it connects to names and ports as they are, with no proxy to know of.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pegboard.core.errors import ConfigurationError
from pegboard_hub.runtime.relay import Network, Place
from pegboard_hub.runtime.users import User

SETTING: Final = "PEGBOARD_EGRESS_NETWORKS"

RELAY_SCRIPT: Final = Path(__file__).with_name("relay.py")

MOST_PLACES: Final = 100
"""Of one server."""

_NAMES: Final = ipaddress.ip_network("127.77.0.0/16")
"""Where granted names are, inside a sandbox."""

_PLACE: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]{0,252})):(?P<port>\d{1,5})"
)


@dataclass(frozen=True, slots=True)
class Reach:
    """What one server may reach.

    Attributes:
        places: `host:port` each, in order.
        networks: of addresses inside that names may lead to.
        whose: fields of each line that is logged of it.
        user: whom the relay runs as; None: as we are.
    """

    places: tuple[Place, ...]
    networks: tuple[str, ...] = ()
    whose: tuple[tuple[str, str], ...] = ()
    user: User | None = None

    def _ways(self) -> dict[tuple[str, int], Place]:
        """What each address and port inside leads to; `localhost` and its address are one and the same."""
        names = dict.fromkeys(place.host for place in self.places if place.literal is None)
        numbered = {name: str(_NAMES[number]) for number, name in enumerate(names, 1)}
        # It is the one name that programs take for themselves, whatever /etc/hosts says.
        numbered |= {"localhost": "127.0.0.1"} if "localhost" in names else {}
        return {(numbered.get(place.host, place.host), place.port): place for place in self.places}

    def inside(self) -> list[dict[str, Any]]:
        """What `launch.py` makes in the sandbox: a listener for each place, in order."""
        return [
            {"host": place.host, "address": address, "port": port} for (address, port), place in self._ways().items()
        ]

    def outside(self) -> dict[str, Any]:
        """The settings of `relay.py`."""
        return {
            "places": [list(place) for place in self._ways().values()],
            "networks": list(self.networks),
            "whose": dict(self.whose),
            "uid": self.user.uid if self.user else None,
            "gid": self.user.gid if self.user else None,
        }


def places_of(egress: Iterable[str]) -> tuple[Place, ...]:
    """Places as manifests write them, each once.

    Raises:
        ConfigurationError: one is no `host:port`, or there are too many.
    """
    written = list(dict.fromkeys(egress))
    found = dict.fromkeys(_place(each) for each in written)
    if len(found) > MOST_PLACES:
        raise ConfigurationError("egress", [f"names {len(found)} places; {MOST_PLACES} are the most on this machine"])
    return tuple(found)


def _place(written: str) -> Place:
    found = _PLACE.fullmatch(written)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise ConfigurationError("egress", [f"{written[:100]!a} is no host:port, as api.example.com:443"])
    host = (found["six"] or found["host"]).lower().rstrip(".")
    if found["six"] is None and ":" not in host:
        return Place(host, int(found["port"]))
    try:
        return Place(str(ipaddress.IPv6Address(host)), int(found["port"]))
    except ValueError as error:
        raise ConfigurationError("egress", [f"{written[:100]!a} is no address: {error}"]) from error


def inside_networks() -> tuple[str, ...]:
    """Networks inside that granted names may lead to, as the operator names them.

    Raises:
        ConfigurationError: one is no network.
    """
    return tuple(str(each) for each in _networks(os.environ.get(SETTING, "")))


def _networks(text: str) -> Iterator[Network]:
    for each in re.split(r"[,\s]+", text.strip()):
        if each:
            try:
                yield ipaddress.ip_network(each)
            except ValueError as error:
                raise ConfigurationError(SETTING, [f"{each!a} is no network, as 10.0.0.0/8: {error}"]) from error
