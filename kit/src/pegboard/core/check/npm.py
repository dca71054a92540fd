"""The packages of npm that a server of somebody else's runs with, as its `package-lock.json` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

NPM: Final = "npm:"
"""Before a package's name, so that it is none of PyPI's."""

LARGEST: Final = 8 * 1024 * 1024
"""Bytes of a lock file that is read."""


class NpmPackage(NamedTuple):
    """One package, with the licence that the lock file gives; its development packages are not installed."""

    name: str
    version: str
    licence: str = ""


def npm_packages(lock: bytes | None) -> list[NpmPackage]:
    """The packages of a `package-lock.json` (lockfileVersion 2 and 3), by name; none where it cannot be read."""
    if lock is None or len(lock) > LARGEST:
        return []
    try:
        found = json.loads(lock)["packages"].items()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    return sorted(set(_listed(found)))


def _listed(packages: Any) -> Iterator[NpmPackage]:
    for place, each in packages:
        if place and isinstance(each, Mapping) and not each.get("dev") and not each.get("link"):
            name = str(each.get("name") or place.rpartition("node_modules/")[2])
            licence = each.get("license", "")
            text = licence if isinstance(licence, str) else ""
            yield NpmPackage(f"{NPM}{name}"[:220], str(each.get("version", ""))[:100], text[:200])


def is_npm_file(address: str, registry: str, name: str, version: str) -> bool:
    """Whether a registry keeps that version of a package at an address.

    A lock file says both, and npm fetches the address: another package's file under a known name would be one that
    nobody looked up. Registries other than npm's own have addresses of other forms, with name and version in them.
    """
    base = registry.rstrip("/")
    if address == f"{base}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz":
        return True
    parts = unquote(urlsplit(address).path).split("/")
    wanted = name.split("/")
    places = [at for at in range(len(parts)) if parts[at : at + len(wanted)] == wanted]
    own = [at for at in places if len(wanted) > 1 or not parts[at - 1].startswith("@")]
    return urlsplit(base).hostname != "registry.npmjs.org" and bool(own) and version in "/".join(parts)
