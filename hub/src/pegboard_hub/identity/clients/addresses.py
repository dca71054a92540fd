"""Which addresses the hub may connect to when a stranger's text says where.

A table of our own: what Python's `is_global` calls global differs between its versions, and has 6to4, NAT64 and
site-local addresses in it, through which one reaches private ones.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; metadata of Alibaba Cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, for machines inside it
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
"""IANA's special-purpose addresses (RFC 6890), multicast, and services inside clouds."""

_ASSIGNED_V6 = ipaddress.IPv6Network("2000::/3")
"""Where IANA assigns global addresses; everything else of IPv6 is refused."""

_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which has an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: how a network without IPv4 reaches it; what counts is the address inside."""


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's, and nothing of this machine, this network or this cloud."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inside = _inside(address)
        if inside is None:
            return address in _ASSIGNED_V6 and not any(address in network for network in _REFUSED_V6)
        address = inside
    return not any(address in network for network in _REFUSED_V4)


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one go to in the end."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
