"""Which servers are listed, and as what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pegboard_hub.registry.model import Lifecycle, RegisteredServer, Snapshot
from pegboard_hub.registry.official.names import NAMESPACE, listed_name, official_name
from pegboard_hub.registry.official.text import first_that_fits


class Status(StrEnum):
    """What the official API calls a server's standing."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Listed:
    """A server that is listed, or was.

    Attributes:
        found_by: what a search looks in, in lower case.
    """

    server: RegisteredServer
    official: str
    status: Status
    found_by: str

    @property
    def key(self) -> str:
        """The registry's name."""
        return str(self.server.name)

    def unchanged_since(self, at_ms: int) -> bool:
        """Whether the server surely did not change at that time or later; one that was never stamped may have."""
        return 0 < self.server.updated_at_ms < at_ms


@dataclass(frozen=True)
class Catalogue:
    """All of them, in order of name."""

    listed: tuple[Listed, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, prefix: str) -> Catalogue:
        """What of the registry is listed: what the rules of `status_of` leave."""
        return cls(tuple(sorted(_listed(snapshot.servers.values(), prefix), key=lambda listed: listed.key)))

    def find(self, official: str, prefix: str) -> Listed | None:
        """The server of an official name; case counts."""
        return self._by_key.get(listed_name(official, prefix))

    @cached_property
    def _by_key(self) -> dict[str, Listed]:
        return {listed.key: listed for listed in self.listed}


def status_of(server: RegisteredServer) -> Status | None:
    """What a server is listed as; None for one that is not.

    Only production servers that could once be called are, and not those whose authors hold them back
    (`gallery = false`). One that is withdrawn, or waits for reviews, is told of as deleted, to who asks for such.
    One that is stopped stays: a stop is short, and who is told that a server is deleted forgets it.
    """
    if server.name.namespace != NAMESPACE or not server.gallery or server.first_live_at_ms is None:
        return None
    if not server.reachable:
        return Status.DELETED
    return Status.DEPRECATED if server.lifecycle is Lifecycle.DEPRECATED else Status.ACTIVE


def _listed(servers: Iterable[RegisteredServer], prefix: str) -> Iterator[Listed]:
    for server in servers:
        status = status_of(server)
        if status is not None:
            official = official_name(server.name, prefix)
            yield Listed(server, official, status, f"{official}\n{first_that_fits(server.title)}".lower())
