"""Official names: the operator's reverse-DNS prefix, a slash, and the server's name (`server.json`, `name`)."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from pegboard.core.grants import PublicRegistry
from pegboard.core.names import ServerName

NAMESPACE = "prod"
"""The one namespace that is listed. So two servers never have the same official name, and dev is never told of."""

PRODUCT = "pegboard"


def official_prefix(public: PublicRegistry, public_url: str) -> str:
    """What official names begin with: as the operator says, or made of the host that callers use.

    `mcp.acme.com` gives `com.acme.mcp`; a host of one label, or an address, is no domain: `localhost.pegboard`.
    """
    if public.prefix is not None:
        return public.prefix
    host = (urlsplit(public_url).hostname or "").strip(".").lower()
    if not host or _is_address(host):
        return f"localhost.{PRODUCT}"
    labels = host.split(".")
    return ".".join(reversed(labels)) if len(labels) > 1 else f"{host}.{PRODUCT}"


def official_name(name: ServerName, prefix: str) -> str:
    """The official name of a listed server."""
    return f"{prefix}/{name.name}"


def listed_name(official: str, prefix: str) -> str:
    """The registry's name for an official one, whether or not there is such a server; empty for other prefixes."""
    found, slash, name = official.partition("/")
    return f"{NAMESPACE}/{name}" if slash and found == prefix and "/" not in name else ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
