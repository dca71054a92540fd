"""What operators see of clients, gathered by software."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pegboard_hub.identity.clients.model import Client, ClientKind, Standing
from pegboard_hub.identity.clients.store import Decided, Use


@dataclass(frozen=True, slots=True)
class Software:
    """A client's software, which may have several ids.

    Attributes:
        name: what the newest of its clients calls itself; untrusted unless the operator registered it.
        redirect_uris: where answers of any of its clients go.
        uri: its home page, as it says.
        surface: what its calls count as.
        decided: what was decided; None where nothing was.
        uses: who has it connected now, the latest first.
        last_seen_at_ms: when it last got a token; None where it never did.
    """

    software: str
    kind: ClientKind
    name: str
    redirect_uris: tuple[str, ...]
    uri: str | None
    surface: str
    standing: Standing
    decided: Decided | None
    uses: tuple[Use, ...]
    last_seen_at_ms: int | None

    @property
    def connections(self) -> int:
        """How many connections people have through it."""
        return sum(use.connections for use in self.uses)

    @property
    def users(self) -> tuple[tuple[str, str, int], ...]:
        """Who has it connected, the latest first: id, name, and how many connections."""
        counts: dict[str, int] = {}
        for use in self.uses:
            counts[use.sub] = counts.get(use.sub, 0) + use.connections
        names = {use.sub: use.name for use in reversed(self.uses)}
        return tuple((sub, names[sub], count) for sub, count in counts.items())


@dataclass(frozen=True, slots=True)
class ClientList:
    """The software that was used or decided on, the newest of the rest, and how many clients nobody ever used."""

    software: tuple[Software, ...]
    unused: int


def with_decision(client: Client, decided: Decided | None) -> Client:
    """A client as it stands by what was decided on its software.

    One that the operator registered, or Pegboard's own, is approved as long as it is not blocked, and its surface is
    not a matter of decisions.
    """
    if decided is None:
        return client
    if client.kind in (ClientKind.DOCUMENT, ClientKind.DYNAMIC):
        return replace(client, standing=decided.standing, surface=decided.surface or client.surface)
    return replace(client, standing=Standing.BLOCKED) if decided.standing is Standing.BLOCKED else client


def gathered(
    clients: Iterable[tuple[Client, int | None]], decisions: Mapping[str, Decided], uses: Iterable[Use]
) -> list[Software]:
    """Clients by their software, in the order in which each comes first.

    Args:
        clients: each with the time it last got a token.
        decisions: by software.
        uses: of any client.
    """
    used: dict[str, list[Use]] = defaultdict(list)
    for use in uses:
        used[use.client_id].append(use)
    groups: dict[str, list[tuple[Client, int | None]]] = defaultdict(list)
    for client, seen in clients:
        groups[client.software].append((client, seen))
    return [_software(group, decisions.get(software), used) for software, group in groups.items()]


def _software(
    group: list[tuple[Client, int | None]], decided: Decided | None, used: Mapping[str, list[Use]]
) -> Software:
    first = with_decision(group[0][0], decided)
    uses = sorted((use for client, _ in group for use in used.get(client.client_id, ())), key=lambda u: -u.seen_at_ms)
    seen = [at for _, at in group if at is not None]
    return Software(
        software=first.software,
        kind=first.kind,
        name=first.name,
        redirect_uris=tuple(dict.fromkeys(uri for client, _ in group for uri in client.redirect_uris)),
        uri=first.uri,
        surface=first.surface,
        standing=first.standing,
        decided=decided,
        uses=tuple(uses),
        last_seen_at_ms=max(seen, default=None),
    )
