"""What a server is granted to reach, as a NetworkPolicy says it: networks and ports, never names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pegboard_hub.runtime.kubernetes.objects import Json

_PLACE: Final = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})?)):(?P<port>[0-9]{1,5})"
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEVER: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/32"),
        *("::1/128", "fe80::/10", "fd00:ec2::/32", "::/128", "::ffff:0:0/96", "64:ff9b::/96"),
    )
)
"""Nobody's to grant: a node's own services, where clouds keep the credentials of machines, and the ways of writing
addresses of version 4 that would name them once more."""


class EgressRefused(ValueError):
    """A place that cannot be granted here. The text says which and what to do."""


def egress_rules(granted: Iterable[str], networks: Mapping[str, tuple[str, ...]]) -> list[Json]:
    """Rules of `NetworkPolicyEgressRule` for what is granted, in order.

    Args:
        granted: `host:port` each.
        networks: what is behind a name, as the operator says.

    Raises:
        EgressRefused: a place is none, is nobody's to grant, or it is not known where it is.
    """
    return [_rule(place, networks) for place in sorted(set(granted))]


def _rule(place: str, networks: Mapping[str, tuple[str, ...]]) -> Json:
    found = _PLACE.fullmatch(place)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise EgressRefused(f"egress {place[:80]!r} is no host:port; mend it in pegboard.toml")
    peers = [_peer(place, block) for block in _blocks(place, found["six"] or found["host"], networks)]
    return {"to": peers, "ports": [{"protocol": "TCP", "port": int(found["port"])}]}


def _peer(place: str, block: Network) -> Json:
    never = [each for each in NEVER if each.version == block.version and each.overlaps(block)]
    if any(each.prefixlen <= block.prefixlen for each in never):
        raise EgressRefused(
            f"egress {place} leads to {block}, which is nobody's to grant: the node's own, or its cloud's"
        )
    return {"ipBlock": {"cidr": str(block), **({"except": [str(each) for each in never]} if never else {})}}


def _blocks(place: str, host: str, networks: Mapping[str, tuple[str, ...]]) -> list[Network]:
    try:
        return [ipaddress.ip_network(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if place not in networks:
        raise EgressRefused(
            f"egress {place}: a NetworkPolicy knows no names, and nobody has said which networks are behind it; "
            f'the operator adds to [egress]: "{place}" = ["10.1.2.0/24"]'
        )
    return [ipaddress.ip_network(each) for each in networks[place]]
