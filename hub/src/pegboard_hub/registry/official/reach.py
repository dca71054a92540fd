"""Who may read the official API without signing in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pegboard.core.grants import PublicRegistry
from pegboard_hub.identity.directory import is_loopback


def may_read(public: PublicRegistry, public_url: str, address: str) -> bool:
    """Whether somebody at `address` may read it.

    Args:
        public: what the operator says.
        public_url: the origin that callers use; unless the operator says more, it must be on loopback.
        address: where the caller connects to the edge from, as the edge saw it; empty for unknown.
    """
    if public.public is not None:
        return public.public
    caller = _address(address)
    if caller is None:
        return False
    if public.networks:
        networks = map(ip_network, public.networks)
        return any(caller.version == network.version and caller in network for network in networks)
    return is_loopback(public_url) and caller.is_loopback


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address; one of IPv4 that came in IPv6's clothes is what it is."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
